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
echo "== resolving benchmarks/peers/requirements"
for wanted in benchmarks/peers/requirements/*.in; do
    found=$(build/uv/bin/uv pip compile --quiet --universal --no-python-downloads --python-version 3.10 --no-header \
        --no-annotate --only-binary :all: "$wanted")
    # torch's CUDA packages are left out, as in requirements.lock
    grep -vP '^(nvidia-(?!ml-py)|triton==|cuda-)' <<<"$found" >"${wanted%.in}.txt"
done
git --no-pager diff --stat -- benchmarks/peers/requirements
