"""Run by the system's Python: a pipeline with ``spmtrack``, as GStreamer's loader finds it.

Arguments: bundle, video, box (x,y,width,height), caps before the element, a folder for its frames as PNG. Prints JSON:
the fields of messages, of parameters directly behind the element, and of metas behind a queue and a conversion.
"""

import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, Gst, GstVideo  # noqa: E402

FIELDS = ("x", "y", "width", "height", "score", "found", "state")
PIPELINE = """
    filesrc location="{video}" ! decodebin ! videoconvert ! videoscale ! video/x-raw,{caps} ! tee name=frames
    frames. ! queue ! spmtrack name=element bundle="{bundle}" backend=onnxruntime threads=1 label=rabbit
        object-initial-x={x} object-initial-y={y} object-initial-width={width} object-initial-height={height}
        ! queue ! videoconvert ! video/x-raw,format=I420 ! fakesink name=end
    frames. ! queue ! videoconvert ! pngenc compression-level=1 ! multifilesink location="{folder}/%05d.png"
"""


def main(bundle: str, video: str, box: str, caps: str, folder: str) -> dict[str, list[object]]:
    Gst.init(None)
    x, y, width, height = box.split(",")
    pipeline = Gst.parse_launch(PIPELINE.format(**locals()))
    found: dict[str, list[object]] = {"messages": [], "parameters": [], "metas": []}

    def behind(pad: Gst.Pad, info: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
        meta = GstVideo.buffer_get_video_region_of_interest_meta_id(info.get_buffer(), 0)
        said = meta.get_param("spmtrack")
        found["parameters"].append([said.get_value(name) for name in FIELDS])
        return Gst.PadProbeReturn.OK

    def at_the_end(pad: Gst.Pad, info: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
        meta = GstVideo.buffer_get_video_region_of_interest_meta_id(info.get_buffer(), 0)
        found["metas"].append([meta.x, meta.y, meta.w, meta.h, GLib.quark_to_string(meta.roi_type)])
        return Gst.PadProbeReturn.OK

    pipeline.get_by_name("element").get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, behind)
    pipeline.get_by_name("end").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, at_the_end)
    pipeline.set_state(Gst.State.PLAYING)
    wanted = Gst.MessageType.ELEMENT | Gst.MessageType.ERROR | Gst.MessageType.EOS
    while (message := pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, wanted)).type != Gst.MessageType.EOS:
        said = message.get_structure()
        if message.type == Gst.MessageType.ERROR:
            sys.exit(str(message.parse_error()))
        if said.get_name() == "spmtrack":
            found["messages"].append([said.get_value(name) for name in (*FIELDS, "pts")])
    pipeline.set_state(Gst.State.NULL)
    return found


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
