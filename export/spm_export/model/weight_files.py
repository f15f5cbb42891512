"""Files of weights as people have them: what kind a file is, and the tensors of a network among all that lies in it.

PyTorch's files are opened with ``weights_only=True`` and nothing else: no code in them is run.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from spm_rt.errors import CheckpointError

_HEAD = 512
"""Bytes from which a file's kind is told."""
DEEPEST = 20
"""How many wrappers around a network's tensors are opened."""
_MISTAKEN = (
    (
        rb"version https://git-lfs",
        "a pointer of Git LFS instead of the weights: run `git lfs pull`",
    ),
    (
        rb"\s*(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml|head)",
        "a web page instead of the weights: download it again",
    ),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd",
        "a compressed archive: unpack it",
    ),
    (rb"\x89HDF", "a file of Keras (HDF5), not of PyTorch"),
    (rb"[^\0]{1,100}\0.{156,256}ustar", "a tar archive: unpack it, and give what is in it"),
    (rb"\s*\{\s*\"", "a JSON file without weights; the index of weights in several files names those, two at most"),
    (rb"\x93NUMPY", "an array of numpy, not a state dictionary of PyTorch"),
)
"""How files begin that are no weights, and what they are."""


def read_weights(path: Path, known: Collection[str]) -> dict[str, Tensor]:
    """The tensors of a network in a file of PyTorch or safetensors, told by its content, not by its name.

    Wrappers (``{"epoch": ..., "state_dict": ...}``) are opened, and whatever stands before a known name (``module.``,
    ``model.``) is dropped. Where a dictionary has at least one tensor of the network, all its tensors count.

    Args:
        path: the file.
        known: the names that the network's tensors can have.

    Returns:
        Tensors by their known name; those without one by the name that they have.

    Raises:
        CheckpointError: the file cannot be read, holds more than tensors, or two tensors of the same name.
    """
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    others: list[str] = []
    for place, tensors in _dictionaries(_load(path), "", set()):
        names = {name: _without_prefix(place + name, known) for name in tensors}
        if not any(name in known for name in names.values()):
            others += [place + name for name in tensors]
            continue
        for name, short in names.items():
            if short in found:
                raise CheckpointError(
                    f"{path}: {short} stands in it twice, as {origin[short]} and {place + name}; save one of them alone"
                )
            found[short], origin[short] = tensors[name], place + name
    if not found and others:
        listed = ", ".join(others[:3]) + ", ..." * (len(others) > 3)
        raise CheckpointError(
            f"{path}: the weights of another model: none of its {len(others)} tensors ({listed}) is of an SPM-Tracker"
        )
    if not found:
        raise CheckpointError(f"{path}: not a state dictionary (names to tensors)")
    return found


def _dictionaries(content: Any, place: str, met: set[int], depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary in ``content`` that has tensors, once, with its place (``state_dict.``) before it."""
    if id(content) in met or depth > DEEPEST:  # a pickle may hold itself, or one thing a million times
        return
    met.add(id(content))
    if isinstance(content, (list, tuple)):
        content = dict(enumerate(content))
    if not isinstance(content, Mapping):
        return
    tensors = {
        name: value.detach() for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)
    }
    if tensors:
        yield place, tensors
    for name, value in content.items():
        if isinstance(value, (list, tuple, Mapping)):
            yield from _dictionaries(value, f"{place}{name}.", met, depth + 1)


def _without_prefix(name: str, known: Collection[str]) -> str:
    """The longest known name that ``name`` ends with, after a dot; or else ``name``."""
    parts = name.split(".")
    ends = (".".join(parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if end in known), name)


def _load(path: Path) -> Any:
    """What lies in a file.

    Raises:
        CheckpointError: it is no file of weights, is cut short, or would run code.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if not head:
        raise CheckpointError(f"{path}: an empty file")
    for pattern, what in _MISTAKEN:
        if re.match(pattern, head, re.IGNORECASE | re.DOTALL):
            raise CheckpointError(f"{path}: {what}")
    of_torch = head.startswith((b"PK\x03\x04", b"\x80\x02"))
    if head[8:9] == b"{" or (path.suffix == ".safetensors" and not of_torch):
        return _load_safetensors(path)
    return _load_pickle(path)


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except Exception as error:  # its own error, and those of types that this PyTorch has not
        raise CheckpointError(
            f"{path}: not a readable safetensors file, cut short or damaged ({_line(error)})"
        ) from error


def _load_pickle(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        _check_archive(path)
    try:
        # Not by its name, by whose suffix PyTorch decides too.
        with path.open("rb") as stream, warnings.catch_warnings():  # what is wrong is said once, by us
            warnings.simplefilter("ignore")
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch's readers raise whatever the damage makes them stumble over
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if wanted:
            raise CheckpointError(
                f"{path}: refused, the file holds more than plain tensors: to open it, {wanted[1]} would have to be "
                "run; whoever trusts it saves the state dictionary alone, with torch.save(model.state_dict(), ...)"
            ) from error
        # What PyTorch says of a pickle that it refuses is advice to open it all the same.
        why = "a pickle of another kind" if isinstance(error, pickle.UnpicklingError) else _line(error)
        raise CheckpointError(f"{path}: not a readable PyTorch file, cut short or damaged ({why})") from error


def _check_archive(path: Path) -> None:
    """Refuse archives that are not of ``torch.save``, and damaged ones, whose checksums PyTorch does not look at."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [Path(name).name for name in archive.namelist()]
            for info in archive.infolist() if "data.pkl" in names else ():
                if info.CRC:  # 0: torch.serialization.set_crc32_options(False)
                    with archive.open(info) as stream:  # raises at its end where it is not that
                        while stream.read(1 << 20):
                            pass
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path}: not a readable PyTorch file, cut short or damaged ({_line(error)})") from error
    if "constants.pkl" in names:
        raise CheckpointError(
            f"{path}: a TorchScript program, not weights: save torch.jit.load(...).state_dict() with torch.save"
        )
    if "data.pkl" not in names:
        listed = ", ".join(names[:3]) or "nothing"
        raise CheckpointError(f"{path}: an archive of other files ({listed}): unpack it, and give what is in it")


def _line(error: Exception) -> str:
    """A library's error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
