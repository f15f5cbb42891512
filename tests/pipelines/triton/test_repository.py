"""What ``spm-export BUNDLE --triton FOLDER`` writes; nothing that is there is replaced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spm_export.cli import main
from spm_rt import Bundle
from spm_rt.bundle.contract import contract
from spm_rt.bundle.forms import STAGES

from ...support.fakes.bundle import small_bundle

MODELS = ["spm_relation", "spm_search", "spm_template", "spm_tracker"]


def test_the_repository_has_the_tracker_with_its_bundle_and_the_graphs(tmp_path: Path) -> None:
    bundle, models = small_bundle(tmp_path / "bundle"), tmp_path / "models"
    options = ["--triton-idle", "7.5", "--triton-sequences", "3", "--triton-backend", "openvino", "--quiet"]
    assert main([str(bundle), "--triton", str(models), *options]) == 0
    assert sorted(path.name for path in models.iterdir()) == MODELS
    config = (models / "spm_tracker" / "config.pbtxt").read_text("utf-8")
    assert "max_sequence_idle_microseconds: 7500000" in config
    assert "max_candidate_sequences: 3" in config
    assert 'key: "backend" value: { string_value: "openvino" }' in config
    served = Bundle.open(models / "spm_tracker" / "1" / "bundle")
    assert served.manifest == Bundle.open(bundle).manifest
    for stage in STAGES:
        folder = models / f"spm_{stage}"
        assert sorted(path.name for path in (folder / "1").iterdir()) == ["model.onnx", "weights.safetensors"]
        named = re.findall(r'name: "(\w+)" data_type: TYPE_FP32', (folder / "config.pbtxt").read_text("utf-8"))
        assert named == [name for side in contract(served.spec, 1)[stage].values() for name in side]


def test_graphs_with_their_weights_are_those_of_the_bundle(tmp_path: Path, default_bundle: Path) -> None:
    import onnxruntime

    assert main([str(default_bundle), "--triton", str(tmp_path / "models"), "--quiet"]) == 0
    for stage in STAGES:
        folder = tmp_path / "models" / f"spm_{stage}"
        session = onnxruntime.InferenceSession(folder / "1" / "model.onnx", providers=["CPUExecutionProvider"])
        config = (folder / "config.pbtxt").read_text("utf-8")
        for end in (*session.get_inputs(), *session.get_outputs()):
            sizes = ", ".join(str(size) if isinstance(size, int) else "-1" for size in end.shape)
            assert f'name: "{end.name}" data_type: TYPE_FP32 dims: [ {sizes} ]' in config


def test_models_that_are_there_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, other = small_bundle(tmp_path / "bundle"), tmp_path / "models" / "spm_search"
    other.mkdir(parents=True)
    assert main([str(bundle), "--triton", str(tmp_path / "models")]) == 1
    assert "spm_search exists; remove it, or give another folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["spm_search"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--triton", "models", "--out", "bundle"], "--triton takes a bundle that is there: --out cannot go with it"),
        (["--triton-idle", "3", "--out", "bundle"], "--triton-idle: only with --triton"),
        (["--triton", "models", "--engine", "tensorrt"], "--triton cannot go with it"),
        (["--triton", "models", "--triton-batch", "0"], "--triton-batch"),
    ],
)
def test_options_that_would_do_nothing_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), *options])
    assert words in capsys.readouterr().err
