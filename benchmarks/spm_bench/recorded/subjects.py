"""What is scored against recorded data, and the scores for people and machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spm_rt.bundle import Bundle

from .checks import Checks
from .inner_values import GraphInnerValues, ReferenceInnerValues
from .operators import score_operators
from .reading import Arrays, RecordedSet
from .score import Subject, score_set


def reference_subject(checkpoint: Sequence[str], threads: int) -> tuple[Subject, Any]:
    """The PyTorch reference, and what has the single operators."""
    from spm_export.model.checkpoint import load_model

    backend = ReferenceInnerValues(load_model(checkpoint), threads=threads)
    return Subject(backend.model.spec, backend, (backend,)), backend.model


def bundle_subject(folder: str, backend: str, device: str, threads: int) -> tuple[Subject, Any]:
    """A bundle on a backend, and what has the single operators."""
    from spm_rt.backends import load_backend

    bundle = Bundle.open(folder)
    runtime = load_backend(bundle, backend, device=device, threads=threads)
    # The form that stays closest to the reference, and the one for CPUs.
    close = GraphInnerValues(bundle, "portable", threads)
    fast = GraphInnerValues(bundle, "fast_expanded", threads, beside=close)
    return Subject(bundle.spec, runtime, (close, fast)), bundle


def score_all(
    subject: Subject, operators_of: Any, files: Mapping[str, RecordedSet | Arrays], advance: Callable[[], None]
) -> dict[str, Checks]:
    """Scores by file; ``advance`` is called as often as ``calls_of`` says."""
    scores = {}
    for name, recorded in files.items():
        if isinstance(recorded, RecordedSet):
            scores[name] = score_set(subject, recorded, advance)
        else:
            scores[name] = score_operators(recorded, operators_of)
            advance()
    return scores


def calls_of(subject: Subject, files: Mapping[str, RecordedSet | Arrays]) -> int:
    return sum(subject.calls(recorded) if isinstance(recorded, RecordedSet) else 1 for recorded in files.values())


def scores_report(scores: Mapping[str, Checks]) -> dict[str, Any]:
    """All scores as JSON types."""
    return {
        file: {"passed": checks.passed, "arrays": {c.array: c.to_json() for c in checks.by_array.values()}}
        for file, checks in scores.items()
    }


def scores_text(scores: Mapping[str, Checks]) -> str:
    """All scores for people, with a hint where the weights seem to be others than those of the recording."""
    text = "".join(
        f"\n\n{file}: {'ok' if checks.passed else 'FAILED'}\n{checks.table()}" for file, checks in scores.items()
    )
    arrays = [checks.by_array for checks in scores.values()]
    heads = [of[name].passed for of in arrays for name in ("conv2", "logits", "cm_scores") if name in of]
    if heads and not any(heads):
        text += (
            "\n\nnearly everything that depends on weights differs: was this exported from the checkpoint that the "
            "data were recorded with?"
        )
    return text
