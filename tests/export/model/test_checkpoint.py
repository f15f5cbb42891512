"""Weights in both formats: what is read, what is refused, and that every wrong thing is named."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spm_export.model import checkpoint, header
from spm_export.model.checkpoint import (
    checkpoint_digest,
    default_weights,
    expected_weights,
    load_model,
    save_checkpoint,
)
from spm_export.model.network import SPMTracker
from spm_rt import CheckpointError, ModelSpec

from ...support.disk import full_disk
from ...support.synthetic import coarse_state, fine_state

State = dict[str, Any]
Pair = tuple[Path, Path]
States = tuple[State, State]
Write = Callable[..., Pair]
EMPTY = SPMTracker()


@pytest.fixture(scope="module")
def states() -> States:
    return coarse_state(), fine_state()


@pytest.fixture
def write(tmp_path: Path, synthetic_checkpoint: Pair) -> Write:
    """Write changed states; an unchanged stage is the session's file."""

    def writer(coarse: State | None = None, fine: State | None = None) -> Pair:
        files = list(synthetic_checkpoint)
        for i, state in enumerate((coarse, fine)):
            if state is not None:
                files[i] = tmp_path / f"stage{i}.pt"
                torch.save(state, files[i])
        return files[0], files[1]

    return writer


# Reading what is right.


def test_every_tensor_arrives_under_our_name(states: States, synthetic_model: SPMTracker) -> None:
    ours, official = synthetic_model.state_dict(), states[0] | states[1]
    for name, theirs in {
        "backbone.conv4.weight": "z_net.conv4.conv.weight",
        "coarse.template_classify.weight": "rpn_head.z_cls_conv.weight",
        "coarse.search_regress.bias": "rpn_head.x_bbox_conv.0.bias",
        "coarse.classify_bias": "rpn_head.cls_bias",
        "fine.norm_deep.running_var": "feat_extractor.bn_list.0.running_var",
        "fine.norm_shallow.weight": "feat_extractor.bn_list.1.weight",
        "fine.linear1.weight": "siam_fusion.linear_layers.linear0.weight",
        "fine.regress.bias": "rcnn_bbox.bias",
    }.items():
        assert torch.equal(ours[name], official[theirs].reshape(ours[name].shape)), name
    assert not synthetic_model.training


def test_files_may_be_given_in_either_order(synthetic_checkpoint: Pair, synthetic_model: SPMTracker) -> None:
    assert digest(load_model(synthetic_checkpoint[::-1])) == digest(synthetic_model)


def test_shipped_weights_are_the_default() -> None:
    assert digest(load_model()) == digest(load_model([default_weights()]))


def test_meaningless_keys_may_be_absent_and_do_not_reach_the_model(
    states: States, write: Write, synthetic_model: SPMTracker
) -> None:
    coarse = without(states[0], "rpn_head.z_cls_weights", "rpn_head.z_bbox_weights")
    fine = without(states[1], *(f"feat_extractor.bn_list.{i}.num_batches_tracked" for i in range(2)))
    strange = states[0] | {"rpn_head.z_cls_weights": torch.full((10, 256, 4, 4), torch.nan)}
    for pair in ((coarse, fine), (strange, None)):
        assert digest(load_model(write(*pair))) == digest(synthetic_model)


def test_what_a_file_stores_once_under_two_names_is_trained_apart(states: States, write: Write) -> None:
    name = "feat_extractor.bn_list.0."
    fine = {**states[1], f"{name}bias": states[1][f"{name}weight"]}
    norm = load_model(write(fine=fine)).fine.norm_deep
    assert torch.equal(norm.weight, norm.bias)
    assert norm.weight.data_ptr() != norm.bias.data_ptr()


def test_half_precision_official_files_are_widened(states: States, write: Write) -> None:
    fine = {name: value.half() if value.is_floating_point() else value for name, value in states[1].items()}
    model = load_model(write(fine=fine))
    assert {value.dtype for value in expected_weights(model).values()} == {torch.float32}


def prefixed(state: State, *prefixes: str) -> State:
    """With prefixes before the names, taking turns."""
    return {prefixes[i % len(prefixes)] + name: value for i, (name, value) in enumerate(state.items())}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "module.": lambda state: prefixed(state, "module."),
    "model.": lambda state: prefixed(state, "model."),
    "module.net.": lambda state: prefixed(state, "module.net."),
    "mixed prefixes": lambda state: prefixed(state, "", "module.", "net."),
    "epoch and state_dict": lambda state: {"epoch": 50, "arch": "spm", "state_dict": state},
    "model": lambda state: {"model": state},
    "state_dict and model": lambda state: {"state_dict": {"model": prefixed(state, "module.")}, "best": [0.5]},
    "beside an optimiser": lambda state: {
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]},
        "net": OrderedDict(state),
    },
    "a list": lambda state: [3, state],
    "half": lambda state: {name: value.half() if value.is_floating_point() else value for name, value in state.items()},
    "parameters": lambda state: {
        name: torch.nn.Parameter(value) if value.is_floating_point() else value for name, value in state.items()
    },
}
FLOATS = (torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
def test_wrapped_and_prefixed_files_are_read(
    wrap: Callable[[State], Any], states: States, write: Write, synthetic_model: SPMTracker
) -> None:
    model = load_model(write(fine=wrap(states[1]))[::-1])
    for name, value in expected_weights(model).items():
        torch.testing.assert_close(value, synthetic_model.state_dict()[name], rtol=2**-10, atol=2**-24)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda coarse, fine: coarse | fine,
        lambda coarse, fine: {"cm_stage": prefixed(coarse, "module."), "fm_stage": fine, "epoch": 7},
        lambda coarse, fine: {"state_dict": {"siamese": coarse | fine}},
    ],
    ids=["flat", "two dictionaries", "nested"],
)
def test_one_file_may_hold_both_stages(
    wrap: Callable[[State, State], Any], states: States, tmp_path: Path, synthetic_model: SPMTracker
) -> None:
    torch.save(wrap(*states), tmp_path / "spm.pth.tar")
    assert digest(load_model([tmp_path / "spm.pth.tar"])) == digest(synthetic_model)


def test_safetensors_may_have_official_names_and_any_suffix(
    states: States, tmp_path: Path, synthetic_model: SPMTracker
) -> None:
    save_file(prefixed(states[0] | states[1], "module."), tmp_path / "mine.bin", metadata={"format": "pt"})
    assert digest(load_model([tmp_path / "mine.bin"])) == digest(synthetic_model)


@pytest.mark.parametrize("kind", FLOATS, ids=str)
@pytest.mark.parametrize("container", ["pt", "safetensors"])
def test_every_float_type_is_widened(
    kind: torch.dtype, container: str, states: States, tmp_path: Path, synthetic_checkpoint: Pair
) -> None:
    fine = {name: value.to(kind) if value.is_floating_point() else value for name, value in states[1].items()}
    path = tmp_path / f"fm_stage.{container}"
    (torch.save if container == "pt" else save_file)(fine, path)
    found = load_model([synthetic_checkpoint[0], path]).state_dict()
    assert torch.equal(found["fine.linear1.weight"], fine["siam_fusion.linear_layers.linear0.weight"].float())


# Round trips.


def digest(model: SPMTracker) -> str:
    return checkpoint_digest(expected_weights(model))


def test_official_to_safetensors_and_back(synthetic_model: SPMTracker, tmp_path: Path) -> None:
    (single,) = save_checkpoint(synthetic_model, tmp_path / "w.safetensors")
    again = load_model([single])
    assert digest(again) == digest(synthetic_model)
    pair = save_checkpoint(again, tmp_path / "official")
    assert [path.name for path in pair] == ["cm_stage.pt", "fm_stage.pt"]
    assert digest(load_model(pair)) == digest(synthetic_model)


def test_written_official_files_are_in_the_old_container_with_every_key_and_shape_of_the_release(
    tmp_path: Path, states: States
) -> None:
    """In folders that are made as needed, without gradients or sharing."""
    for path, wanted in zip(save_checkpoint(EMPTY, tmp_path / "a" / "b"), states, strict=True):
        assert not zipfile.is_zipfile(path)
        found = torch.load(path, weights_only=True)
        assert isinstance(found, OrderedDict)
        assert {n: (v.shape, v.dtype) for n, v in found.items()} == {n: (v.shape, v.dtype) for n, v in wanted.items()}
        assert not any(value.requires_grad for value in found.values())


def test_half_precision_is_within_its_rounding(synthetic_model: SPMTracker, tmp_path: Path) -> None:
    (path,) = save_checkpoint(synthetic_model, tmp_path / "h.safetensors", half=True)
    again, wanted = checkpoint.load_weights([path], synthetic_model), expected_weights(synthetic_model)
    for name, value in again.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, wanted[name], rtol=2**-10, atol=2**-24)
    assert checkpoint_digest(again) != digest(synthetic_model)


def test_values_too_large_for_half_precision_are_named(tmp_path: Path) -> None:
    model = SPMTracker()
    with torch.no_grad():
        model.fine.norm_deep.running_var[3] = 1e6
    with pytest.raises(CheckpointError, match=r"too large for float16: fine\.norm_deep\.running_var"):
        save_checkpoint(model, tmp_path / "h.safetensors", half=True)
    assert list(tmp_path.iterdir()) == []


def test_metadata_is_kept_beside_the_format(tmp_path: Path) -> None:
    from safetensors import safe_open

    (path,) = save_checkpoint(EMPTY, tmp_path / "w.safetensors", metadata={"note": "mine", "format": "other"})
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"note": "mine", "format": header.FORMAT}


@pytest.mark.parametrize("half", [False, True])
def test_a_checkpoint_says_which_model_it_is_of(half: bool, light_model: SPMTracker, tmp_path: Path) -> None:
    (path,) = save_checkpoint(light_model, tmp_path / "w.safetensors", half=half)
    found = load_model([path])
    assert found.spec == light_model.spec
    assert (checkpoint_digest(expected_weights(found)) == checkpoint_digest(expected_weights(light_model))) is not half
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_model([path], ModelSpec())


@pytest.mark.parametrize("told", ["{", "[]", '{"backbone": "alexnet"}'])
def test_a_header_without_sense_is_refused(told: str, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", {"model": told})
    with pytest.raises(CheckpointError, match="its header says nothing sensible of the network"):
        load_model([tmp_path / "w.safetensors"])


@pytest.mark.parametrize("name", ["w.pt", "w.onnx", "w.pth"])
def test_other_names_are_refused_for_writing(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"\.safetensors, or a folder"):
        save_checkpoint(EMPTY, tmp_path / name)


def test_digest_depends_on_names_shapes_and_values() -> None:
    base = {"a": torch.zeros(2, 3)}
    others = [{"b": torch.zeros(2, 3)}, {"a": torch.zeros(3, 2)}, {"a": torch.ones(2, 3)}, {}]
    assert checkpoint_digest(base) == checkpoint_digest({"a": torch.zeros(2, 3, dtype=torch.float16)})
    assert len({checkpoint_digest(w) for w in (base, *others)}) == 5


def test_official_names_are_a_bijection() -> None:
    meaningless = ("num_batches", "rpn_head.z_cls_weights", "rpn_head.z_bbox_weights")
    names = [name for state in checkpoint.to_official(expected_weights(EMPTY)) for name in state]
    kept = [name for name in names if not any(part in name for part in meaningless)]
    assert len(kept) == len(set(kept)) == len(expected_weights(EMPTY))


# Keys.


def without(state: State, *names: str) -> State:
    return {name: value for name, value in state.items() if name not in names}


def error_of(paths: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_weights(paths, EMPTY)
    return str(caught.value)


def test_everything_wrong_is_named_in_one_error(states: States, write: Write) -> None:
    coarse = without(states[0], "z_net.conv3.conv.bias") | {
        "z_net.conv9.conv.bias": torch.zeros(3),
        "rpn_head.bbox_refine.weight": torch.zeros(20, 20),
    }
    fine = states[1] | {
        "rcnn_cls.bias": torch.tensor([torch.nan, 1.0]),
        "rcnn_bbox.bias": torch.zeros(4, dtype=torch.int32),
        "siam_fusion.linear_layers.linear1.bias": torch.full((256,), torch.inf),
    }
    message = error_of(write(coarse, fine))
    for part in (
        "missing backbone.conv3.bias [384]",
        "unexpected z_net.conv9.conv.bias",
        "coarse.refine.weight has shape [20, 20] instead of [20, 20, 1, 1]",
        "fine.classify.bias has values that are not finite",
        "fine.regress.bias has type torch.int32",
        "fine.linear2.bias has values that are not finite",
        "stage0.pt",
        "stage1.pt",
    ):
        assert part in message


def test_of_many_wrong_tensors_some_are_named_and_the_rest_counted(states: States, write: Write) -> None:
    fine = {f"{name}.old": value for name, value in states[1].items()} | {"rcnn_cls.bias": states[1]["rcnn_cls.bias"]}
    message = error_of(write(fine=fine))
    assert message.count("missing fine.") == 12
    assert message.endswith("; and 25 more")
    assert "\n" not in message


@pytest.mark.parametrize("shape", [(10,), (1, 10, 1), (5,), (1, 10, 1, 2)])
def test_class_bias_has_its_shape(shape: tuple[int, ...], states: States, write: Write) -> None:
    paths = write(states[0] | {"rpn_head.cls_bias": torch.zeros(shape)})
    if shape == (10,):
        assert load_model(paths).coarse.classify_bias.shape == (10,)
    else:
        assert "coarse.classify_bias has shape" in error_of(paths)


def test_files_that_are_no_pair_are_named(synthetic_checkpoint: Pair, tmp_path: Path) -> None:
    coarse, fine = synthetic_checkpoint
    for paths, message in (
        ([coarse, coarse], "both are coarse-stage files"),
        ([fine, fine], "neither is a coarse-stage file"),
        ([coarse], "the coarse stage alone; a checkpoint needs both, give fm_stage.pt beside it"),
        ([fine], "the fine stage alone; a checkpoint needs both, give cm_stage.pt beside it"),
        ([coarse, default_weights()], "holds both stages already; give it alone"),
        ([coarse, fine, default_weights()], "3 files given"),
        ([coarse, tmp_path / "nothing.pt"], "nothing.pt: no such file"),
        ([coarse, Path(os.devnull)], "no regular file"),
        ([coarse, tmp_path / ("n" * 300)], "no such file"),
        ([tmp_path], "a folder; give the files in it"),
    ):
        assert message in error_of(paths)


def weird(**changes: Any) -> Callable[[State], State]:
    return lambda state: state | {name.replace("__", "."): value for name, value in changes.items()}


WEIRD: dict[str, tuple[Callable[[State], Any], str]] = {
    "two sets of weights": (
        lambda state: {"state_dict": state, "ema": dict(state)},
        "stands in it twice, as state_dict.feat_extractor.bn_list.0.weight and ema.feat",
    ),
    "another model": (
        lambda state: {"layer1.0.conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(1)},
        r"the weights of another model: none of its 2 tensors \(layer1.0.conv1.weight, fc.bias",
    ),
    "beyond float32": (weird(rcnn_cls__bias=torch.full((2,), 1e300, dtype=torch.float64)), "not finite in float32"),
    "complex": (weird(rcnn_cls__bias=torch.zeros(2, dtype=torch.complex64)), "has type torch.complex64"),
    "int8": (weird(rcnn_cls__bias=torch.zeros(2, dtype=torch.int8)), "has type torch.int8 instead of a float type"),
    "float4": (
        weird(rcnn_cls__bias=torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)),
        "fine.classify.bias is of type torch.float4_e2m1fn_x2",
    ),
    "sparse": (weird(rcnn_cls__bias=torch.ones(2).to_sparse()), "layout torch.sparse_coo, which cannot be read"),
    "without values": (weird(rcnn_cls__bias=torch.empty(2, device="meta")), "is without values, which cannot be read"),
    "numpy's numbers": (
        weird(best=np.float64(0.7)),
        r"refused, the file holds more than plain tensors: to open it, numpy\S*scalar would have to be run",
    ),
    "options": (weird(options=argparse.Namespace(lr=1)), "argparse.Namespace would have to be run"),
}


@pytest.mark.parametrize(("make", "message"), WEIRD.values(), ids=WEIRD.keys())
def test_what_is_in_the_way_is_named(make: Callable[[State], Any], message: str, states: States, write: Write) -> None:
    found = error_of(write(fine=make(states[1])))
    assert re.search(message, found)
    assert "\n" not in found


@pytest.mark.parametrize(
    "state",
    [[1, 2], {"a": 1}, {1: torch.zeros(1)}, torch.zeros(3), "text", {"a": {}}],
    ids=["list", "number", "int key", "tensor", "text", "nested"],
)
def test_something_else_than_a_state_dictionary_is_refused(state: Any, write: Write) -> None:
    assert "not a state dictionary" in error_of(write(fine=state))


# Damaged and foreign files.


@pytest.mark.parametrize("container", ["zip", "old", "safetensors"])
def test_a_file_cut_short_is_refused(
    container: str, states: States, tmp_path: Path, synthetic_checkpoint: Pair
) -> None:
    path, beside, message = tmp_path / "fm_stage.pt", [synthetic_checkpoint[0]], "fm_stage.pt"
    if container == "safetensors":
        (path,) = save_checkpoint(EMPTY, tmp_path / "w.safetensors", half=True)
        beside, message = [], "w.safetensors: "
    else:
        torch.save(states[1], path, _use_new_zipfile_serialization=container == "zip")
    spread = np.linspace(0, path.stat().st_size - 1, 25).astype(int).tolist()
    for length in sorted({0, 1, 7, 8, 9, 10, 100, 1000, *spread}, reverse=True):
        os.truncate(path, length)
        assert message in error_of([*beside, path]), length


def zip_file(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")


FOREIGN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("weights? what weights?\n"),
    "zip": zip_file,
    "zeros": lambda path: path.write_bytes(bytes(1000)),
    "noise": lambda path: path.write_bytes(np.random.default_rng(1).bytes(5000)),
    "pickle of a list": lambda path: path.write_bytes(pickle.dumps([1, 2, 3], 2)),
    "pickle of a state": lambda path: path.write_bytes(pickle.dumps({"a": np.zeros(3)}, 2)),
    "html": lambda path: path.write_text("<!DOCTYPE html><html>quota exceeded</html>"),
    "safetensors": lambda path: save_file({"a": torch.zeros(3)}, path),
}


def holds_itself(state: State) -> Any:
    outer: State = {"state_dict": state}
    outer["self"] = outer
    return outer


def shared_a_billion_times(state: State) -> Any:
    content: Any = state
    for _ in range(9):
        content = [content] * 10
    return content


@pytest.mark.parametrize("wrap", [holds_itself, shared_a_billion_times])
def test_wrappers_that_lead_in_circles_end(
    wrap: Callable[[State], Any], states: States, write: Write, synthetic_model: SPMTracker
) -> None:
    assert digest(load_model(write(fine=wrap(states[1])))) == digest(synthetic_model)


MISTAKEN = {
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 106\n", "a pointer of Git LFS"),
    "html": (b"\n<!DOCTYPE html>\n<html><head><title>Google Drive</title>", "a web page instead of the weights"),
    "html in capitals": (b"<HTML><BODY>404</BODY></HTML>", "a web page instead of the weights"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(60), "a compressed archive: unpack it"),
    "tar": (b"x.pt" + bytes(96) + b"0000644\0" * 3 + b"0" * 133 + b"ustar\x0000" + bytes(300), "a tar archive: unpack"),
    "index": (b'{\n  "metadata": {},\n  "weight_map": {}}', "a JSON file without weights"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "a file of Keras"),
    "empty": (b"", "an empty file"),
}


@pytest.mark.parametrize(("content", "message"), MISTAKEN.values(), ids=MISTAKEN.keys())
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_what_is_no_file_of_weights_is_called_by_its_name(
    content: bytes, message: str, suffix: str, tmp_path: Path, synthetic_checkpoint: Pair
) -> None:
    path = tmp_path / f"fm_stage.{suffix}"
    path.write_bytes(content)
    assert message in error_of([synthetic_checkpoint[0], path])


def test_a_file_of_pytorch_may_be_called_safetensors(
    states: States, synthetic_checkpoint: Pair, tmp_path: Path
) -> None:
    for old in (False, True):
        torch.save(states[1], tmp_path / "w.safetensors", _use_new_zipfile_serialization=not old)
        load_model([synthetic_checkpoint[0], tmp_path / "w.safetensors"])


def test_a_damaged_byte_is_found_by_the_checksums_of_the_container(
    states: States, synthetic_checkpoint: Pair, tmp_path: Path
) -> None:
    path = tmp_path / "fm_stage.pt"
    torch.save(states[1], path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "cut short or damaged (BadZipFile: Bad CRC-32" in error_of([synthetic_checkpoint[0], path])


def test_a_container_without_checksums_is_read(states: States, synthetic_checkpoint: Pair, tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(states[1], tmp_path / "fm_stage.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    load_model([synthetic_checkpoint[0], tmp_path / "fm_stage.pt"])


def test_archives_that_are_not_of_torch_save_are_called_by_their_name(tmp_path: Path) -> None:
    zip_file(tmp_path / "zip.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "jit.pt")
    assert "an archive of other files (readme.txt): unpack it" in error_of([tmp_path / "zip.pt"])
    assert "a TorchScript program, not weights" in error_of([tmp_path / "jit.pt"])


@pytest.mark.parametrize("here", [True, False])
def test_the_default_weights_may_be_missing_and_where_they_are_is_said(
    here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package of that name is found; without it, the message says how to get it."""
    monkeypatch.setattr(checkpoint, "__file__", str(tmp_path / "spm_export" / "model" / "checkpoint.py"))
    monkeypatch.syspath_prepend(str(tmp_path))
    if here:
        (tmp_path / "spm_weights").mkdir()
        (tmp_path / "spm_weights" / "spm_alexnet.safetensors").write_bytes(b"x")
        assert default_weights() == tmp_path / "spm_weights" / "spm_alexnet.safetensors"
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert "pip install ./export/weights" in error_of([])


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_files_in_place_of_official_ones_or_of_safetensors_are_refused(
    make: Callable[[Path], object], tmp_path: Path, synthetic_checkpoint: Pair
) -> None:
    official, single = tmp_path / "strange.pt", tmp_path / "strange.safetensors"
    for path, beside in ((official, [synthetic_checkpoint[0]]), (single, [])):
        make(path)
        assert path.name in error_of([*beside, path])


class Trap:
    """Pickles as a call that creates a file when it is loaded carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("container", ["zip", "old", "plain pickle"])
def test_a_malicious_pickle_is_refused_and_not_run(
    container: str, states: States, tmp_path: Path, synthetic_checkpoint: Pair
) -> None:
    mark, path = tmp_path / "was here", tmp_path / "fm_stage.pt"
    state = states[1] | {"rcnn_bbox.bias": Trap(mark)}
    if container == "plain pickle":
        path.write_bytes(pickle.dumps({"a": Trap(mark)}, 2))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=container == "zip")
    assert "refused" in error_of([synthetic_checkpoint[0], path])
    assert not mark.exists()
    pickle._loads(pickle.dumps(Trap(mark)))
    assert mark.exists()  # the trap does work where nobody looks


def test_a_whole_model_is_refused(synthetic_checkpoint: Pair, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    message = error_of([synthetic_checkpoint[0], tmp_path / "model.pt"])
    assert "model.pt: refused, the file holds more than plain tensors" in message


# Writing.


@pytest.mark.parametrize("name", ["w.safetensors", "official"])
def test_a_full_disk_is_an_error_with_a_name_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    with full_disk(1_000_000), pytest.raises(CheckpointError, match=f"{name}: cannot be written"):
        save_checkpoint(EMPTY, tmp_path / name)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_place_that_is_taken_is_an_error_with_a_name(tmp_path: Path) -> None:
    (tmp_path / "official").write_text("a file")
    with pytest.raises(CheckpointError, match="official: cannot be written"):
        save_checkpoint(EMPTY, tmp_path / "official")
