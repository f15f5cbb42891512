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
if [ $# -gt 0 ]; then
    timed "mypy" mypy
    python -m pytest "$@"
    exit
fi
# Freed memory is kept for the next test: giving it back and taking it again costs a tenth of the time.
export MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=268435456
site=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null || true; rm -rf "$site"' EXIT
# Training in a process of its own: it starts worker processes, and one that holds PyTorch and four inference libraries,
# each with threads, has been seen to crash there. It works on one core while others work on the other one.
timed "training" python -m pytest -m "not fast and not slow" tests/training &
training=$!
timed "mypy" mypy
# The documentation: every reference must resolve. Functions are left out of the tables of contents, which takes a
# quarter of the time.
timed "documentation" sphinx-build -q -W -n -D toc_object_entries=0 docs "$site"
# A test that ends its process ends the run: with another process in its place, pytest-xdist 3.8 waits for ever for the tests
# that were given to the first.
parallel=(python -m pytest --max-worker-restart 0)
timed "other tests" "${parallel[@]}" -n 2 --dist loadfile -m "not fast and not slow" --ignore tests/training
wait "$training"  # beside it, the fast tests, whose videos are made by several threads, take three times as long
# Where PyTorch and the inference libraries cannot be imported: what is called fast needs none of them.
# Three processes for two cores, and tests of one file in any of them: some wait, for time-outs and servers, and others work
# meanwhile (45.6 s where two processes with whole files took 52.2).
timed "fast tests" "${parallel[@]}" -n 3 --dist worksteal -m fast
