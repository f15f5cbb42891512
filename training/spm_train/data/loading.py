"""Batches from worker processes, in an order that depends on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader

from ..objective.pairs import Batch
from .sampling import PairSampler, Sample

AHEAD = 4
"""Batches that each worker prepares beforehand."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples as one batch of tensors; pictures stay bytes until they are on the device."""
    tensors = [torch.from_numpy(np.stack(values)) for values in zip(*samples, strict=True)]
    return Batch(*(value.permute(0, 3, 1, 2) if value.dim() == 4 else value for value in tensors))


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def batches(
    sampler: PairSampler, batch: int, first: int, last: int, workers: int, device: torch.device
) -> Iterator[Batch]:
    """The batches of steps ``first`` to ``last`` - 1, on the device. ``batch`` is even (samples come in twos)."""
    pinned = device.type == "cuda"
    loader: DataLoader[Any] = DataLoader(
        sampler,
        batch_sampler=BatchSampler(range(first * batch, last * batch), batch, drop_last=False),
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pinned,
        worker_init_fn=_start_worker if workers else None,
        prefetch_factor=AHEAD if workers else None,
        multiprocessing_context="fork" if workers else None,  # what is in memory is shared
    )
    for item in loader:
        yield Batch(*(value.to(device, non_blocking=pinned) for value in item))
