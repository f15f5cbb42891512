#!/usr/bin/env bash
# Sets up .venv, checks style and types, runs the tests. Arguments go to pytest: scripts/test.sh tests/runtime -k crop
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/environment.sh"
cd "$root"

ruff check .
# mypy finds packages by their import names in the installed copy, not by the folders' names here.
typed=$(mktemp -d)
trap 'rm -rf "$typed"' EXIT
for pair in spm_rt:spm_rt export:spm_export engines:spm_engines benchmarks:spm_bench training:spm_train; do
    ln -s "$root/${pair%%:*}" "$typed/${pair##*:}"
done
(cd "$typed" && MYPYPATH="$typed" mypy --config-file "$root/pyproject.toml" --cache-dir "$root/.mypy_cache" \
    -p spm_rt -p spm_export -p spm_engines -p spm_bench -p spm_train)
if [ $# -gt 0 ]; then
    python -m pytest "$@"
else
    # Training in a process of its own: it starts worker processes, and one that holds PyTorch and four inference libraries,
    # each with threads, has been seen to crash there.
    python -m pytest --ignore tests/training
    python -m pytest tests/training
fi
