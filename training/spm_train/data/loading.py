"""Batches from worker processes, in an order that depends on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..objective.pairs import Batch
from .sampling import PairSampler, Sample


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples as one batch of tensors; pictures stay bytes until they are on the device."""

    def pictures(values: Sequence[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(values)).permute(0, 3, 1, 2)

    return Batch(
        pictures([s.template for s in samples]),
        pictures([s.search for s in samples]),
        torch.from_numpy(np.stack([s.template_box for s in samples])),
        torch.from_numpy(np.stack([s.box for s in samples])),
        torch.from_numpy(np.stack([s.others for s in samples])),
        torch.from_numpy(np.stack([s.same for s in samples])),
        torch.tensor([s.category for s in samples]),
        torch.tensor([s.instance for s in samples]),
    )


class _Batches(Dataset[Batch]):
    """Item ``i`` is the whole batch of step ``first + i``."""

    def __init__(self, sampler: PairSampler, batch: int, first: int, count: int) -> None:
        self.sampler, self.batch, self.first, self.count = sampler, batch, first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: int) -> Batch:
        start = (self.first + item) * self.batch
        return collate([self.sampler.sample(start + i) for i in range(self.batch)])


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def batches(
    sampler: PairSampler, batch: int, first: int, last: int, workers: int, device: torch.device
) -> Iterator[Batch]:
    """The batches of steps ``first`` to ``last`` - 1, on the device. ``batch`` is even (samples come in twos)."""
    pinned = device.type == "cuda"
    loader = DataLoader(
        _Batches(sampler, batch, first, last - first),
        batch_size=None,
        shuffle=False,
        num_workers=workers,
        pin_memory=pinned,
        worker_init_fn=_start_worker if workers else None,
        prefetch_factor=4 if workers else None,
    )
    for item in loader:
        yield Batch(*(value.to(device, non_blocking=pinned) for value in item))
