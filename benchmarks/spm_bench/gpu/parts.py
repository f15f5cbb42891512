"""The parts of the check: kernels against the runtime's Python, trackers against the CPU, latency, throughput."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_rt import Bundle, Tracker
from spm_rt.frame.crop import crop_exact
from spm_rt.frame.fusion import AS_DETECTED, cosine_window, fuse, next_box
from spm_rt.frame.geometry import Region, search_region, to_frame
from spm_rt.frame.proposals import select_proposals
from spm_rt.gpu import kernels
from spm_rt.gpu.kernels import nvrtc

from .agreement import parity, reference

Array = NDArray[Any]
Report = dict[str, Any]
BOX = (560.0, 300.0, 90.0, 120.0)
SIZE = (720, 1280)
WARM = 20


class KernelRunner:
    """A device with both units of kernels, and arrays that go there and back."""

    def __init__(self) -> None:
        from spm_rt.gpu.driver import Device

        self.device = Device(0)
        self.stream = self.device.stream()
        architecture = f"sm_{self.device.capability}"
        self.modules = {unit: self.device.module(nvrtc.compiled(unit, architecture)) for unit in kernels.UNITS}

    def run(self, unit: str, launch: kernels.Launch, *arguments: Any) -> None:
        """Launch with host arrays as arguments: all of them go to the device before, and come back after."""
        copies: list[tuple[np.ndarray, Any]] = []
        kernel_arguments: list[Any] = []
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                memory = self.device.memory(argument.nbytes)
                self.stream.upload(argument, memory.address)
                copies.append((argument, memory))
                kernel_arguments.append(memory.address)
            else:
                scalar = isinstance(argument, ctypes._SimpleCData)
                kernel_arguments.append(argument if scalar else ctypes.c_int(argument))
        self.modules[unit].prepare(launch, kernel_arguments)(self.stream.handle)
        for array, memory in copies:
            self.stream.download(memory.address, array)
        self.stream.wait()


def moving_frames(count: int) -> list[Array]:
    """A textured frame, and a square that wanders over it."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (SIZE[0] // 16, SIZE[1] // 16, 3), dtype=np.uint8)
    ground = coarse.repeat(16, axis=0).repeat(16, axis=1)
    target = rng.integers(0, 256, (int(BOX[3]), int(BOX[2]), 3), dtype=np.uint8)
    frames = []
    for i in range(count):
        frame = ground.copy()
        x, y = int(BOX[0] + 40 * np.sin(i / 20)), int(BOX[1] + 30 * np.sin(i / 13))
        frame[y : y + target.shape[0], x : x + target.shape[1]] = target
        frames.append(frame)
    return frames


def on_the_gpu(pictures: Sequence[Array]) -> list[Any]:
    """Copies there, as PyTorch's tensors."""
    import torch

    tensors = [torch.from_numpy(picture).cuda() for picture in pictures]
    torch.cuda.synchronize()
    return tensors


def check_kernels(bundle: Bundle, maps: int) -> Report:
    """Every kernel against what the runtime computes on the CPU."""
    gpu, rng = KernelRunner(), np.random.default_rng(2)
    checks, largest = {}, {}
    limits = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2}
    for name, limit, error in (
        *(("roi " + data, limit, check_roi(gpu, bundle, data, rng)) for data, limit in limits.items()),
        ("crop", 0.0, check_crop(gpu, bundle, rng)),
        ("proposals", 0.0, check_proposals(gpu, bundle, rng, maps)),
        ("fusion", 1e-5, check_fusion(gpu, bundle, rng)),
    ):
        largest[name], checks[name] = error, error <= limit
    return {"checks": checks, "largest_error": largest}


def check_roi(gpu: KernelRunner, bundle: Bundle, data: str, rng: np.random.Generator) -> float:
    """Largest error of the RoI kernel, relative to the largest value, over inner, border and outer boxes."""
    import torch

    from spm_rt.backends.pytorch.network import Network, read_weights

    weights = read_weights(bundle.path / "weights.safetensors", torch)
    network = Network(torch, weights, bundle.spec, torch.device("cpu"), torch.float32)
    kind = getattr(torch, data)
    spec, cells = bundle.spec, bundle.spec.cells
    channels = (spec.deep_channels, spec.shallow_channels)
    made = (torch.from_numpy(rng.uniform(-1, 1, (2, c, cells, cells)).astype("f4")).to(kind) for c in channels)
    deep, shallow = made
    center, size = rng.uniform(-30, 300, (2, 200, 2)), rng.uniform(0, 250, (2, 200, 2))
    boxes = np.concatenate([center - size / 2, center + size / 2], axis=-1).astype(np.float32)
    expected = network.steps.roi(deep.float(), shallow.float(), torch.from_numpy(boxes))
    bits = np.uint32 if data == "float32" else np.uint16
    raw = [m.contiguous().view(torch.uint8).numpy().view(bits).reshape(-1).copy() for m in (deep, shallow)]
    out = np.zeros(400 * sum(channels) * 36, bits)
    affine = [network._w[f"roi_{name}"].reshape(-1).numpy().copy() for name in ("scale", "shift")]
    boxes -= np.float32(spec.first_cell)
    launch, numbers = kernels.roi_launch(400, sum(channels), data), (200, *channels, cells, cells, 0)
    gpu.run("roi", launch, *raw, boxes.reshape(-1), *affine, *numbers, out)
    computed = torch.from_numpy(out.view(np.uint8)).view(kind).float().reshape(expected.shape)
    if not bool(((computed == 0) | (expected != 0)).all()):
        return float("inf")  # something that is not zero where there is nothing
    return float((computed - expected).abs().max() / expected.abs().max())


def check_crop(gpu: KernelRunner, bundle: Bundle, rng: np.random.Generator) -> float:
    """Largest difference of crops, in grey levels, inside the frame and across its edge."""
    size, worst = bundle.spec.crop_size, 0.0
    record = kernels.settings_record(bundle.spec, bundle.settings)
    frame = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    inside, over_the_rim = [[300, 200, 360, 260]], [[-20, 10, 60, 90], [600, 440, 700, 520], [-200, -200, 900, 800]]
    for box in (*inside, *over_the_rim, [900, 9, 990, 99]):
        state, out = np.zeros(1, kernels.STATE), np.zeros((3, size, size), np.float32)
        state["box"] = box
        shape = (ctypes.c_longlong(640 * 3), ctypes.c_longlong(3), 480, 640, 3, size)
        gpu.run("frame", kernels.begin_launch(), state, record)
        gpu.run("frame", kernels.sum_launch(), frame, *shape, state)
        gpu.run("frame", kernels.crop_launch(size), frame, *shape, state, *kernels.InputForm().arguments, out)
        expected = crop_exact(frame, search_region(np.array(box, float), bundle.spec), size)
        worst = max(worst, float(np.abs(out - expected).max()))
    return worst


def anchored(bundle: Bundle, rng: np.random.Generator) -> Array:
    """Boxes such as the coarse stage gives, ``[N, 4]``."""
    n = bundle.spec.anchor_count
    center, size = rng.uniform(60, 210, (n, 2)), rng.uniform(30, 120, (n, 2))
    return np.concatenate([center - size / 2, center + size / 2], axis=1).astype(np.float32)


def check_proposals(gpu: KernelRunner, bundle: Bundle, rng: np.random.Generator, maps: int) -> float:
    """How many of ``maps`` random and tied score maps give other proposals."""
    spec, settings = bundle.spec, bundle.settings
    record, count, wrong = kernels.settings_record(spec, settings), settings.num_candidates, 0
    for i in range(maps):
        scores = rng.uniform(0, 1, spec.anchor_count).astype(np.float32)
        scores = (np.round(scores * 4) / 4, scores, scores**30)[i % 3].astype(np.float32)
        last = np.array([300.0, 200, 360, 270])
        region, boxes = search_region(last, spec), anchored(bundle, rng)
        state, number = state_at(last, region), np.zeros(1, np.int32)
        indices = np.zeros(count, np.int32)
        proposals = [np.zeros((count, 4), np.float32) for _ in range(2)]
        results = (indices, number, *proposals, np.zeros(count, np.float32))
        gpu.run("frame", kernels.select_launch(), scores, boxes, state, record, *results)
        expected = select_proposals(scores, to_frame(boxes, region), last.astype(np.float32), settings)
        wrong += indices[: number[0]].tolist() != expected.tolist()
    return float(wrong)


def state_at(box: Array, region: Region) -> Array:
    """A tracker's state on the GPU, with this last box and its search region."""
    state = np.zeros(1, kernels.STATE)
    state["box"], state["scale"], state["extent"] = box, region.scale, AS_DETECTED
    state["region"] = [region.x1, region.y1, region.x2, region.y2]
    return state


def check_fusion(gpu: KernelRunner, bundle: Bundle, rng: np.random.Generator) -> float:
    """Largest difference of the next box, in pixels, where the choice is not a matter of the last digit."""
    spec, settings, worst = bundle.spec, bundle.settings, 0.0
    record, k = kernels.settings_record(spec, settings), settings.num_candidates
    for _ in range(100):
        last = np.array([300.0, 200, 360, 270])
        region, crop_boxes = search_region(last, spec), anchored(bundle, rng)[:k].copy()
        coarse, fine = rng.uniform(0, 1, (2, k)).astype(np.float32)
        fine_boxes = (crop_boxes + rng.normal(0, 3, (k, 4))).astype(np.float32)
        boxes = to_frame(crop_boxes, region)
        window = cosine_window(crop_boxes, spec.crop_size)
        fused = fuse(coarse, boxes, fine, to_frame(fine_boxes, region), window, settings)
        best = np.sort(fused.ranking)
        if best[-1] - best[-2] < 1e-5:
            continue
        score = float(fused.scores[fused.chosen])
        expected = next_box(last, fused.boxes[fused.chosen], score, SIZE, settings)
        if score < settings.update_threshold:
            expected = last
        state, result = state_at(last, region), np.zeros(1, kernels.RESULT)
        stages = (np.array([k], np.int32), coarse, crop_boxes, boxes, fine, fine_boxes)
        gpu.run("frame", kernels.fuse_launch(), *stages, *SIZE, record, state, result)
        worst = max(worst, float(np.abs(result["box"][0] - expected).max()))
    return worst


def latency(tracker: Any, frames: int, pictures: Sequence[Any] | None = None) -> Report:
    """Milliseconds of ``update`` per frame, over pictures on the host unless others are given."""
    pictures = moving_frames(40) if pictures is None else pictures
    tracker.init(pictures[0], BOX)
    times = update_times(tracker, pictures, frames)
    return {"frames": frames, **{f"p{p}_ms": 1e3 * float(np.percentile(times, p)) for p in (50, 95, 99)}}


def update_times(tracker: Any, pictures: Sequence[Any], frames: int) -> list[float]:
    """Seconds of each ``update``, after some that are not counted; the pictures come again and again."""
    for i in range(WARM):
        tracker.update(pictures[(i + 1) % len(pictures)])
    times = []
    for i in range(frames):
        picture = pictures[i % len(pictures)]
        start = time.perf_counter()
        tracker.update(picture)
        times.append(time.perf_counter() - start)
    return times


def measure_tracker(tracker: Tracker, bundle: Bundle, frames: int, precision: str) -> Report:
    report = parity(tracker, reference(bundle), precision)
    found = {"description": tracker.backend.description, **report, "latency": latency(tracker, frames)}
    if network := getattr(tracker.backend, "network", None):  # PyTorch's: what its ways to compute a layer took
        found["layer_seconds"] = {f"{name} {shape}": times for (name, shape), times in network.fastest.times.items()}
    return found


def resident(bundle: Bundle, frames: int, backend: str, precision: str | None = None) -> Report:
    """The resident tracker on a backend's networks: frames on the host, and frames that lie on the GPU."""
    from spm_rt.resident import ResidentTracker

    tracker = ResidentTracker.load(bundle, backend, precision=precision)
    report = parity(tracker, reference(bundle), precision or bundle.precision)
    report["latency_host_frames"] = latency(tracker, max(frames // 3, 20))
    report["latency"] = latency(tracker, frames, on_the_gpu(moving_frames(40)))
    report["graph"] = tracker.graphs
    report["checks"]["captured"] = tracker.graphs
    return report


def throughput(bundle: Bundle, precision: str, targets: Sequence[int]) -> Report:
    """Target-frames per second of search and relation together, by number of targets in one call."""
    from spm_rt.backends.pytorch.backend import PyTorchBackend

    spec, count, rows = bundle.spec, bundle.settings.num_candidates, {}
    for number in targets:
        context = PyTorchBackend(bundle, device="cuda", precision=precision, targets=number).context()
        rng = np.random.default_rng(number)
        context.crop[:] = rng.uniform(0, 255, context.crop.shape)
        context.set_template(np.tile(np.array([[90, 90, 180, 180]], np.float32), (number, 1)))
        proposals = np.tile(np.array([80, 80, 170, 190], np.float32), (number, count, 1))
        for _ in range(5):
            context.search()
            context.relate(proposals)
        start, rounds = time.perf_counter(), 50
        for _ in range(rounds):
            context.search()
            context.relate(proposals)
        rows[str(number)] = number * rounds / (time.perf_counter() - start)
    return {"target_frames_per_second": rows, "anchors": spec.anchor_count}
