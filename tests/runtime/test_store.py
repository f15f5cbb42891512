"""What is kept for the next process: whole, verified, and never needed."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

import spm_rt.store
from spm_rt import Bundle, EngineError, Tracker, TrackResult
from spm_rt.backends.onnxruntime import backend
from spm_rt.cache.engines import engine_folder
from spm_rt.machine import processor
from spm_rt.store import ENTRY, RETIRED, VARIABLE, cache_folder, find_entry, make_entry

from ..support.follow import Frames, results_on

FACTS = {"graph": "abc", "library": "made up 1.0"}
CONTENT = bytes(range(256)) * 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(place: Path) -> None:
    (place / "a.bin").write_bytes(CONTENT)
    (place / "b.bin").write_bytes(CONTENT[:100])


def entry(facts: dict[str, str] = FACTS) -> Path:
    made = make_entry("kind", facts, write)
    assert made is not None
    return made


def test_an_entry_is_found_by_its_facts(folder: Path) -> None:
    assert find_entry("kind", FACTS) is None
    made = entry()
    assert find_entry("kind", dict(reversed(FACTS.items()))) == made
    assert (made / "a.bin").read_bytes() == CONTENT
    assert find_entry("other", FACTS) is None
    assert find_entry("kind", {**FACTS, "library": "made up 1.1"}) is None
    assert find_entry("kind", {"graph": "abc"}) is None


@pytest.mark.parametrize("name", ["a.bin", "b.bin", ENTRY])
def test_a_damaged_entry_is_none(name: str, folder: Path) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        made = entry()
        content = bytearray((made / name).read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        (made / name).write_bytes(content)
        assert find_entry("kind", FACTS) is None
        assert not made.exists()


@pytest.mark.parametrize("name", ["a.bin", "b.bin", ENTRY])
def test_an_entry_cut_short_or_without_a_file_is_none(name: str, folder: Path) -> None:
    made = entry()
    os.truncate(made / name, 50)
    assert find_entry("kind", FACTS) is None
    made = entry()
    (made / name).unlink()
    assert find_entry("kind", FACTS) is None


def test_an_entry_of_other_facts_in_its_place_is_none(folder: Path) -> None:
    made, other = entry(), entry({"graph": "x"})
    for path in other.iterdir():
        path.replace(made / path.name)
    assert find_entry("kind", FACTS) is None


def test_a_writer_that_fails_leaves_nothing(folder: Path) -> None:
    def failing(error: type[Exception]) -> None:
        def half(place: Path) -> None:
            write(place)
            raise error

        make_entry("kind", FACTS, half)

    with pytest.raises(ValueError, match=r"^$"):
        failing(ValueError)
    failing(OSError)
    assert list((folder / "kind").iterdir()) == []


def test_the_first_of_two_writers_wins(folder: Path) -> None:
    def slow(place: Path) -> None:
        write(place)
        make_entry("kind", FACTS, write)

    made = make_entry("kind", FACTS, slow)
    assert made == find_entry("kind", FACTS)
    assert [path.name for path in (folder / "kind").iterdir()] == [made.name if made else ""]


@pytest.mark.parametrize("value", ["off", "OFF", "0", "none"])
def test_it_can_be_switched_off(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    check_that_nothing_is_kept()


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    check_that_nothing_is_kept()


def homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")


def check_that_nothing_is_kept() -> None:
    """Compiled graphs and kernels are done without; engines have to be found."""
    assert cache_folder() is cache_folder("kernels") is None
    assert make_entry("kind", FACTS, lambda _: pytest.fail("was asked")) is None
    assert find_entry("kind", FACTS) is None
    with pytest.raises(EngineError, match=r"SPM_RT_CACHE is off, or there is no home folder\. Set SPM_RT_CACHE=FOLDER"):
        engine_folder()


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "~/kept here")
    assert cache_folder("kind") == tmp_path / "kept here" / "kind"
    monkeypatch.setenv(VARIABLE, "~nobody_of_this_name/x")
    check_that_nothing_is_kept()


def test_a_folder_that_libraries_cannot_name_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spm_rt.store._warn.cache_clear()
    monkeypatch.setenv(VARIABLE, str(tmp_path / os.fsdecode(b"b\xfcndel")))
    with pytest.warns(RuntimeWarning, match="names in UTF-8 only; set SPM_RT_CACHE"):
        check_that_nothing_is_kept()
    spm_rt.store._warn.cache_clear()


@pytest.mark.parametrize("variable", RETIRED)
def test_variables_of_earlier_versions_are_named_once(
    variable: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spm_rt.store._warn.cache_clear()
    monkeypatch.setenv(variable, str(folder / "elsewhere"))
    with pytest.warns(RuntimeWarning, match=f"{variable} is not read any more: SPM_RT_CACHE=FOLDER moves all"):
        assert engine_folder() == folder / "engines"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache_folder() == folder
    spm_rt.store._warn.cache_clear()


def test_a_damaged_entry_that_cannot_be_removed_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's, in a folder that several share."""
    made = entry()
    (made / "a.bin").write_bytes(CONTENT[::-1])
    monkeypatch.setattr("spm_rt.store.shutil.rmtree", lambda *_, **__: None)
    assert find_entry("kind", FACTS) is None
    assert make_entry("kind", FACTS, write) is None


def test_a_place_that_cannot_be_looked_at_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / ("n" * 300)))
    assert find_entry("kind", FACTS) is None
    assert make_entry("kind", FACTS, write) is None


def test_a_place_that_cannot_be_written_to_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    assert make_entry("kind", FACTS, write) is None
    assert find_entry("kind", FACTS) is None


@pytest.mark.parametrize(
    ("base", "folder"), [("/base", "/base"), ("relative/folder", "/home/me/.cache"), ("", "/home/me/.cache")]
)
def test_every_kind_has_a_folder_in_the_users_cache_folder(
    base: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path(folder, "spm_rt")
    assert cache_folder("kernels") == Path(folder, "spm_rt", "kernels")
    assert engine_folder() == Path(folder, "spm_rt", "engines")


def test_every_kind_moves_with_the_variable(folder: Path) -> None:
    assert cache_folder() == folder
    assert cache_folder("kernels") == folder / "kernels"
    assert engine_folder() == folder / "engines"
    made = entry()
    assert made.parent == folder / "kind"


def test_the_entries_used_least_recently_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spm_rt.store, "LIMIT_BYTES", 7 * len(CONTENT) // 2)
    for number in range(3):
        os.utime(entry({"n": str(number)}), (number, number))
    assert find_entry("kind", {"n": "0"}) is not None
    entry({"n": "3"})
    assert find_entry("kind", {"n": "1"}) is None
    assert find_entry("kind", {"n": "0"}) is not None
    assert find_entry("kind", {"n": "2"}) is not None


def test_the_processor_has_a_name() -> None:
    assert len(processor()) > 16
    assert processor() == processor()


# The graphs that ONNX Runtime optimised.


def follow(bundle: Path, clip: Frames) -> list[TrackResult]:
    return results_on(Tracker.load(bundle, "onnxruntime"), clip[:4], candidates=True)


def test_results_are_the_same_without_with_a_new_and_with_an_old_entry(
    folder: Path, default_bundle: Path, clip: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    optimize = backend.OnnxRuntimeBackend._optimize
    monkeypatch.setattr(
        backend.OnnxRuntimeBackend, "_optimize", lambda self, stage: (made.append(stage), optimize(self, stage))[1]
    )
    new, old = (follow(default_bundle, clip) for _ in range(2))
    assert sorted(made) == ["relation", "search", "template"]
    assert len(list((folder / "onnxruntime").iterdir())) == 3
    monkeypatch.setenv(VARIABLE, "off")
    assert new == old == follow(default_bundle, clip)


def test_damaged_entries_are_made_again(folder: Path, default_bundle: Path, clip: Frames) -> None:
    wanted = follow(default_bundle, clip)
    for path in folder.rglob("weights.bin"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert follow(default_bundle, clip) == wanted
    facts = backend.OnnxRuntimeBackend(Bundle.open(default_bundle))._facts
    assert all(find_entry("onnxruntime", facts[stage]) for stage in facts)


def test_a_cache_that_cannot_be_used_is_no_error(
    tmp_path: Path, default_bundle: Path, clip: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    assert follow(default_bundle, clip)
