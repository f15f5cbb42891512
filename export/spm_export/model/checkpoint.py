"""Reading and writing weights: the release's two ``.pt`` files, and one safetensors file of our own.

The official layout is ``cm_stage.pt`` (backbone and coarse stage) beside ``fm_stage.pt`` (fine stage). Ours is one
safetensors file, float32 or float16, whose keys are those of :class:`spm_export.model.network.SPMTracker`.

Either may lie in any container (:mod:`spm_export.model.weight_files`), in any float type, both stages in one file or
in two. Apart from that files are read strictly: missing, unexpected and misshapen tensors are named in one error.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save as safetensors_save
from torch import Tensor, nn

from spm_rt.errors import CheckpointError
from spm_rt.files import written_whole
from spm_rt.models import MODELS
from spm_rt.settings import ModelSpec

from .header import header, is_ours, stored_spec
from .network import SPMTracker
from .weight_files import read_weights

STAGE_FILES = ("cm_stage.pt", "fm_stage.pt")
"""The files of the official layout."""

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
_OFFICIAL_NAMES = _COARSE_NAMES | _FINE_NAMES
_OUR_NAMES = {official: ours for ours, official in _OFFICIAL_NAMES.items()}
_STAGE_PREFIXES = (("backbone.", "coarse."), ("fine.",))
# Stored by the release but without meaning: the last template's kernels, and counters of training steps.
_MEANINGLESS_KERNELS = {"rpn_head.z_cls_weights": (10, 256, 4, 4), "rpn_head.z_bbox_weights": (20, 256, 4, 4)}
_COUNTER = "num_batches_tracked"
_LISTED = 12
"""How many things that are wrong with a checkpoint are named."""


def load_model(paths: Sequence[str | os.PathLike[str]] = (), spec: ModelSpec | None = None) -> SPMTracker:
    """The reference model in evaluation mode, with the weights of a checkpoint.

    Args:
        paths: ``[cm_stage.pt, fm_stage.pt]`` in either order, one file with both stages (of PyTorch or safetensors), or
            nothing for the shipped weights of the model that ``spec`` is.
        spec: the network's sizes and constants; by default what the checkpoint says, or else the release's.

    Raises:
        CheckpointError: a file is missing, truncated, foreign or unsafe, or does not fit the model.
    """
    with torch.device("meta"):  # no random numbers for what comes from files
        model = SPMTracker(spec or stored_spec(paths))
    found = load_weights(paths, model)
    # Copies: a file may give one tensor two names.
    weights = {name: value.clone(memory_format=torch.contiguous_format) for name, value in found.items()}
    model.load_state_dict(weights, strict=False, assign=True)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.num_batches_tracked = torch.tensor(0)
    return model.eval()


def load_weights(paths: Sequence[str | os.PathLike[str]], model: SPMTracker) -> dict[str, Tensor]:
    """Weights of a checkpoint under our names, float32, checked against ``model``; see :func:`load_model`."""
    files = [Path(p) for p in paths] or [default_weights(model.spec)]
    if len(files) > 2:
        raise CheckpointError(
            f"{len(files)} files given; a checkpoint is one file with both stages, or cm_stage.pt and fm_stage.pt"
        )
    for file in files:
        if os.path.isdir(file):
            raise CheckpointError(f"{file}: a folder; give the files in it, cm_stage.pt and fm_stage.pt for example")
        if not os.path.isfile(file):
            raise CheckpointError(f"{file}: {'no regular file' if os.path.exists(file) else 'no such file'}")
    known = _known_names(model)
    found = _merge([_with_our_names(read_weights(file, known)) for file in files], files)
    return _check(found, expected_weights(model), " + ".join(str(file) for file in files))


def default_weights(spec: ModelSpec | None = None) -> Path:
    """The shipped weights: of this checkout, or of the installed distribution ``spm-rt-weights``.

    A YAML file of the same name beside them has the settings that they are tracked with.

    Args:
        spec: of one of :data:`spm_rt.models.MODELS`; by default, and for all others, AlexNet's.

    Raises:
        CheckpointError: neither is there; the message says where they are to be had.
    """
    name = next((name for name, known in MODELS.items() if known == spec), "alexnet")
    beside = Path(__file__).resolve().parents[2] / "weights" / "spm_weights"
    package = importlib.util.find_spec("spm_weights")
    for folder in (beside, *((package.submodule_search_locations or ()) if package else ())):
        if (file := Path(folder) / f"spm_{name}.safetensors").is_file():
            return file
    raise CheckpointError(
        "the default weights are not installed: they are a package of their own (56 MB), which "
        "`pip install ./export/weights` installs from a checkout; or name a checkpoint: cm_stage.pt fm_stage.pt, or "
        "one file with both stages"
    )


def expected_weights(model: SPMTracker) -> dict[str, Tensor]:
    """The tensors a checkpoint must hold, under our names."""
    return {name: value for name, value in model.state_dict().items() if not name.endswith(_COUNTER)}


def check_target(path: str | os.PathLike[str], sources: Sequence[str | os.PathLike[str]] = ()) -> None:
    """Refuse a place for weights where others would be lost: those that are read, or that are not ours.

    Args:
        path: as :func:`save_checkpoint` takes it.
        sources: the checkpoint's own files.

    Raises:
        CheckpointError: the message says what is there.
    """
    target = Path(path)
    single = target.suffix == ".safetensors"
    if target.suffix and not single:
        raise CheckpointError(
            f"{target}: give a name ending in .safetensors, or a folder for cm_stage.pt and fm_stage.pt"
        )
    if target.exists() and target.is_dir() == single:
        raise CheckpointError(
            f"{target}: cannot be written (there is {'a folder' if single else 'a file'} of that name)"
        )
    for file in [target] if single else [target / name for name in STAGE_FILES]:
        if file.exists() and any(Path(source).exists() and file.samefile(source) for source in sources):
            raise CheckpointError(f"{file}: is read from and cannot be written to as well; choose another place")
        # Which .pt files are ours cannot be seen; the release's are not to be had again everywhere.
        if file.exists() and not (single and is_ours(file)):
            raise CheckpointError(f"{file}: is there already and would be lost; move it, or choose another place")


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
        CheckpointError: a name of another kind, something else there (:func:`check_target`), values beyond float16, or
            a disk that cannot be written to.
    """
    check_target(path)
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
        payload = safetensors_save(data, metadata={**metadata, **header(model.spec)})
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as part:
            part.write_bytes(payload)
        return [target]
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, state in zip(STAGE_FILES, to_official(weights), strict=True):
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


def _known_names(model: SPMTracker) -> set[str]:
    """Every name that a tensor of the model has in files: ours, the release's, and what is passed over."""
    ours = model.state_dict().keys()
    return {*ours, *(official for name in ours if (official := _rename(name, _OFFICIAL_NAMES))), *_MEANINGLESS_KERNELS}


def _with_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under our names; those that are not of the release keep their own, to be reported."""
    named: dict[str, Tensor] = {}
    for name, value in state.items():
        if name in _MEANINGLESS_KERNELS or name.endswith("." + _COUNTER):
            continue
        flat = name == "rpn_head.cls_bias" and value.shape == (1, 10, 1, 1)
        ours = _rename(name, _OUR_NAMES)
        named[ours if ours and ours not in state else name] = value.reshape(-1) if flat else value
    return named


def _merge(states: Sequence[Mapping[str, Tensor]], files: Sequence[Path]) -> dict[str, Tensor]:
    """The tensors of one file that has all, or of a coarse-stage and a fine-stage file in either order."""
    coarse, fine = ([any(name.startswith(part) for name in state) for state in states] for part in _STAGE_PREFIXES)
    label = " and ".join(str(file) for file in files)
    if len(files) == 1 and coarse != fine:
        which, other = ("coarse", "fm_stage.pt") if coarse[0] else ("fine", "cm_stage.pt")
        raise CheckpointError(f"{label}: the {which} stage alone; a checkpoint needs both, give {other} beside it")
    if len(files) == 2 and (whole := [file for file, *has in zip(files, coarse, fine, strict=True) if all(has)]):
        raise CheckpointError(f"{label}: {whole[0]} holds both stages already; give it alone")
    if len(files) == 2 and coarse[0] == coarse[1]:
        what = "both are coarse-stage files" if coarse[0] else "neither is a coarse-stage file"
        raise CheckpointError(f"{label}: {what}; cm_stage.pt and fm_stage.pt are needed")
    return {name: value for state in states for name, value in state.items()}


def _rename(name: str, prefixes: Mapping[str, str]) -> str:
    """``name`` with its prefix replaced; empty where no prefix fits."""
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name[len(old) :]
    return ""


def _check(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], label: str) -> dict[str, Tensor]:
    """``found`` as float32, or one error that names what is wrong with it."""
    checked: dict[str, Tensor] = {}
    wrong = []
    for name, like in expected.items():
        try:
            checked[name] = _as_float32(found[name], like.shape)
        except KeyError:
            wrong.append(f"missing {name} {list(like.shape)}")
        except ValueError as error:
            wrong.append(f"{name} {error}")
    wrong += [f"unexpected {name}" for name in found if name not in expected]
    if wrong:
        more = f"; and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        raise CheckpointError(f"{label}: does not fit the model: {'; '.join(sorted(wrong)[:_LISTED])}{more}")
    return checked


def _as_float32(value: Tensor, shape: torch.Size) -> Tensor:
    """A tensor of any float type widened, or a ValueError that says what is wrong with it."""
    if value.shape != shape:
        raise ValueError(f"has shape {list(value.shape)} instead of {list(shape)}")
    if not value.is_floating_point():
        raise ValueError(f"has type {value.dtype} instead of a float type")
    try:
        if value.layout != torch.strided:
            raise NotImplementedError
        wide = value.float()
        finite = bool(wide.isfinite().all())
    except (NotImplementedError, RuntimeError) as error:  # packed 4-bit types, tensors without values
        kind = "without values" if value.is_meta else f"of type {value.dtype}, layout {value.layout}"
        raise ValueError(f"is {kind}, which cannot be read") from error
    if not finite:
        raise ValueError("has values that are not finite in float32")
    return wide
