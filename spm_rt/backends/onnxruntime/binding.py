"""Inputs and outputs of a session bound to values that stay where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...bundle.contract import contract
from ...settings import ModelSpec


def bind(session: Any, spec: ModelSpec, stage: str, values: Mapping[str, Any]) -> Any:
    """A binding of all of a stage's inputs and outputs to OrtValues by name."""
    sides = contract(spec, 1)[stage]
    binding = session.io_binding()
    for name in sides["inputs"]:
        binding.bind_ortvalue_input(name, values[name])
    for name in sides["outputs"]:
        binding.bind_ortvalue_output(name, values[name])
    return binding
