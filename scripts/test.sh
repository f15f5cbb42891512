#!/usr/bin/env bash
# Sets up .venv, checks style and types, runs the tests. Arguments go to pytest: scripts/test.sh tests/runtime -k crop
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/environment.sh"
cd "$root"

timed() {  # runs a command and says how long it took
    local start=$SECONDS
    "${@:2}"
    echo "== $1: $((SECONDS - start)) s"
}

timed "ruff check" ruff check .
timed "ruff format" ruff format --check --quiet .
timed "mypy" mypy
if [ $# -gt 0 ]; then
    python -m pytest "$@"
    exit
fi
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
# The documentation: every reference must resolve.
timed "documentation" sphinx-build -q -W -n docs "$site"
# Where PyTorch and the inference libraries cannot be imported: what is called fast needs none of them.
timed "fast tests" python -m pytest -n 2 --dist loadfile -m fast
timed "other tests" python -m pytest -n 2 --dist loadfile -m "not fast and not slow" --ignore tests/training
# Training in a process of its own: it starts worker processes, and one that holds PyTorch and four inference libraries,
# each with threads, has been seen to crash there.
timed "training" python -m pytest -m "not fast and not slow" tests/training
