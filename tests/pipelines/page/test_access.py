"""Nothing outside the folders, nobody but the page itself, nothing too large."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from spm_rt.errors import SourceError
from spm_rt.pipelines.page.app import Runs
from spm_rt.pipelines.page.places import Places

MakePage = Callable[..., tuple[FlaskClient, Runs]]


@pytest.mark.parametrize(
    "path",
    ["../secret.mp4", "/etc/passwd", "disc/../../secret.mp4", "out.mp4", "..", "disc/../..", "../videos/../secret.mp4"],
)
@pytest.mark.parametrize("asking", ["run", "thumbnail"])
def test_what_lies_outside_the_folders_is_refused(make_page: MakePage, path: str, asking: str) -> None:
    client, runs = make_page()
    if asking == "run":
        answer = client.post("/api/runs", json={"place": 0, "path": path})
    else:
        answer = client.get("/api/thumbnail", query_string={"place": 0, "path": path})
    assert answer.status_code == 403
    assert "outside the folders" in answer.json["error"]
    assert runs.listed() == []


@pytest.mark.parametrize(
    "asked",
    [
        {"place": 7, "path": "disc"},
        {"place": -1, "path": "disc"},
        {"place": 0, "path": "missing.mp4"},
        {"place": 0, "path": "disc/0.txt"},
        {"place": 0, "path": "disc\0.mp4"},
        {"place": "0", "path": "disc"},
        {"place": True, "path": "disc"},
        [],
    ],
)
def test_what_is_not_there_is_refused(make_page: MakePage, asked: object) -> None:
    client, _ = make_page()
    assert client.post("/api/runs", json=asked).status_code == 400


def test_files_outside_are_not_offered(make_page: MakePage) -> None:
    client, _ = make_page()
    assert [source["path"] for source in client.get("/api/state").json["sources"]] == ["disc"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8765", "Origin": "http://localhost:8765"}, 200),
        ({"Host": "[::1]:8765"}, 200),
        ({"Host": "127.0.0.1", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Host": "evil.example"}, 403),  # DNS rebinding: a stranger's name that leads to 127.0.0.1
        ({"Host": "evil.example:8765", "Origin": "http://evil.example:8765"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "192.168.0.7:8765"}, 403),
        ({"Host": "127.0.0.1:8765", "Origin": "http://evil.example"}, 403),
        ({"Host": "127.0.0.1:8765", "Origin": "http://127.0.0.1:1234"}, 403),
        ({"Host": "127.0.0.1:8765", "Origin": "null"}, 403),
        ({"Host": "127.0.0.1:8765", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_other_hosts_and_origins_are_refused(make_page: MakePage, headers: dict[str, str], status: int) -> None:
    client, _ = make_page()
    assert client.get("/api/state", headers=headers).status_code == status


def test_what_changes_something_needs_a_header_that_other_origins_cannot_set(make_page: MakePage) -> None:
    client, runs = make_page()
    del client.environ_base["HTTP_X_SPM_PAGE"]
    assert client.post("/api/runs", json={"place": 0, "path": "disc"}).status_code == 403
    assert runs.listed() == []


def test_other_machines_need_the_key_once(make_page: MakePage) -> None:
    client, _ = make_page(local=False, key="secret", names=("studio.example",))
    assert client.get("/", headers={"Host": "10.0.0.3:8765"}).status_code == 401
    assert client.get("/?key=wrong").status_code == 401
    assert client.get("/?key=secret").status_code == 302
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"Host": "studio.example"}).status_code == 401  # another name, another cookie
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403


def test_answers_forbid_frames_and_scripts_of_others(make_page: MakePage) -> None:
    client, _ = make_page()
    policy = client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    ("name", "size", "status"),
    [("clip.mp4", 100, 200), ("clip.mp4", 100_001, 400), ("clip.exe", 10, 400), ("..%2F..%2Fup.mp4", 10, 404)],
)
def test_uploads_are_bounded_and_stay_in_their_folder(
    make_page: MakePage, tmp_path: Path, name: str, size: int, status: int
) -> None:
    client, _ = make_page()
    assert client.put(f"/api/uploads/{name}", data=bytes(size)).status_code == status
    held = [path.name for path in (tmp_path / "uploads").iterdir()]
    assert held == (["clip.mp4"] if status == 200 else [])
    assert not list(tmp_path.glob("up.mp4"))


def test_all_uploads_together_are_bounded(make_page: MakePage) -> None:
    client, _ = make_page()
    answers = [client.put("/api/uploads/clip.mp4", data=bytes(60_000)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 400]
    assert "room for 0 MB" in answers[1].json["error"]


def test_json_is_bounded(make_page: MakePage) -> None:
    client, _ = make_page()
    assert client.post("/api/runs", json={"place": 0, "path": "x" * 100_000}).status_code == 413


def test_a_source_that_is_nothing_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        Places([str(tmp_path / "missing")], tmp_path, 0)


def test_passwords_of_streams_are_not_shown(make_page: MakePage) -> None:
    client, _ = make_page(("rtsp://me:secret@camera/1",))
    state: dict[str, Any] = client.get("/api/state").json
    assert "rtsp://camera/1" in [source["name"] for source in state["sources"]]
    assert "secret" not in str(state)
