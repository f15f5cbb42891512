"""The command ``spm-page``."""

from __future__ import annotations

import argparse
import secrets
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ... import __version__
from ...errors import SourceError
from ...terminal import WHICH_BUNDLE, default_bundle, say, whole_number

EPILOG = """examples:
  spm-page videos/                                  what lies below that folder can be opened, and nothing else
  spm-page videos/ rtsp://camera/stream 0           a stream and a camera besides
  spm-page videos/ --bundle spm_alexnet --bundle spm_int8     two bundles, to be compared side by side

The page is for this machine alone (127.0.0.1). With --host ADDRESS others can open it, who know the key that is in the
address printed then; nothing is encrypted. Ctrl-C ends it.
"""


def make_parser() -> argparse.ArgumentParser:
    """The options of ``spm-page``."""
    parser = argparse.ArgumentParser(
        prog="spm-page",
        description="Track in the browser: draw the first box, watch, correct, compare two trackers, download.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"spm-rt {__version__}")
    parser.add_argument(
        "sources",
        nargs="*",
        default=["."],
        metavar="SOURCE",
        help="folders, videos, addresses of streams, numbers of cameras that may be opened (default: this folder)",
    )
    parser.add_argument(
        "--bundle",
        action="append",
        metavar="FOLDER",
        help=f"what spm-export wrote; again for further ones {WHICH_BUNDLE}",
    )
    parser.add_argument("--backend", default="auto", metavar="NAME", help="inference library at first (default auto)")
    parser.add_argument("--threads", type=whole_number(1), metavar="N", help="threads per inference call")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default 127.0.0.1)")
    parser.add_argument("--port", type=whole_number(0), default=8765, metavar="N", help="default 8765; 0: a free one")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a further name that the page is served under"
    )
    parser.add_argument(
        "--upload-mb", type=whole_number(0), default=1000, metavar="N", help="room for uploaded videos (default 1000)"
    )
    parser.add_argument(
        "--record-mb",
        type=whole_number(1),
        default=2000,
        metavar="N",
        help="room on the disk for pictures of a source: to scrub, and for what a stream showed (default 2000)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see ``--help``."""
    options = make_parser().parse_args(arguments)
    from http.server import HTTPServer

    from werkzeug.serving import WSGIRequestHandler, make_server

    from .app import Runs, make_app
    from .guard import is_loopback
    from .lanes import Trackers
    from .places import Places

    # Connections stay open, and nothing is printed: a page asks for thirty pictures a second.
    ways = {"protocol_version": "HTTP/1.1", "log_request": lambda *_: None}
    handler = type("Handler", (WSGIRequestHandler,), ways)
    local = is_loopback(options.host)
    key = None if local else secrets.token_urlsafe(16)
    bundles = options.bundle or [default_bundle()]
    with tempfile.TemporaryDirectory(prefix="spm_page.") as uploads:
        places = Places(options.sources, Path(uploads), options.upload_mb * 1_000_000)
        runs = Runs(Trackers(bundles, options.backend, options.threads), options.record_mb * 1_000_000)
        app = make_app(places, runs, local=local, names=tuple(options.allow_host), key=key)
        listening = _listen(options.host, options.port)
        port = listening.getsockname()[1]
        server = make_server(options.host, port, app, threaded=True, request_handler=handler, fd=listening.fileno())
        shown = f"[{options.host}]" if ":" in options.host else options.host
        print(f"http://{shown}:{port}/" + (f"?key={key}" if key else ""), flush=True)
        if not local:
            say("spm-page: others can open this page, if they know the key; what they send is not encrypted")
        try:
            HTTPServer.serve_forever(server)  # werkzeug's own takes Ctrl-C for a good end
        finally:
            runs.close()
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        SourceError: the address or the port cannot be had.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise SourceError(f"--host {host} --port {port}: cannot listen there ({error.strerror or error})") from error


if __name__ == "__main__":
    sys.exit(main())
