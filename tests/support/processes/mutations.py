"""Inputs that were good and are so no more: bytes, JSON values, lines of text and argument lists, changed at random."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

SCALARS: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 1e308, float("inf"), float("nan"), 2**63, 10**400,
    "", "x", "../x", "\x00", "\ud800", [], {}, [[]],
)  # fmt: skip
"""What a JSON value is replaced by."""
WORDS = (
    "", "-", "--", "-1", "0", "1e999", "nan", "inf", "1,2", "1,2,3,4", "0,0,0,0", "1,2,3,4,5",
    "a,b,c,d", "9" * 400, "\udcff", "ä ö",
    "a\nb", "/", ".", "..", "/dev/null", "~", "*", "%d", "%s%n", "missing/x",
    "=", "-x", "--frames", "--json", "{}", "'", "x" * 5000,
)  # fmt: skip
"""What a word of a command line, or of a table, is replaced by."""


def mutated_bytes(data: bytes, rng: Random) -> bytes:
    """A few bits turned, a part cut off, left out, doubled, zeroed or replaced; or nothing left at all."""
    if not data:
        return rng.randbytes(rng.randrange(64))
    a = rng.randrange(len(data))
    # Most headers lie at an end of a file.
    a = rng.choice((a, min(a, rng.randrange(200)), max(0, len(data) - 1 - rng.randrange(400))))
    a = min(a, len(data) - 1)
    b = min(len(data), a + rng.choice((1, 4, 16, 256, 5000)))

    def turned() -> bytes:
        out = bytearray(data)
        for _ in range(rng.choice((1, 3, 20))):
            out[rng.randrange(a, b)] ^= 1 << rng.randrange(8)
        return bytes(out)

    ways: tuple[Callable[[], bytes], ...] = (
        turned,
        turned,
        lambda: data[:a],
        lambda: data[:a] + data[b:],
        lambda: data[:b] + data[a:],
        lambda: data[:a] + bytes(b - a) + data[b:],
        lambda: data[:a] + rng.randbytes(b - a) + data[b:],
        lambda: data[a:],
        lambda: b"",
    )
    return rng.choice(ways)()


def mutated_json(value: Any, rng: Random) -> Any:
    """A JSON value with one to three of its values replaced, left out, doubled, or exchanged."""
    out = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        containers = [node for node in _nodes(out) if node]
        if not containers:
            return rng.choice(SCALARS)
        node = rng.choice(containers)
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        key, other = rng.choice(keys), rng.choice(keys)
        way = rng.randrange(5)
        if way == 0:
            del node[key]
        elif way == 1:
            node[key], node[other] = node[other], node[key]
        elif way == 2 and isinstance(node[key], int | float) and not isinstance(node[key], bool):
            node[key] = rng.choice((-node[key], node[key] + 1, node[key] * 1000, str(node[key])))
        elif way == 3 and isinstance(node, dict):
            node[str(rng.choice(WORDS))] = node[key]
        else:
            node[key] = copy.deepcopy(rng.choice(SCALARS))
    return out


def _nodes(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value] * isinstance(value, dict | list) + [node for item in inner for node in _nodes(item)]


def mutated_text(text: str, rng: Random) -> bytes:
    """Lines left out, doubled or exchanged, words replaced, or bytes changed."""
    if rng.random() < 0.3:
        return mutated_bytes(text.encode(), rng)
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 3))):
        k = rng.randrange(len(lines))
        way = rng.randrange(4)
        if way == 0 and len(lines) > 1:
            del lines[k]
        elif way == 1:
            lines.insert(rng.randrange(len(lines) + 1), lines[k])
        else:
            words = lines[k].split(",")
            words[rng.randrange(len(words))] = rng.choice(WORDS)
            lines[k] = ",".join(words)
    end = rng.choice(("\n", "\n", "\r\n", "\n\n"))
    return (rng.choice(("", "", "\ufeff")) + end.join(lines) + end).encode("utf-8", "surrogateescape")


def mutated_words(words: Sequence[str], options: Sequence[str], rng: Random) -> list[str]:
    """A command line with words left out, doubled, exchanged, replaced, or options put in."""
    out = list(words)
    for _ in range(rng.choice((1, 1, 2, 4))):
        k = rng.randrange(len(out)) if out else 0
        way = rng.randrange(6)
        if way == 0 and out:
            del out[k]
        elif way == 1 and out:
            out.insert(rng.randrange(len(out) + 1), out[k])
        elif way == 2 and out:
            other = rng.randrange(len(out))
            out[k], out[other] = out[other], out[k]
        elif way == 3:
            out.insert(k, rng.choice(options))
        elif out:
            out[k] = rng.choice((rng.choice(WORDS), out[k].partition("=")[0] + "=" + rng.choice(WORDS)))
    # No argument of a program holds a zero byte.
    return [word.replace("\x00", "") for word in out]
