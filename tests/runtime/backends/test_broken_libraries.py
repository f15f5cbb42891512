"""Libraries that are installed and cannot be used: named with the reason, and ``auto`` takes another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import spm_rt.backends
from spm_rt import BackendError
from spm_rt.backends import BACKENDS, available, chosen_because, load_backend
from spm_rt.backends.registry import BackendEntry

from ...support.fakes.bundle import hollow_bundle

SHARED_OBJECT = "libsomething.so.3: cannot open shared object file: No such file or directory"
IMPORTS = {
    "a shared object missing": f"raise OSError({SHARED_OBJECT!r})",
    "a shared object missing, as import says it": f"raise ImportError({SHARED_OBJECT!r})",
    "one of its own modules missing": "from broken_library import part",
    "made for another numpy": "raise RuntimeError('module compiled against API version 0xf\\nbut this is 0xe')",
    "cut short": "def (",
    "two lines": "raise ImportError('first line\\nsecond line')",
}
LOADS = {
    "half of it": "import broken_library; broken_library.Session",
    "another version": "import json; json.loads(made_later=1)",
}
WORKING = """
class Backend:
    name, description = "working", "a fake that works"
def load(bundle, **options):
    return Backend()
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A library and the backend that uses it, in files to be written; and beside them one that works."""
    for name in ("broken", "working"):
        (tmp_path / f"{name}_library").mkdir()
        (tmp_path / f"{name}_library/__init__.py").touch()
        folder = tmp_path / "backends" / f"fake_{name}"
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "backend.py").write_text(WORKING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(spm_rt.backends, "__path__", [*spm_rt.backends.__path__, str(tmp_path / "backends")])
    monkeypatch.setenv("SPM_RT_CACHE", "off")
    for name in list(BACKENDS):
        monkeypatch.delitem(BACKENDS, name)
    for name in ("broken", "working"):
        entry = BackendEntry(name, f"fake_{name}", f"{name}_library", f"{name}-package", "", on_cpu=True)
        monkeypatch.setitem(BACKENDS, name, entry)
    monkeypatch.setattr(spm_rt.backends, "ON_CPU", tuple(BACKENDS))
    yield tmp_path
    for module in [name for name in sys.modules if "broken" in name or "working" in name]:
        if module.startswith(("broken_library", "working_library", "spm_rt.backends.fake_")):
            del sys.modules[module]


def in_its_way(broken: Path, kind: str) -> None:
    if kind in IMPORTS:
        (broken / "broken_library/__init__.py").write_text(IMPORTS[kind])
    else:
        load = f"def load(bundle, **options):\n    {LOADS[kind]}\n"
        (broken / "backends/fake_broken/backend.py").write_text(load)


@pytest.mark.parametrize("kind", [*IMPORTS, *LOADS])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_its_error_is_ours_and_auto_takes_the_other_one(kind: str, device: str, broken: Path) -> None:
    in_its_way(broken, kind)
    bundle = hollow_bundle(broken)
    with pytest.raises(
        BackendError, match=r"^backend 'broken': broken-package unknown .*\(\w+: .*pip install"
    ) as caught:
        load_backend(bundle, "broken", device=device)
    assert "\n" not in str(caught.value)
    if device == "cpu" or kind in IMPORTS:
        backend = load_backend(bundle, device=device)
        assert backend.name == "working"
        assert device != "cpu" or "broken cannot be used (backend 'broken': " in chosen_because(backend)


def test_where_none_can_be_used_every_reason_is_given(broken: Path) -> None:
    in_its_way(broken, "a shared object missing")
    (broken / "working_library/__init__.py").write_text("raise ImportError('neither')")
    with pytest.raises(BackendError, match=r"no backend can be used: .*libsomething\.so.*; .*neither"):
        load_backend(hollow_bundle(broken))


def test_what_an_uninstallation_left_is_no_library(broken: Path) -> None:
    (broken / "broken_library/__init__.py").unlink()
    assert available() == ["working"]
    with pytest.raises(BackendError, match="needs the package broken-package"):
        load_backend(hollow_bundle(broken), "broken")
