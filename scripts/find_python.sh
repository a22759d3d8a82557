#!/usr/bin/env bash
# Prints the Python that .venv is made with: $PYTHON when set, else the first of 3.10 to 3.12 on PATH.
set -euo pipefail

fits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; }

if [ -n "${PYTHON:-}" ]; then
    fits "$PYTHON" && { echo "$PYTHON"; exit; }
    echo "error: PYTHON=$PYTHON is no Python 3.10, 3.11 or 3.12
  why: the embedded server and the locked packages support these three
  do:  name another interpreter: make PYTHON=/usr/bin/python3.11 ..." >&2
    exit 1
fi
for name in python3 python3.12 python3.11 python3.10 python; do
    fits "$name" && { command -v "$name"; exit; }
done
echo "error: no Python 3.10, 3.11 or 3.12 was found
  why: tried python3, python3.12, python3.11, python3.10 and python on PATH
  do:  install one (Debian and Ubuntu: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3 ..." >&2
exit 1
