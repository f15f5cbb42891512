"""``import spm_rt`` is quick, and gives everything that it names."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

import spm_rt


def test_every_name_is_there_and_each_is_listed() -> None:
    for name in spm_rt.__all__:
        assert getattr(spm_rt, name) is getattr(spm_rt, name)
        assert name in dir(spm_rt)
    assert spm_rt.Tracker.__module__ == "spm_rt.trackers.single"
    with pytest.raises(AttributeError, match="module 'spm_rt' has no attribute 'Traker'"):
        spm_rt.Traker  # type: ignore[attr-defined]  # noqa: B018


def test_modules_need_no_import_of_their_own() -> None:
    code = "import spm_rt; print(spm_rt.backends.available, spm_rt.errors.SpmError, spm_rt.trackers.multi.MultiTracker)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_numpy_and_opencv_wait_for_the_first_name() -> None:
    code = (
        "import sys, spm_rt; early = {'numpy', 'cv2'} & {*sys.modules}; from spm_rt import *; "
        "print(sorted(early), sorted({'numpy', 'cv2'} & {*sys.modules}), Tracker.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[] ['cv2', 'numpy'] Tracker"


def test_nothing_is_printed_by_a_logger_that_nobody_set_up(capfd: pytest.CaptureFixture[str]) -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("spm_rt").handlers)
    code = "import spm_rt, logging; logging.getLogger('spm_rt.any').error('heard')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert capfd.readouterr() == ("", "")
