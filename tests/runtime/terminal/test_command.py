"""How a command ends: one line and an exit status, whatever happens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spm_rt.errors import SourceError
from spm_rt.terminal import EXTRAS, Stopped, run_command, say, stop_signals

from ...support.layers import ROOT

Capture = pytest.CaptureFixture[str]


def raising(error: BaseException) -> Callable[[], int]:
    def function() -> int:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (SourceError("v.mp4: no such file"), 1, "v.mp4: no such file"),
        (SourceError("two\nlines \udcff"), 1, r"two lines \udcff"),
        (FileNotFoundError(2, "No such file or directory", "x.csv"), 1, "x.csv: No such file or directory"),
        (ModuleNotFoundError("No module", name="onnx.reference"), 1, "onnx is not installed: .*spm-rt[export]'"),
        (ModuleNotFoundError("No module", name="av"), 1, "av is not installed: .*spm-rt[video]'"),
        (ImportError("libx.so: no such file", name="openvino._x"), 1, "openvino is installed and cannot be imported"),
        (ModuleNotFoundError("No module named 'x'", name="x"), 1, "internal error: ModuleNotFoundError: No module"),
        (MemoryError(), 1, "out of memory"),
        (TypeError("what"), 1, "internal error: TypeError: what (SPM_RT_DEBUG=1 shows where"),
        (RecursionError("deep"), 1, "internal error: RecursionError: deep"),
        (KeyboardInterrupt(), 130, "stopped by SIGINT"),
        (KeyboardInterrupt("kept it"), 130, "kept it"),
        (Stopped(signal.SIGTERM), 143, "stopped by SIGTERM"),
    ],
    ids=str,
)
def test_whatever_ends_it_is_one_line_and_a_status(
    error: BaseException, status: int, line: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPM_RT_DEBUG", raising=False)
    assert run_command("spm-x", raising(error)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert re.match("spm-x: " + re.escape(line).replace(r"\.\*", ".*"), err)
    assert err.count("\n") == 1


def test_a_reader_that_went_away_is_quiet(capsys: Capture) -> None:
    assert run_command("spm-x", raising(BrokenPipeError(32, "Broken pipe"))) == 1
    assert capsys.readouterr() == ("", "")


def test_the_extra_of_the_command_is_named_where_it_has_one(capsys: Capture) -> None:
    run_command("spm-train", raising(ModuleNotFoundError("No module", name="torch")), extra="train")
    assert "pip install 'spm-rt[train]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("library", "body", "said"),
    [
        ("av", "raise OSError('libx.so.1: cannot open shared object file')", "OSError: libx.so.1: cannot open shared"),
        ("torch", "import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("openvino", "1 / 0", "ZeroDivisionError: division by zero"),
        ("matplotlib", "import av", "av"),
        ("tqdm", "raise AttributeError('numpy has no x')", "AttributeError: numpy has no x"),
        ("numpy", "raise ImportError('a wheel of another machine')", "ImportError: a wheel of another machine"),
    ],
)
def test_a_library_that_breaks_when_it_is_imported_is_named_with_its_reason(
    library: str, body: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / f"{library}.py").write_text(body)
    script = SCRIPT.format(body=f"sys.path.insert(0, {str(tmp_path)!r}); import {library}")
    if library == "matplotlib":
        (tmp_path / "av.py").write_text("raise ValueError('two')")
        said = "ValueError: two"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"spm-x: {library} is installed and cannot be imported ({said}")
    assert done.stderr.count("\n") == 1


STARTED = """
import importlib, os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == {library!r}:
            os.kill(os.getpid(), signal.{name})

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["x", "--version"]
sys.exit(importlib.import_module({module!r}).main())
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("program", ["spm-track", "spm-export", "spm-bench", "spm-train"])
def test_a_signal_while_a_command_is_being_imported_is_one_line(program: str, name: str, status: int) -> None:
    entry = re.search(rf'^{program} = "(.*):main"', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert entry is not None
    first = "spm_rt.cli.options" if program == "spm-track" else entry[1].replace("__main__", "cli")
    script = STARTED.format(module=entry[1], library=first, name=name)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (status, f"{program}: stopped by {name}\n")


@pytest.mark.parametrize("module", ["spm_rt.cli", "spm_export.__main__", "spm_bench.__main__", "spm_train.__main__"])
def test_what_starts_a_command_imports_no_library(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'numpy', 'cv2', 'spm_rt.settings'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_extra_that_is_named_installs_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    written = {"cuda": "cuda-bindings", "yaml": "pyyaml"}
    for package, extra in EXTRAS.items():
        found = re.search(rf"^{extra} = (.*(?:\n[ \]].*)*)", text, re.M)
        assert found is not None
        assert written.get(package, package.replace("_", "-")) in found[1]


def test_the_traceback_is_shown_where_it_is_asked_for(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPM_RT_DEBUG", "1")
    assert run_command("spm-x", raising(TypeError("what"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_what_argparse_raises_passes() -> None:
    with pytest.raises(SystemExit) as caught:
        run_command("spm-x", raising(SystemExit(2)))
    assert caught.value.code == 2


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_signals_that_ask_to_end_let_it_tidy_up(name: str, status: int, capsys: Capture) -> None:
    number, tidied = getattr(signal, name), []
    before = signal.getsignal(number)

    def function() -> int:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            tidied.append(name)
        return 0

    assert run_command("spm-x", function) == status
    assert tidied == [name]
    assert capsys.readouterr().err == f"spm-x: stopped by {name}\n"
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals(lambda number, frame: pytest.fail("handled")):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


SCRIPT = """
import sys
from spm_rt.terminal import run_command
def function():
    {body}
    return 0
sys.exit(run_command("spm-x", function))
"""


@pytest.mark.parametrize(
    ("body", "redirection", "status", "err"),
    [
        ("[print('x' * 100) for _ in range(10000)]", "| head -1 > /dev/null; exit ${PIPESTATUS[0]}", 1, ""),
        ("import argparse; argparse.ArgumentParser().parse_args(['-h'])", ">&-", 0, ""),
        ("print('x')", ">&-", 0, ""),
        ("raise TypeError", "2>&-", 1, ""),
        ("print('x')", "> /dev/full", 1, "spm-x: No space left on device\\n"),
        ("print('\\\\udcff')", "", 0, ""),
        ("sys.exit(2)", "> /dev/full", 2, ""),
    ],
)
def test_standard_streams_may_be_closed_full_or_left(
    body: str, redirection: str, status: int, err: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(body=body.replace("\\\\", "\\")))
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {script} {redirection}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr.replace("standard output: ", "")) == (status, err.replace("\\n", "\n"))


def test_a_line_for_people_stays_one_line(capsys: Capture) -> None:
    say("a\rb\x1b[31m\n")
    assert capsys.readouterr().err == "a b\\x1b[31m \n"
