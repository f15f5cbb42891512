"""Run by the system's Python: an RTSP server of GStreamer at 127.0.0.1, whose live video is a moving ball.

Argument: the port, or 0 for any. Prints the port, and serves until it is killed.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

if __name__ == "__main__":
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
    factory = GstRtspServer.RTSPMediaFactory(shared=True)
    video = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=160,height=120,framerate=25/1"
    factory.set_launch(f"( {video} ! jpegenc ! rtpjpegpay name=pay0 )")
    server.get_mount_points().add_factory("/ball", factory)
    if not server.attach(None):
        sys.exit("the port is taken")
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()
