"""Targets in several sources at once: python examples/streams.py BUNDLE SOURCE=X,Y,W,H [SOURCE=X,Y,W,H ...]"""

import sys

from spm_rt.pipelines.streams import StreamTracker


def main(bundle: str, *given: str) -> None:
    with StreamTracker.load(bundle) as streams:
        for number, one in enumerate(given, 1):
            source, _, box = one.rpartition("=")
            streams.add(f"stream{number}", source, {"target": [float(value) for value in box.split(",")]})
        for result in streams:  # a live source's newest frame, every frame of a file
            tracked = result.targets["target"]
            state = tracked.result.state if tracked.result else "given"
            print(result.stream, result.frame.index, [round(value, 1) for value in tracked.box], state)
        for name, report in streams.report().items():
            print(f"{name}: {report.tracked} tracked, {report.dropped} dropped", report.error or "", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
