#!/usr/bin/env bash
# Writes requirements.lock anew with uv, which is installed beside .venv for this only.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(scripts/find_python.sh)
if [ ! -x build/uv/bin/uv ]; then
    echo "== installing uv into build/uv"
    "$python" -m venv build/uv
    build/uv/bin/pip install -q --disable-pip-version-check uv
fi
echo "== resolving pyproject.toml"
"$python" scripts/lock.py build/uv/bin/uv
git --no-pager diff --stat -- requirements.lock
