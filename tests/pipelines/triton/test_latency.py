"""A frame through Triton takes hardly longer than decoding it and tracking it in the same process."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from spm_export.cli import main

from ...support.components.environments import python_of
from ...support.components.triton import tritonserver
from ...support.layers import ROOT

MOST = 1.25


@pytest.mark.slow
def test_a_frame_takes_at_most_a_quarter_longer(tmp_path: Path, default_bundle: Path) -> None:
    python, repository = python_of("triton"), tmp_path / "models"
    assert main([str(default_bundle), "--triton", str(repository), "--triton-backend", "onnxruntime", "--quiet"]) == 0
    with tritonserver(repository, tmp_path, ["spm_tracker"]) as server:
        script = [str(python), str(ROOT / "benchmarks" / "triton_latency.py"), server.addresses["grpc"]]
        done = subprocess.run([*script, str(default_bundle)], capture_output=True, text=True, timeout=600, check=True)
    found = json.loads(done.stdout)
    print(found)
    assert found["boxes_apart"] == 0
    assert found["ratio"] <= MOST
