"""How many samples a second this machine prepares and trains on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .data.loading import AHEAD, batches
from .objective.pairs import Batch
from .trainer import Trainer


def measure_throughput(trainer: Trainer, seconds: float) -> dict[str, Any]:
    """Samples a second of data alone, of steps alone on batches that are there, and of both; the model is changed.

    Args:
        trainer: of which nothing is saved.
        seconds: how long altogether: a quarter, a quarter and half of it.
    """
    config = trainer.config
    started = time.monotonic()
    stream: Iterator[Batch] = batches(trainer.sampler, config.batch, 0, 1 << 40, trainer.workers, trainer.device)
    kept = [next(stream)]
    first_batch = time.monotonic() - started
    trainer.train_step(kept[0])  # libraries choose their kernels
    for _ in range(AHEAD * trainer.workers):  # those that were prepared meanwhile
        kept = [*kept[-3:], next(stream)]
    number = iter(range(1 << 40))
    rates = {
        "data": _rate(lambda: next(stream), config.batch, seconds / 4),
        "step": _rate(lambda: trainer.train_step(kept[next(number) % len(kept)]), config.batch, seconds / 4),
        "both": _rate(lambda: trainer.train_step(next(stream)), config.batch, seconds / 2),
    }
    return {
        "device": str(trainer.device),
        "bf16": config.bf16,
        "threads": torch.get_num_threads(),
        "workers": trainer.workers,
        "batch": config.batch,
        "template_side": config.sampling.template_side,
        "search_side": config.sampling.search_side,
        "seconds_to_first_batch": round(first_batch, 2),
        **{f"samples_per_second_{name}": round(rate, 2) for name, rate in rates.items()},
    }


def _rate(work: Callable[[], object], batch: int, seconds: float) -> float:
    """Samples a second of ``work`` on a batch, repeated for so many seconds and at least once."""
    started, count = time.monotonic(), 0
    while count == 0 or time.monotonic() - started < seconds:
        work()
        count += 1
    return count * batch / (time.monotonic() - started)
