"""The check on some of a card's multiprocessors: what a smaller card would do, and proof that it was done there.

What it cannot show: the partition has the whole card's caches and memory, and its kernels are those for this card.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spm_rt import Bundle
from spm_rt.backends.pytorch.backend import PyTorchBackend
from spm_rt.errors import BackendError
from spm_rt.gpu.partition import Partition
from spm_rt.precision import FLOATS
from spm_rt.resident import ResidentTracker

from ..profiling.multiply_adds import count_layers
from .agreement import follow, judge, pictures, reference
from .parts import BOX, WARM, Report, moving_frames, on_the_gpu

SIDE, BYTES, REPEATS = 4096, 1 << 28, 5
"""Of the measured products (rows and columns), of the measured copy, and how often each is done; the best counts."""
SAVING = 4
"""A frame may take so many times less than its multiply-adds would at the measured rate: Winograd's F(4 x 4, 3 x 3) has
a quarter of the convolution's. A frame that was not waited for takes less than that."""
CONFINED = 1.5
"""A partition's float32 rate may be so many times its share of the card's: clocks fall when a whole card works."""


class PartitionBackend(PyTorchBackend):
    """PyTorch's networks on a partition: the streams that they make for themselves are the partition's."""

    def __init__(self, bundle: Bundle, partition: Partition, **options: Any) -> None:
        self._partition = partition
        self._made: list[Any] = []
        super().__init__(bundle, device=f"cuda:{partition.device.index}", **options)

    def make_stream(self) -> Any:
        self._made.append(self._partition.stream())  # PyTorch does not keep it
        return self.torch.cuda.ExternalStream(self._made[-1].handle, device=self.device)


def rates(torch: Any, device: str, entered: Callable[[], Any], wait: Callable[[], None]) -> Report:
    """TFLOP/s of a large matrix product in each precision (without TF32), and GB/s of a copy, read and written.

    Args:
        torch: the module.
        device: where the tensors lie.
        entered: a context in which work goes on the stream that is measured.
        wait: until it is done.
    """
    torch.set_float32_matmul_precision("highest")

    def fastest(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(1 + REPEATS):
            start = time.perf_counter()
            work()
            wait()
            times.append(time.perf_counter() - start)
        return min(times[1:])

    found = {}
    with entered():
        for precision in FLOATS:
            a = torch.ones((SIDE, SIDE), device=device, dtype=getattr(torch, precision))
            out = torch.empty_like(a)
            found[f"{precision}_tflops"] = 2e-12 * SIDE**3 / fastest(functools.partial(torch.mm, a, a, out=out))
        source = torch.zeros(BYTES, device=device, dtype=torch.uint8)
        target = torch.empty_like(source)
        found["copy_gbps"] = 2e-9 * BYTES / fastest(lambda: target.copy_(source))
    return found


def measure_rates(partition: Partition) -> Report:
    """Of the partition and of the whole card, and whether the first stays within its share."""
    torch: Any = importlib.import_module("torch")
    if not torch.cuda.is_available():
        raise BackendError("rates are measured with PyTorch, and this PyTorch has no CUDA")
    device = f"cuda:{partition.device.index}"
    stream, whole = partition.stream(), torch.cuda.Stream(device)
    there = torch.cuda.ExternalStream(stream.handle, device=device)
    torch.cuda.synchronize(device)
    found = {
        "multiprocessors": partition.multiprocessors,
        "of": partition.whole,
        "partition": rates(torch, device, lambda: torch.cuda.stream(there), stream.wait),
        "whole_card": rates(torch, device, lambda: torch.cuda.stream(whole), whole.synchronize),
    }
    return {**found, "checks": {"within its share": is_confined(found)}}


def is_confined(found: Report) -> bool:
    """Whether products on the partition were no faster than its share of the card allows."""
    share = found["multiprocessors"] / found["of"]
    rate, whole = (found[place]["float32_tflops"] for place in ("partition", "whole_card"))
    return bool(0 < rate <= CONFINED * share * whole)


def least_ms(bundle: Bundle, tflops: float) -> float:
    """Milliseconds below which no frame can be, with products at this rate: see :data:`SAVING`."""
    count = bundle.settings.num_candidates
    layers = [layer for stage in ("search", "relation") for layer in count_layers(bundle.graph(stage), count)]
    return 2e-9 * sum(layer.macs for layer in layers) / SAVING / tflops


def resident(
    bundle: Bundle, frames: int, precision: str, make: Callable[..., ResidentTracker], tflops: float
) -> Report:
    """The resident tracker on a partition: parity, latency, and proof that every frame was computed and waited for.

    Args:
        bundle: in any precision.
        frames: that are timed.
        precision: what the tracker computes in.
        make: a tracker on the partition; ``graphs`` says whether it captures.
        tflops: the partition's rate of products in this precision.
    """
    wanted, (clip, box) = reference(bundle), pictures()
    starts = [box, *(last for last, _ in wanted)]
    captured, plain = make(graphs=True), make(graphs=False)
    found, uncaptured = (follow(tracker, clip, box, starts) for tracker in (captured, plain))
    report = judge(found, wanted, precision)
    same = judge(found, uncaptured, precision)["checks"]
    shown = on_the_gpu(moving_frames(40))
    timed = {name: timed_frames(tracker, shown, frames) for name, tracker in (("graph", captured), ("eager", plain))}
    least = least_ms(bundle, tflops)
    report["checks"] |= {
        "captured": captured.graphs,
        "captured as uncaptured": all(same.values()),
        "waited for": all(one["idle"] for one in timed.values()),
        "no faster than its arithmetic": min(one["least_ms"] for one in timed.values()) >= least,
    }
    return {**report, "least_possible_ms": least, **timed, "frames_per_second": 1e3 / timed["graph"]["p50_ms"]}


def timed_frames(tracker: ResidentTracker, shown: Sequence[Any], frames: int) -> Report:
    """Milliseconds of ``update``, and whether nothing was left to do on the tracker's stream whenever it returned."""
    tracker.init(shown[0], BOX)
    times, idle, stream = [], True, tracker.networks.stream
    for index in range(WARM + frames):
        start = time.perf_counter()
        tracker.update(shown[(index + 1) % len(shown)])
        times.append(1e3 * (time.perf_counter() - start))
        idle = idle and stream.idle()
    counted = times[WARM:]
    percentiles = {f"p{p}_ms": float(np.percentile(counted, p)) for p in (50, 95, 99)}
    return {"frames": frames, **percentiles, "least_ms": min(counted), "idle": idle}


def tracker_on(bundle: Bundle, partition: Partition, precision: str) -> Callable[..., ResidentTracker]:
    """What makes trackers on PyTorch's networks there; the weights are loaded once."""
    from spm_rt.backends.pytorch.resident import PyTorchNetworks

    backend = PartitionBackend(bundle, partition, precision=precision)
    return lambda **options: ResidentTracker(PyTorchNetworks(backend, bundle), bundle.spec, bundle.settings, **options)
