#!/usr/bin/env bash
# Makes sure that the shared libpython of an interpreter exists: the embedded server's Python stub links it.
# `libpython.sh .venv/bin/python`. Debian keeps it in a package of its own, which is installed when possible.
set -euo pipefail

read -r version library folder prefix < <("$1" - <<'PY'
import sys
import sysconfig

version = "%d.%d" % sys.version_info[:2]
print(version, f"libpython{version}.so.1.0", sysconfig.get_config_var("LIBDIR"), sys.base_prefix)
PY
)
if [ -e "$folder/$library" ] || "$1" -c "import ctypes; ctypes.CDLL('$library')" 2>/dev/null; then exit 0; fi
if [ "$prefix" = /usr ] && command -v apt-get >/dev/null; then exec "$(dirname "$0")/debian.sh" "libpython$version"; fi
echo "error: $library was not found in $folder
  why: this Python ($prefix) was built without a shared library, which the embedded server's stub links
  do:  use a Python with one: the distribution's, or one built with --enable-shared; then make clean setup PYTHON=..." >&2
exit 1
