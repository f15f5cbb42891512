"""What Triton adds to a frame: python benchmarks/triton_latency.py GRPC_ADDRESS BUNDLE [ROUNDS]

Every frame of the shipped clip is decoded from JPEG and tracked here, and sent to a server that has the repository of
``spm-export BUNDLE --triton``, in turns, and who is first changes with every frame. Printed as JSON: the median of both
in milliseconds, their ratio, and how far the boxes are apart. Run by the Python that has tritonclient, such as that of
``bash scripts/pipelines.sh triton``; ``pytest -m slow tests/pipelines/triton`` starts the server too.
"""

import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tritonclient.grpc as triton

from spm_rt import Tracker
from spm_rt.media.pictures import decode_picture
from spm_rt.media.video import frames

ROOT = Path(__file__).resolve().parent.parent
CLIP, BOX = ROOT / "export" / "spm_export" / "data" / "bunny.mp4", (193.0, 158.0, 57.0, 72.0)
WARM = 10
"""Frames at the beginning that do not count."""


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def tensor(name: str, array: Any, kind: str) -> Any:
    given = triton.InferInput(name, array.shape, kind)
    given.set_data_from_numpy(array)
    return given


def here(tracker: Tracker, picture: Any, start: bool) -> Any:
    """The box of a frame, decoded and tracked in this process."""
    frame = decode_picture(picture, "JPEG")
    if start:
        tracker.init(frame, BOX)
        return BOX
    return tracker.update(frame).box


def there(client: Any, picture: Any, sequence: int, start: bool, end: bool) -> Any:
    """The same from the server."""
    inputs = [tensor("JPEG", picture[None], "UINT8")] + [tensor("BOX", np.array([BOX]), "FP64")] * start
    order = {"sequence_id": sequence, "sequence_start": start, "sequence_end": end}
    return client.infer("spm_tracker", inputs, **order).as_numpy("BOX")[0]


def main() -> None:
    address, bundle, rounds = sys.argv[1], sys.argv[2], int((*sys.argv[3:], "3")[0])
    encoded = [np.asarray(cv2.imencode(".jpg", frame)[1], np.uint8).reshape(-1) for frame in frames(CLIP)]
    client, tracker = triton.InferenceServerClient(address), Tracker.load(bundle, "onnxruntime")
    times: dict[str, list[float]] = {"local": [], "triton": []}
    apart = 0.0
    for sequence in range(1, rounds + 1):
        for number, picture in enumerate(encoded):
            start, end = number == 0, number + 1 == len(encoded)
            ways = {
                "local": functools.partial(here, tracker, picture, start),
                "triton": functools.partial(there, client, picture, sequence, start, end),
            }
            found = {}
            for name in list(ways) if number % 2 else reversed(ways):
                seconds, found[name] = timed(ways[name])
                if number >= WARM:
                    times[name].append(seconds)
            apart = max(apart, float(np.abs(np.subtract(found["local"], found["triton"])).max()))
    medians = {name: 1000 * statistics.median(values) for name, values in times.items()}
    ratio = medians["triton"] / medians["local"]
    print(json.dumps({**medians, "ratio": ratio, "boxes_apart": apart, "frames": len(times["local"])}))


if __name__ == "__main__":
    main()
