#!/usr/bin/env bash
# Everything that must hold: lint, types, tests. Works in a fresh clone, without a terminal, and in CI.
# With CI=true a test that lacks something fails; without it, it is skipped and says why.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
unset PYTHONDONTWRITEBYTECODE  # else each of a thousand processes compiles all that it imports
failed=()
# Runs one step and goes on after a failure, so that one run shows everything.
step() {
    local name=$1 from=$SECONDS
    shift
    echo "== $name"
    "$@" </dev/null || failed+=("$name")
    echo "== $name: $((SECONDS - from)) s"
}

packages() {
    scripts/debian.sh wrk curl strace prometheus && scripts/libpython.sh "$venv/bin/python" && return
    [ "${CI:-}" != true ] || return 1
    echo "   going on: the tests that need them will be skipped"
}

scripts/setup.sh
step "Debian packages for the tests" packages
step "ruff check" "$venv/bin/ruff" check .
step "ruff format" "$venv/bin/ruff" format --check .
# mypy has one core; the other compiles what the tests import, once and not in each worker. Collecting does that.
"$venv/bin/pytest" --collect-only -q tests </dev/null >/dev/null 2>&1 &
step "mypy" "$venv/bin/mypy"
wait $! || true  # what is wrong with the tests shows when they run
# Whoever passes PYTEST_ARGS, which is split into words on purpose, gets one run with them. Without them the tests are
# shared out, file by file, among two workers: most of the time a test waits for a server. The long files come first.
# Tests that measure short times follow with nothing beside them.
tests=("$venv/bin/pytest" --durations=15)
all=(tests/scripts tests/integration tests/unit)
if [ -n "${PYTEST_ARGS:-}" ]; then
    # shellcheck disable=SC2086
    step "pytest" "${tests[@]}" "${all[@]}" $PYTEST_ARGS
else
    workers=(-n 2 --dist loadfile --no-loadscope-reorder)
    step "pytest, two at a time" "${tests[@]}" "${workers[@]}" -m "not soak and not alone" "${all[@]}"
    mapfile -t alone < <(grep -rl --include="test_*.py" "mark\.alone" tests)
    step "pytest, one at a time" "${tests[@]}" -m "not soak and alone" "${alone[@]}"
fi

if [ ${#failed[@]} -gt 0 ]; then
    printf '== failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
