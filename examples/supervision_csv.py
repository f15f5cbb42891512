"""Results through supervision: python examples/supervision_csv.py BUNDLE VIDEO X,Y,W,H OUT.csv"""

import sys

import supervision

from spm_rt import MultiTracker
from spm_rt.media.video import frames
from spm_rt.pipelines.toolkits.supervision import to_detections


def main(bundle: str, video: str, box: str, out: str) -> None:
    tracker = MultiTracker.load(bundle)
    pictures = frames(video)
    tracker.add(next(pictures), [float(value) for value in box.split(",")])
    boxes, labels = supervision.BoxAnnotator(), supervision.LabelAnnotator()
    with supervision.CSVSink(out) as sink:
        for number, picture in enumerate(pictures, 1):
            detections = to_detections(tracker.update(picture), lost=True)
            sink.append(detections, {"frame": number})
            labels.annotate(boxes.annotate(picture.copy(), detections), detections)


if __name__ == "__main__":
    main(*sys.argv[1:])
