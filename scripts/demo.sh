#!/usr/bin/env bash
# From nothing to boxes: sets up .venv, exports a checkpoint into a verified bundle, tracks the shipped clip, writes an
# annotated video and a picture, and prints the latency table.
#
#   scripts/demo.sh                              the shipped weights
#   scripts/demo.sh --light                      those of the light model, for CPUs
#   scripts/demo.sh cm_stage.pt fm_stage.pt      other weights, the official ones above all
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/environment.sh"
out=${SPM_DEMO_OUT:-demo_out}
mkdir -p "$out"
bundle=$out/spm_alexnet model=alexnet
if [ "${1-}" = --light ]; then
    bundle=$out/spm_light model=light
    shift
fi

echo "== 1/3  export"
[ $# = 0 ] && weights=(--model "$model") || weights=("$@")
spm-export "${weights[@]}" --out "$bundle"
echo
echo "== 2/3  track"
spm-track "$root/export/spm_export/data/bunny.mp4" --box 193,158,57,72 --bundle "$bundle" \
    --out "$out/bunny.mp4" --sheet "$out/bunny.png" --csv "$out/bunny.csv"
echo
echo "== 3/3  latency, against the PyTorch reference in the same run"
spm-bench latency "$bundle" --against torch ${1:+--checkpoint "$@"} --frames 60 ||
    echo "(The verdict above says why these figures do not count; on a busy machine that is no fault of the tracker.)"
echo
echo "Look at $out/bunny.mp4 and $out/bunny.png."
