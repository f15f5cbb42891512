#!/usr/bin/env bash
# Makes every figure anew that a document gives of the default weights, for when they were replaced. CONTRIBUTING.md says
# which page each file belongs to.
#
#   scripts/figures.sh OUT CLIPS VIDEO...
#
# OUT is a folder for all of it. CLIPS are the clips that score, in any layout (docs/guide/datasets.md). VIDEO are the
# packed videos of training: what spm-train holds out of them measures `found`, the rest calibrates int8.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=$1 clips=$2
mkdir -p "$out"
clip="$root/export/spm_export/data/bunny.mp4"

run() {  # prints a command, runs it, and keeps what it prints as OUT/FILE
    echo "== $1: ${*:2}"
    "${@:2}" > "$out/$1"
}

python - "$out" "${@:3}" << 'END'
"""OUT/held_out and OUT/calibration, two packed videos: the clips that spm-train holds out, and the others."""
import json
import sys
from pathlib import Path

from spm_train.config import SamplingConfig
from spm_train.data.readers import is_held_out

every = SamplingConfig().held_out_every
for name, held_out in (("held_out", True), ("calibration", False)):
    folder, clips = Path(sys.argv[1]) / name, []
    folder.mkdir(exist_ok=True)
    with (folder / "frames.bin").open("wb") as packed:
        for video in map(Path, sys.argv[2:]):
            frames = (video / "frames.bin").read_bytes()
            for clip in json.loads((video / "tracks.json").read_text(encoding="utf-8"))["clips"]:
                if is_held_out(clip["name"], every) == held_out:
                    spans, clip["frames"] = clip["frames"], []
                    for offset, length in spans:
                        clip["frames"].append([packed.tell(), length])
                        packed.write(frames[offset : offset + length])
                    clips.append(clip)
    (folder / "tracks.json").write_text(json.dumps({"clips": clips}), encoding="utf-8")
    print(f"== {name}: {len(clips)} clips, {sum(len(clip['tracks']) for clip in clips)} tracks")
END

run float32_export.txt spm-export --out "$out/spm_alexnet"
run accuracy_modes.txt spm-bench accuracy "$clips" --bundle "$out/spm_alexnet" --backend onnxruntime --modes
run lost.txt spm-bench lost "$out/held_out" --bundle "$out/spm_alexnet" --backend onnxruntime --threads 1
run int8_export.txt spm-export --precision int8 --calibration "$out/calibration" --out "$out/spm_int8"
int8=$out/spm_int8
run accuracy.txt spm-bench accuracy "$clips" --bundle "$out/spm_alexnet" \
    --backend openvino openvino:bfloat16 "openvino@$int8" "onnxruntime@$int8"
run parity_bfloat16.txt spm-bench parity onnxruntime openvino:bfloat16 --bundle "$out/spm_alexnet" || true
run latency.txt spm-bench latency "$out/spm_alexnet" --against torch \
    --backend onnxruntime openvino openvino:bfloat16 "openvino@$int8" "onnxruntime@$int8" --frames 60 --roofline || true
spm-track "$clip" --box rabbit=193,158,57,72 --bundle "$out/spm_alexnet" --backend onnxruntime --out "$out/bunny.mp4" \
    --sheet "$out/bunny.png" --csv "$out/bunny.csv" --jsonl "$out/bunny.jsonl"
sha256sum "$root/export/weights/spm_weights/spm_alexnet.safetensors"
