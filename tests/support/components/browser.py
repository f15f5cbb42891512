"""A browser for tests: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

QUIET = ("gpu", "quic", "background-networking", "component-update", "sync")


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser; skips the test where there is none (.ci/run installs it)."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install 'spm-rt[dev]'")
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    options = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in QUIET)]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()
