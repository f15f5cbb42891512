#!/usr/bin/env bash
# Sets up .venv, checks style and types, runs the tests. Arguments go to pytest: scripts/test.sh tests/runtime -k crop
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/environment.sh"
cd "$root"

ruff check .
ruff format --check --quiet .
mypy
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if [ $# -gt 0 ]; then
    python -m pytest "$@"
else
    # The documentation: every reference must resolve.
    sphinx-build -q -W -n docs "$site"
    # Training in a process of its own: it starts worker processes, and one that holds PyTorch and four inference libraries,
    # each with threads, has been seen to crash there.
    python -m pytest --ignore tests/training
    python -m pytest tests/training
fi
