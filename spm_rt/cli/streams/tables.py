"""Results of several sources as lines, each with its source."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from ...media.protocol import SourceFrame
from ...outputs.base import Request, Targets, Written, naming
from ...outputs.destinations import check_destinations
from ...outputs.lines import LineFile
from ...outputs.tables import COLUMNS, csv_rows, jsonl_rows


class SourceTables:
    """CSV and JSON lines; a context manager. What was written until an error is kept, and complete.

    Args:
        requests: of kind ``csv`` or ``jsonl``.
        sources: none of them becomes an output.
        bundle: nor does a file of it.

    Raises:
        SourceError: what cannot be written.
    """

    def __init__(self, requests: Sequence[Request], sources: Sequence[str], bundle: str) -> None:
        for source in sources:
            check_destinations(requests, source, bundle, ["target"])
        self._requests = requests
        self._files: list[LineFile] = []
        self._frames = 0
        try:
            for kind, path, _ in requests:
                with naming(path):
                    self._files.append(LineFile(path, whole=kind == "csv"))
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> SourceTables:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def write(self, source: str, frame: SourceFrame, targets: Targets) -> None:
        """One frame of a source.

        Raises:
            SourceError: it cannot be written; nothing of it is.
        """
        self._frames += 1
        for (kind, path, _), file in zip(self._requests, self._files, strict=True):
            with naming(path):
                if kind == "csv":
                    header = ",".join([*COLUMNS, "source"]) + "\n" if self._frames == 1 else ""
                    file.write(header + csv_rows(frame, targets, source)[0])
                else:
                    file.write(jsonl_rows(frame, targets, source=source)[0])

    def finish(self) -> list[Written]:
        """Complete the files; what became of each."""
        for file, (_, path, _) in zip(self._files, self._requests, strict=False):
            with naming(path):
                file.finish(self._frames > 0)
        self._close()
        self._files = []
        return [Written(path, self._frames) for _, path, _ in self._requests]

    def _close(self) -> None:
        for file in self._files:
            file.close()
