"""Reading and writing weights: the release's two ``.pt`` files, and one safetensors file of our own.

The official layout is ``cm_stage.pt`` (backbone and coarse stage) beside ``fm_stage.pt`` (fine stage). Ours is one
safetensors file, float32 or float16, whose keys are those of :class:`spm_export.model.network.SPMTracker`.

Files are read strictly: every missing, unexpected or misshapen tensor is named in one error. Pickles are opened with
``weights_only=True`` and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_save
from torch import Tensor

from spm_rt.errors import CheckpointError
from spm_rt.files import written_whole
from spm_rt.settings import ModelSpec

from .network import SPMTracker

FORMAT = "spm_rt checkpoint 1"
DEFAULT_WEIGHTS = Path(__file__).parents[1] / "data" / "spm_alexnet.safetensors"

# Module prefixes: ours -> official. Longest match first where one prefix contains another.
_COARSE_NAMES = {
    **{f"backbone.conv{i}.": f"z_net.conv{i}.conv." for i in range(1, 6)},
    "coarse.template_classify.": "rpn_head.z_cls_conv.",
    "coarse.template_regress.": "rpn_head.z_bbox_conv.",
    "coarse.search_classify.": "rpn_head.x_cls_conv.0.",
    "coarse.search_regress.": "rpn_head.x_bbox_conv.0.",
    "coarse.refine.": "rpn_head.bbox_refine.",
    "coarse.classify_bias": "rpn_head.cls_bias",
}
_FINE_NAMES = {
    "fine.norm_deep.": "feat_extractor.bn_list.0.",
    "fine.norm_shallow.": "feat_extractor.bn_list.1.",
    "fine.relate.": "siam_fusion.roi_conv.roi_conv0.",
    "fine.linear1.": "siam_fusion.linear_layers.linear0.",
    "fine.linear2.": "siam_fusion.linear_layers.linear1.",
    "fine.classify.": "rcnn_cls.",
    "fine.regress.": "rcnn_bbox.",
}
# Stored by the release but without meaning: the last template's kernels, and counters of training steps.
_MEANINGLESS_KERNELS = {"rpn_head.z_cls_weights": (10, 256, 4, 4), "rpn_head.z_bbox_weights": (20, 256, 4, 4)}
_COUNTER = "num_batches_tracked"


def load_model(paths: Sequence[str | os.PathLike[str]] = (), spec: ModelSpec | None = None) -> SPMTracker:
    """The reference model in evaluation mode, with the weights of a checkpoint.

    Args:
        paths: ``[cm_stage.pt, fm_stage.pt]`` in either order, one ``.safetensors``, or nothing for the shipped weights.
        spec: the network's sizes and constants; the release's by default.

    Raises:
        CheckpointError: a file is missing, truncated, foreign or unsafe, or does not fit the model.
    """
    model = SPMTracker(spec)
    model.load_state_dict(load_weights(paths, model), strict=False)
    return model.eval()


def load_weights(paths: Sequence[str | os.PathLike[str]], model: SPMTracker) -> dict[str, Tensor]:
    """Weights of a checkpoint under our names, float32, checked against ``model``; see :func:`load_model`."""
    files = [Path(p) for p in paths] or [DEFAULT_WEIGHTS]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file}: no such file")
    if len(files) == 1:
        if files[0].suffix != ".safetensors":
            raise CheckpointError(
                f"{files[0]}: one file is read as safetensors; the official layout needs two, "
                "cm_stage.pt and fm_stage.pt"
            )
        found, label = _read_safetensors(files[0]), str(files[0])
    elif len(files) == 2:
        found = _merge_official([_read_pickle(file) for file in files], files)
        label = " + ".join(str(f) for f in files)
    else:
        raise CheckpointError(
            f"{len(files)} files given; a checkpoint is one .safetensors, or cm_stage.pt and fm_stage.pt"
        )
    return _check(found, expected_weights(model), label)


def expected_weights(model: SPMTracker) -> dict[str, Tensor]:
    """The tensors a checkpoint must hold, under our names."""
    return {name: value for name, value in model.state_dict().items() if not name.endswith(_COUNTER)}


def save_checkpoint(
    model: SPMTracker, path: str | os.PathLike[str], *, half: bool = False, metadata: Mapping[str, str] | None = None
) -> list[Path]:
    """Write a model's weights; a file appears under its final name only when it is complete.

    Args:
        model: the model whose weights are written.
        path: a ``.safetensors`` file, or a folder for the official layout (cm_stage.pt and fm_stage.pt).
        half: store safetensors as float16 (the official layout is always float32).
        metadata: text entries for the safetensors header.

    Returns:
        The files written.

    Raises:
        CheckpointError: a name of another kind, values beyond float16, or a disk that cannot be written to.
    """
    try:
        return _save(model, Path(path), half, metadata or {})
    except (OSError, RuntimeError) as error:  # PyTorch's own writer raises the latter where a disk is full
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CheckpointError(f"{path}: cannot be written ({reason})") from error


def _save(model: SPMTracker, target: Path, half: bool, metadata: Mapping[str, str]) -> list[Path]:
    weights = {name: value.detach().cpu().contiguous() for name, value in expected_weights(model).items()}
    if target.suffix == ".safetensors":
        data = {name: value.half() if half else value.float() for name, value in weights.items()}
        if half and (large := [name for name, value in data.items() if not value.isfinite().all()]):
            raise CheckpointError(f"too large for float16: {', '.join(large)}")
        payload = safetensors_save(data, metadata={**metadata, "format": FORMAT})
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as part:
            part.write_bytes(payload)
        return [target]
    if target.suffix:
        raise CheckpointError(
            f"{target}: give a name ending in .safetensors, or a folder for cm_stage.pt and fm_stage.pt"
        )
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, state in zip(("cm_stage.pt", "fm_stage.pt"), to_official(weights), strict=True):
        # The old container is the one that the PyTorch of the release's time can open.
        with written_whole(target / name) as part:
            torch.save(state, part, _use_new_zipfile_serialization=False)
        written.append(target / name)
    return written


def to_official(weights: Mapping[str, Tensor]) -> tuple[OrderedDict[str, Tensor], OrderedDict[str, Tensor]]:
    """Weights under our names as the release's two state dictionaries, every key of the release included."""
    coarse, fine = (
        OrderedDict((official, value.float()) for name, value in weights.items() if (official := _rename(name, names)))
        for names in (_COARSE_NAMES, _FINE_NAMES)
    )
    coarse["rpn_head.cls_bias"] = coarse["rpn_head.cls_bias"].reshape(1, -1, 1, 1)
    for name, shape in _MEANINGLESS_KERNELS.items():
        coarse[name] = torch.zeros(shape)
    for i in range(2):
        fine[f"feat_extractor.bn_list.{i}.{_COUNTER}"] = torch.zeros((), dtype=torch.int64)
    return coarse, fine


def checkpoint_digest(weights: Mapping[str, Tensor]) -> str:
    """sha256 over names, shapes and float32 values: equal for the same weights whatever file they came in."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().float().contiguous()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            marker = (file.metadata() or {}).get("format", "none")
            if marker != FORMAT:
                raise CheckpointError(f"{path}: a safetensors file of another kind (its format entry: {marker!r})")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: refused, the file holds more than plain tensors, or is damaged") from error
    except Exception as error:  # PyTorch's readers raise whatever the damage makes them stumble over
        raise CheckpointError(f"{path}: not a readable PyTorch file ({type(error).__name__}: {error})") from error
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise CheckpointError(f"{path}: not a state dictionary (names to tensors)")
    return dict(state)


def _merge_official(states: Sequence[Mapping[str, Tensor]], files: Sequence[Path]) -> dict[str, Tensor]:
    """Both stages under our names; keys that are not of the release keep their own name, to be reported."""
    is_coarse = [any(name.startswith(("z_net.", "rpn_head.")) for name in state) for state in states]
    if is_coarse == [True, True] or is_coarse == [False, False]:
        what = "both are coarse-stage files" if is_coarse[0] else "neither is a coarse-stage file"
        raise CheckpointError(f"{files[0]} and {files[1]}: {what}; cm_stage.pt and fm_stage.pt are needed")
    to_ours = {official: ours for ours, official in {**_COARSE_NAMES, **_FINE_NAMES}.items()}
    merged: dict[str, Tensor] = {}
    for state in states:
        for name, value in state.items():
            if name in _MEANINGLESS_KERNELS or name.endswith("." + _COUNTER):
                continue
            ours = _rename(name, to_ours) or name
            merged[ours] = value.reshape(-1) if name == "rpn_head.cls_bias" and value.shape == (1, 10, 1, 1) else value
    return merged


def _rename(name: str, prefixes: Mapping[str, str]) -> str:
    """``name`` with its prefix replaced; empty where no prefix fits."""
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name[len(old) :]
    return ""


def _check(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], label: str) -> dict[str, Tensor]:
    """``found`` as float32, or one error that names everything wrong with it."""
    wrong = [f"missing {name} {list(expected[name].shape)}" for name in expected if name not in found]
    wrong += [f"unexpected {name}" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        value = found[name]
        if value.shape != expected[name].shape:
            wrong.append(f"{name} has shape {list(value.shape)} instead of {list(expected[name].shape)}")
        elif not value.is_floating_point():
            wrong.append(f"{name} has type {value.dtype} instead of a float type")
        elif not value.isfinite().all():
            wrong.append(f"{name} has values that are not finite")
    if wrong:
        listed = "\n  ".join(sorted(wrong))
        raise CheckpointError(f"{label}: does not fit the model:\n  {listed}")
    return {name: found[name].float() for name in expected}
