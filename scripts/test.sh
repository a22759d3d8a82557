#!/usr/bin/env bash
# Everything that must hold: lint, types, tests. Works in a fresh clone, without a terminal, and in CI.
# With CI=true a test that lacks something fails; without it, it is skipped and says why.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
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
    scripts/debian.sh wrk curl strace && scripts/libpython.sh "$venv/bin/python" && return
    [ "${CI:-}" != true ] || return 1
    echo "   going on: the tests that need them will be skipped"
}

scripts/setup.sh
step "Debian packages for the tests" packages
step "ruff check" "$venv/bin/ruff" check .
step "ruff format" "$venv/bin/ruff" format --check .
step "mypy" "$venv/bin/mypy"
# The fast ones first. PYTEST_ARGS is split into words on purpose.
# shellcheck disable=SC2086
step "pytest" "$venv/bin/pytest" --durations=15 tests/unit tests/integration tests/scripts ${PYTEST_ARGS:-}

if [ ${#failed[@]} -gt 0 ]; then
    printf '== failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
