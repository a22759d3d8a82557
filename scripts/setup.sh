#!/usr/bin/env bash
# Makes .venv with the locked packages and the project itself. Does nothing when the lock, pyproject.toml, what is
# compiled, and the compiler did not change since the last time. A PYTHON of another version makes it anew. PYTHON, PIP_ARGS and VENV
# are described in the Makefile.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
stamp=$venv/.installed
backend=src/modelport/server/triton_backends/onnxruntime
wanted=$( (cat requirements.lock pyproject.toml hatch_build.py $backend/native/* src/modelport/server/native/*; command -v "${CXX:-c++}" || :) | sha256sum)

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

rebuild=  # a PYTHON of another version than the one in use
if [ -n "${PYTHON:-}" ] && [ -e "$venv" ]; then
    python=$(scripts/find_python.sh)
    [ "$(version_of "$venv/bin/python")" = "$(version_of "$python")" ] || rebuild=yes
fi
if [ -z "$rebuild" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then exit 0; fi

make_venv() {
    local python=$1 version
    version=$(version_of "$python")
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        scripts/debian.sh "python$version-venv" || exit 1
    fi
    echo "== making $venv with Python $version ($python)"
    "$python" -m venv --clear "$venv"
}

# pip's output goes to a log; a line for each large download and each stage goes to the screen.
pip_install() {
    local log=build/setup.log
    if ! "$venv/bin/python" -m pip install --no-input --no-compile $PIP_ARGS "$@" 2>>"$log" | tee -a "$log" | awk '
        /^Collecting/ { if (++seen % 25 == 0) print "   " seen " packages looked up" }
        / (Downloading|Using cached) .*[.0-9]+ [MG]B\)/ { sub(/^ */, ""); if ($0 ~ /\(([0-9][0-9]+[.0-9]* MB|.* GB)\)/) print "   " $0 }
        /^Installing collected/ { print "   unpacking " NF - 3 " packages" }
        { fflush() }'; then
        tail -n 25 "$log" >&2
        echo "error: pip could not install the packages
  why: its last words are above; all of them are in $log
  do:  look at the network and the free disk space, then run the same command again" >&2
        exit 1
    fi
}

started=$SECONDS
PIP_ARGS=${PIP_ARGS:-}
export PIP_DISABLE_PIP_VERSION_CHECK=1
mkdir -p build
: >build/setup.log
if [ -n "$rebuild" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    python=$(scripts/find_python.sh)
    make_venv "$python"
fi
rm -f "$stamp"
echo "== installing the locked packages (the first time downloads them; later runs skip this step)"
pip_install -r requirements.lock
pip_install --no-deps --no-build-isolation --editable .
echo "$wanted" >"$stamp"
[ -f "$backend/libtriton_onnxruntime.so" ] || echo "   no C++ compiler was found: ONNX models will be served by Python processes, slower
   to change that: apt-get install g++, then run the same command again"
scripts/libpython.sh "$venv/bin/python" || echo "   going on: only the embedded server needs it" >&2
echo "== setup done in $((SECONDS - started)) s"
