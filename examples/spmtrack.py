"""The element spmtrack of GStreamer, which finds this file in a folder `python` below one of GST_PLUGIN_PATH:

gst-launch-1.0 -m filesrc location=VIDEO ! decodebin ! videoconvert ! spmtrack bundle=BUNDLE object-initial-x=193 \
    object-initial-y=158 object-initial-width=57 object-initial-height=72 ! fakesink

By itself, it prints what the element posts: /usr/bin/python3 examples/spmtrack.py BUNDLE VIDEO X,Y,W,H
"""

import sys

from gi.repository import Gst

from spm_rt.pipelines.toolkits.gstreamer import NAME, SpmTrack

__gstelementfactory__ = (NAME, Gst.Rank.NONE, SpmTrack)


def main(bundle: str, video: str, box: str) -> None:
    Gst.Element.register(None, *__gstelementfactory__)
    names = [f"object-initial-{name}" for name in ("x", "y", "width", "height")]
    start = " ".join(f"{name}={value}" for name, value in zip(names, box.split(","), strict=True))
    pipeline = Gst.parse_launch(
        f'filesrc location="{video}" ! decodebin ! videoconvert ! {NAME} bundle="{bundle}" {start} ! fakesink'
    )
    pipeline.set_state(Gst.State.PLAYING)
    wanted = Gst.MessageType.ELEMENT | Gst.MessageType.ERROR | Gst.MessageType.EOS
    while (message := pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, wanted)).type != Gst.MessageType.EOS:
        if message.type == Gst.MessageType.ERROR:
            sys.exit(str(message.parse_error()))
        print(message.get_structure().to_string(), flush=True)
    pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main(*sys.argv[1:])
