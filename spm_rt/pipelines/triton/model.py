"""What Triton's Python backend runs: ``TritonPythonModel``, and nothing else of Triton in it but tensors."""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

START, END = 1, 2
"""Flags of a request."""
_MARGIN = 0.5
"""Seconds that a tracker outlives its sequence in Triton, which counts from another moment."""


class TritonPythonModel:
    """The model ``spm_tracker`` of a repository. Triton makes one and calls the three methods below."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the bundle that lies beside ``model.py``.

        Args:
            args: of Triton: the configuration as JSON, the folder of the repository, and more.
        """
        pb_utils = importlib.import_module("triton_python_backend_utils")  # exists within Triton only

        config = json.loads(args["model_config"])
        said = {name: value["string_value"] for name, value in config["parameters"].items()}
        # Of pictures in compressed files, OpenCV is to refuse too large ones before it decodes them.
        os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", said["most_pixels"])
        from ...trackers.batch import BatchTracker
        from .sequences import Sequences

        folder = Path(args["model_repository"], args["model_version"], "bundle")
        batch = int(config["max_batch_size"])
        tracker = BatchTracker.load(
            folder,
            said["backend"],
            said["device"],
            threads=int(said["threads"]) or None,
            per_call=int(said["per_call"]) or None,
        )
        tracker.measure(batch)
        idle = int(config["sequence_batching"]["max_sequence_idle_microseconds"]) / 1e6
        self._pb = pb_utils
        alive = int(config["sequence_batching"]["oldest"]["max_candidate_sequences"])
        self._sequences = Sequences(tracker, idle + _MARGIN, int(said["most_pixels"]), 2 * alive)
        family = pb_utils.MetricFamily(
            name="spm_sequences", description="Sequences that have a tracker", kind=pb_utils.MetricFamily.GAUGE
        )
        self._gauge = family.Metric(labels={"model": args["model_name"], "version": args["model_version"]})
        self._family, self._done = family, threading.Event()
        self._thread = threading.Thread(target=self._expire, args=(max(idle / 4, 0.1),), daemon=True)
        self._thread.start()
        pb_utils.Logger.log_info(f"spm_rt: {tracker.backend.description}, idle sequences end after {idle:g} s")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests, each of another sequence."""
        from ...errors import SpmError, in_words

        asked = [self._asked(request) for request in requests]
        try:
            answers = self._sequences.answer(asked)
        except Exception as error:  # of the inference library: every request is told
            failed = self._pb.TritonError(in_words(error))
            return [self._pb.InferenceResponse(error=failed) for _ in requests]
        finally:
            self._gauge.set(len(self._sequences))
        return [
            self._pb.InferenceResponse(error=self._pb.TritonError(str(answer)))
            if isinstance(answer, SpmError)
            else self._response(answer)
            for answer in answers
        ]

    def finalize(self) -> None:
        """Let go of everything."""
        self._done.set()
        self._thread.join(10)
        self._sequences.close()

    def _asked(self, request: Any) -> Any:
        """A request in our terms; tensors have a leading axis of 1, the batch's."""
        from .sequences import Asked
        from .tensors import array_of

        given = {name: self._pb.get_input_tensor_by_name(request, name) for name in ("FRAME", "JPEG", "BOX")}
        frame, encoded, box = (None if tensor is None else array_of(tensor)[0] for tensor in given.values())
        flags = request.flags()
        return Asked(
            request.correlation_id(),
            frame,
            encoded,
            None if box is None else [float(v) for v in box],
            bool(flags & START),
            bool(flags & END),
        )

    def _response(self, answer: Any) -> Any:
        import numpy as np

        from .tensors import capsule

        outputs = {
            "BOX": np.array([answer.box], np.float64),
            "SCORE": np.array([[answer.score]], np.float64),
            "FOUND": np.array([[answer.found]], np.bool_),
        }
        tensors = [self._pb.Tensor.from_dlpack(name, capsule(array)) for name, array in outputs.items()]
        return self._pb.InferenceResponse(tensors)

    def _expire(self, pause: float) -> None:
        while not self._done.wait(pause):
            self._sequences.expire()
            self._gauge.set(len(self._sequences))
