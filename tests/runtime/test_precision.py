"""The table of precisions and the spellings that are accepted."""

from __future__ import annotations

import argparse

import pytest

from spm_rt.errors import SettingsError, SpmError
from spm_rt.precision import FLOATS, PRECISIONS, parse_precision, precision_argument


@pytest.mark.parametrize(
    ("text", "name"),
    [("fp32", "float32"), ("fp16", "float16"), ("bf16", "bfloat16"), *((name, name) for name in PRECISIONS)],
)
def test_names_and_aliases_give_the_name(text: str, name: str) -> None:
    assert parse_precision(text) == precision_argument(text) == name


@pytest.mark.parametrize("text", ["", "int4", "FP32", "float 32", "f16"])
def test_anything_else_is_refused_with_a_list(text: str) -> None:
    expected = r"there are: float32 \(fp32\), float16 \(fp16\), bfloat16 \(bf16\), int8$"
    with pytest.raises(SpmError, match=expected):
        parse_precision(text)
    with pytest.raises(argparse.ArgumentTypeError, match=expected):
        precision_argument(text)


def test_what_is_not_on_offer_is_refused() -> None:
    assert parse_precision("bf16", FLOATS) == "bfloat16"
    with pytest.raises(SettingsError, match=r"'int8' is unknown; there are: float32 \(fp32\), float16"):
        parse_precision("int8", FLOATS)
