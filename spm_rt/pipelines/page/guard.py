"""Who may ask: the page itself, in a browser that was sent to this address on purpose.

A browser shows pages of strangers beside ours. They can send requests to 127.0.0.1, and a stranger's name can be made
to lead there (DNS rebinding). Therefore ``Host`` has to be an address that no stranger owns, ``Origin`` has to be the
same, and whatever changes something carries a header that pages of other origins cannot set.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from flask import Flask, Request, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from ...errors import SpmError

HEADER = "X-Spm-Page"
COOKIE = "spm_page_key"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Refused(SpmError):
    """A request that is not answered.

    Args:
        message: why.
        status: of HTTP.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def is_loopback(host: str) -> bool:
    """Whether a host is this machine for itself only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def install(app: Flask, *, local: bool, names: Collection[str] = (), key: str | None = None) -> None:
    """Put the guard before every address of an app.

    Args:
        app: the application.
        local: only this machine may ask; otherwise any address in numbers is a good ``Host`` too.
        names: further good hosts.
        key: what an address has to carry once (``/?key=...``), where others than this machine may ask.
    """

    def check() -> AnyResponse | None:
        if not _good_host(request, local, names):
            raise Refused("this page is not served under that name (Host); see --allow-host", 403)
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
            raise Refused("pages of other origins may not ask (Origin)", 403)
        if request.path.startswith("/api/") and request.headers.get("Sec-Fetch-Site", "none") not in (
            "same-origin",
            "none",
        ):
            raise Refused("pages of other sites may not ask (Sec-Fetch-Site)", 403)
        if request.method not in ("GET", "HEAD") and HEADER not in request.headers:
            raise Refused(f"requests that change something carry the header {HEADER}", 403)
        return _check_key(key) if key else None

    def harden(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        return response

    app.before_request(check)
    app.after_request(harden)


def _good_host(asked: Request, local: bool, names: Collection[str]) -> bool:
    host = urlsplit(f"//{asked.host}").hostname or ""
    if is_loopback(host) or host in {name.lower() for name in names}:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return not local


def _check_key(key: str) -> AnyResponse | None:
    if hmac.compare_digest(request.args.get("key", "").encode(), key.encode()):
        answer = redirect("/")
        answer.set_cookie(COOKIE, key, httponly=True, samesite="Strict")
        return answer
    if not hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), key.encode()):
        raise Refused("open the address that spm-page printed: it has the key", 401)
    return None
