#!/usr/bin/env bash
# Makes every figure anew that a document gives of the default weights, for when they were replaced. CONTRIBUTING.md says
# which page each file belongs to.
#
#   scripts/figures.sh OUT CLIPS VIDEO...
#
# OUT is a folder for all of it. CLIPS are the clips that score, in any layout (docs/guide/datasets.md). VIDEO are the
# packed videos of training: what spm-train holds out of them measures `found`, and the first one calibrates int8.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=$1 clips=$2
mkdir -p "$out"
bundle=$out/spm_alexnet int8=$out/spm_int8

run() {  # runs a command, and keeps what it prints as OUT/FILE
    echo "== $1: ${*:2}"
    "${@:2}" > "$out/$1"
}

run float32_export.txt spm-export --out "$bundle"
run accuracy_modes.txt spm-bench accuracy "$clips" --bundle "$bundle" --backend onnxruntime --modes
held=(spm-bench lost "${@:3}" --held-out 12 --threads 1)
run lost.txt "${held[@]}" --bundle "$bundle" --backend onnxruntime
run lost_bfloat16.txt "${held[@]}" --bundle "$bundle" --backend openvino:bfloat16
run recover.txt "${held[@]}" --recover --bundle "$bundle" --backend onnxruntime
run int8_export.txt spm-export --precision int8 --calibration "$3" --out "$int8"
run lost_int8.txt "${held[@]}" --bundle "$int8" --backend openvino
run accuracy.txt spm-bench accuracy "$clips" --bundle "$bundle" \
    --backend openvino openvino:bfloat16 "openvino@$int8" "onnxruntime@$int8"
# Not as close as float32 is, and not always on a quiet machine: their verdicts are in the files.
run parity_bfloat16.txt spm-bench parity onnxruntime openvino:bfloat16 --bundle "$bundle" || true
run latency.txt spm-bench latency "$bundle" --backend onnxruntime openvino openvino:bfloat16 "onnxruntime@$int8" \
    "openvino@$int8" --frames 60 || true
spm-track "$root/export/spm_export/data/bunny.mp4" --box rabbit=193,158,57,72 --bundle "$bundle" --backend onnxruntime \
    --out "$out/bunny.mp4" --sheet "$out/bunny.png" --csv "$out/bunny.csv" --jsonl "$out/bunny.jsonl"
sha256sum "$root/export/weights/spm_weights/spm_alexnet.safetensors"
