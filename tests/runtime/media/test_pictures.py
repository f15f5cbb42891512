"""Folders of pictures, patterns and single pictures: order, depth, colors, turns, and what cannot be read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from spm_rt.errors import SourceError
from spm_rt.media.pictures import picture_files, read_picture
from spm_rt.media.sources import SourceFrame, open_source

from ...support.media.films import SIZE, number_of, numbered, write_film


def write(folder: Path, names: Iterable[str], size: tuple[int, int] = SIZE) -> Path:
    """Pictures that carry 1, 2, 3 ... under these names."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names, 1):
        path = folder / name
        encoded = cv2.imencode(path.suffix, numbered(number, size))[1]
        path.write_bytes(encoded.tobytes())
    return folder


def read(source: Path | str, **options: object) -> list[SourceFrame]:
    with open_source(source, **options) as opened:  # type: ignore[arg-type]
        return list(opened)


def numbers(source: Path | str, **options: object) -> list[int]:
    return [number_of(frame.picture) for frame in read(source, **options)]


@pytest.mark.parametrize(
    "names",
    [
        [f"{number}.png" for number in range(1, 13)],
        [f"frame_{number}.png" for number in (1, 2, 9, 10, 11, 100)],
        [f"{number:04d}.png" for number in (1, 2, 10, 9999, 10000)],
        ["a1b10.png", "a1b11.png", "a2b1.png", "a10b1.png"],
        ["1.png", "01.png", "2.jpg", "10.PNG"],
        ["img.png", "img2.png", "IMG3.png", "img12.png"],
    ],
)
def test_pictures_come_in_the_order_in_which_people_count(names: list[str], tmp_path: Path) -> None:
    found = read(write(tmp_path / "folder", names))
    assert {number_of(frame.picture) for frame in found} == set(range(1, len(names) + 1))
    if "01.png" not in names:  # as large as 1.png: either may be first
        assert [frame.file for frame in found] == names
    assert [frame.index for frame in found] == list(range(len(names)))
    assert [frame.time for frame in found] == [None] * len(names)


def test_times_of_pictures_come_from_a_rate(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", ["1.png", "2.png", "3.png"])
    assert [frame.time for frame in read(folder, rate=4)] == [0, 0.25, 0.5]


def test_what_is_hidden_or_no_picture_is_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", ["1.png", "2.png"])
    (folder / "._1.png").write_bytes(b"what macOS leaves on other disks")
    (folder / "Thumbs.db").write_bytes(b"what Windows leaves")
    (folder / "sub.png").mkdir()
    with open_source(folder) as source:
        assert [number_of(frame.picture) for frame in source] == [1, 2]
        assert not source.report().damaged


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("%04d.png", [1, 2, 4]),
        ("%d.png", [5, 3, 4]),
        ("*.png", [1, 2, 5, 3, 4]),
        ("000[12].png", [1, 2]),
        ("1000?.png", [4]),
    ],
)
def test_patterns(pattern: str, expected: list[int], tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", ["0001.png", "0002.png", "30.png", "10000.png", "7.png"])
    assert numbers(str(folder / pattern)) == expected


@pytest.mark.parametrize("pattern", ["%04d.jpg", "*.bmp", "%04d.png"])
def test_a_pattern_without_pictures_is_named(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        open_source(str(tmp_path / pattern))


@pytest.mark.parametrize("name", ["50%d.png", "what[1].png", "a*b.png"])
def test_a_file_whose_name_looks_like_a_pattern_is_that_file(name: str, tmp_path: Path) -> None:
    write(tmp_path, [name])
    assert numbers(str(tmp_path / name)) == [1]


def test_a_picture_that_cannot_be_read_between_others_is_left_out_and_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", [f"{number}.jpg" for number in range(1, 7)])
    (folder / "3.jpg").write_bytes((folder / "3.jpg").read_bytes()[:700])
    (folder / "5.jpg").write_bytes(b"")
    with open_source(folder) as source:
        frames = list(source)
        report = source.report()
    assert [(frame.index, number_of(frame.picture)) for frame in frames] == [(0, 1), (1, 2), (3, 4), (5, 6)]
    assert (report.read, report.unreadable, report.expected, report.damaged) == (4, 2, 6, True)
    assert ["3.jpg" in report.notes[0], "5.jpg" in report.notes[1]] == [True, True]


def test_a_first_picture_that_cannot_be_read_is_an_error_since_the_box_is_of_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", ["1.png", "2.png"])
    (folder / "1.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"1\.png: not a readable picture"):
        read(folder)
    assert numbers(folder, start=1) == [2]


def test_pictures_of_several_sizes_are_named_with_their_sizes(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", ["1.png", "2.png"])
    write(folder, ["3.png"], size=(200, 120))
    with open_source(folder) as source:
        with pytest.raises(SourceError, match=r"folder: 3\.png is 200 x 120, those before it are 160 x 120"):
            list(source)
        assert source.report().read == 2


GREY = cv2.cvtColor(numbered(5), cv2.COLOR_BGR2GRAY)


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "alpha.png", "alpha.tif", "color.bmp", "color.webp", "c.ppm"])
def test_channels(name: str, tmp_path: Path) -> None:
    alpha = np.dstack([numbered(5), np.full(SIZE[::-1], 200, np.uint8)])
    written = {"g": GREY, "a": alpha, "c": numbered(5)}[name[0]]
    options = [cv2.IMWRITE_WEBP_QUALITY, 101] if name.endswith("webp") else []
    (tmp_path / name).write_bytes(cv2.imencode(name[name.index(".") :], written, options)[1].tobytes())
    expected = np.repeat(GREY[:, :, None], 3, axis=2) if name[0] == "g" else numbered(5)
    np.testing.assert_array_equal(read_picture(tmp_path / name), expected)


def _png(header: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand: what OpenCV does not write."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in [(b"IHDR", header), *chunks, (b"IEND", b"")]:
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)


def test_a_palette_becomes_colors(tmp_path: Path) -> None:
    rows = b"".join(bytes([0, *([row % 3] * 4)]) for row in range(6))
    palette = bytes([255, 0, 0, 0, 255, 0, 10, 20, 30])
    path = tmp_path / "palette.png"
    path.write_bytes(
        _png(struct.pack(">IIBBBBB", 4, 6, 8, 3, 0, 0, 0), (b"PLTE", palette), (b"IDAT", zlib.compress(rows)))
    )
    assert read_picture(path)[:3, 0].tolist() == [[0, 0, 255], [0, 255, 0], [30, 20, 10]]


def test_a_cmyk_jpeg_has_its_colors(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow, which writes CMYK, is not installed")
    image.new("RGB", (32, 16), (200, 40, 60)).convert("CMYK").save(tmp_path / "c.jpg", quality=98)
    np.testing.assert_allclose(read_picture(tmp_path / "c.jpg").mean(axis=(0, 1)), (60, 40, 200), atol=6)


TURNS = {
    1: lambda p: p,
    2: np.fliplr,
    3: lambda p: np.rot90(p, 2),
    4: np.flipud,
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: np.rot90,
}
"""What a viewer does to a picture of each EXIF orientation."""


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_pictures_are_turned_as_viewers_show_them(orientation: int, kind: str, tmp_path: Path) -> None:
    exif = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    encoded = cv2.imencode(f".{kind}", numbered(0b010011), [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    if kind == "jpg":
        marked = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
        encoded = encoded[:2] + marked + encoded[2:]
    else:
        chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
        encoded = encoded[:33] + chunk + encoded[33:]
    (tmp_path / f"turned.{kind}").write_bytes(encoded)
    expected = TURNS[orientation](numbered(0b010011))
    found = read_picture(tmp_path / f"turned.{kind}")
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 4


def thermal(number: int) -> np.ndarray:
    """Counts of a thermal camera with two dead pixels: a few percent of what sixteen bits hold."""
    counts = (27000 + GREY.astype(np.uint16) * 8 + number).astype(np.uint16)
    counts[0, 0], counts[-1, -1] = 0, 65535
    return counts


@pytest.mark.parametrize("kind", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_by_the_range_of_the_whole_sequence(kind: str, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.{kind}").write_bytes(cv2.imencode(f".{kind}", thermal(100 * number))[1].tobytes())
    with open_source(tmp_path) as source:
        pictures = [frame.picture for frame in source]
        (note,) = source.report().notes
    assert pictures[0].dtype == np.uint8
    assert len(np.unique(pictures[0])) > 40  # the upper eight bits hold nine
    assert pictures[0][60, 80, 0] < pictures[1][60, 80, 0] < pictures[2][60, 80, 0]
    assert note.startswith("uint16 pictures: 27")


def test_levels_say_which_counts_are_black_and_white(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.array([[1000, 1500, 2000, 65535, 0]], np.uint16))
    assert read(tmp_path, levels=(1000, 2000))[0].picture[0, :, 0].tolist() == [0, 128, 255, 255, 0]
    with pytest.raises(SourceError, match=r"1\.png: uint16 instead of 8 bits"):
        read_picture(tmp_path / "1.png")


def test_floating_point_pictures_are_scaled_and_nan_is_black(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 64 * 48, dtype=np.float32).reshape(48, 64)
    values[0, 0] = np.nan
    cv2.imwrite(str(tmp_path / "1.tiff"), values)
    picture = read(tmp_path)[0].picture
    assert picture[0, 0, 0] == 0
    assert len(np.unique(picture)) > 200


def test_one_picture_is_a_source_of_one_frame_and_an_animated_one_of_several(tmp_path: Path) -> None:
    write(tmp_path, ["still.png"])
    write_film(tmp_path / "moving.png", "apng", pixels="rgb24", form="apng", numbers=range(5))
    assert numbers(tmp_path / "still.png") == [1]
    assert numbers(tmp_path / "moving.png") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["tif", "webp", "avif"])
def test_a_file_of_several_pictures_is_a_source_of_all_of_them(kind: str, tmp_path: Path) -> None:
    pages = [numbered(number) for number in range(5)]
    path = tmp_path / f"Bär\n.{kind}"
    if kind == "tif":
        written = cv2.imencodemulti(".tif", pages)[1]
    else:
        animation = cv2.Animation()
        animation.frames, animation.durations = pages, np.full(5, 100, np.int32)
        written = cv2.imencodeanimation(f".{kind}", animation)[1]
    path.write_bytes(written.tobytes())
    with open_source(path) as source:
        assert source.expected == 5
        assert [number_of(frame.picture) for frame in source] == [0, 1, 2, 3, 4]


def test_pages_of_sixteen_bits_share_their_range(tmp_path: Path) -> None:
    cv2.imwritemulti(str(tmp_path / "pages.tif"), [thermal(0), thermal(200)])
    first, second = (frame.picture for frame in read(tmp_path / "pages.tif"))
    assert (first[1:-1] <= second[1:-1]).all()
    assert first[60, 80, 0] < second[60, 80, 0]


@pytest.mark.parametrize("depth", [np.float32, np.float64, np.int16, np.int32, np.uint8])
def test_grey_pages_of_any_depth_are_read_without_a_word_of_opencv(
    depth: type[np.generic], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ramp = np.linspace(0, 100, 64 * 48).reshape(48, 64)
    pages = [ramp.astype(depth), ramp[::-1].astype(depth)]
    cv2.imwritemulti(str(tmp_path / "pages.tif"), pages)
    cv2.imwrite(str(tmp_path / "one.tif"), pages[0])
    capfd.readouterr()
    first, second = (frame.picture for frame in read(tmp_path / "pages.tif"))
    (one,) = (frame.picture for frame in read(tmp_path / "one.tif"))
    assert capfd.readouterr() == ("", "")
    assert first.shape == (48, 64, 3)
    assert (np.diff(first[:, 0, 0].astype(int)) >= 0).all()
    np.testing.assert_array_equal(first, second[::-1])
    np.testing.assert_array_equal(first, one)


@pytest.mark.parametrize("name", ["img", "color"])
def test_a_folder_in_a_data_sets_layout_is_read_from_its_inside(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, ["0001.png", "0002.png"])
    assert [file.name for file in picture_files(tmp_path, ("img", "color"))] == ["0001.png", "0002.png"]
