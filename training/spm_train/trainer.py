"""The loop: batches in, averaged weights out, resumable at any moment."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spm_export.model.backbones import AlexNet, Lite0
from spm_export.model.network import SPMTracker
from spm_rt.errors import CheckpointError

from .checkpoints import load_state, save_state, save_weights
from .config import TrainConfig
from .data.loading import batches
from .data.sampling import PairSampler
from .objective.network import match, update_statistics
from .objective.pairs import Batch, make_pairs
from .objective.total_loss import compute_losses
from .validation import validate

SHALLOW = (
    *("backbone.conv1.", "backbone.conv2."),
    *("backbone.stem.", "backbone.blocks.0.", "backbone.blocks.1."),
)
"""The backbones' first layers."""
PRETRAINED = (*SHALLOW, "backbone.conv", "backbone.blocks.")
"""All that ImageNet's weights are for."""
SETTLING = 4
"""Batches that running values are measured on."""
Report = Callable[[dict[str, Any]], None]


def config_text(config: TrainConfig) -> str:
    """The settings that must be equal for a state to be resumed: all but the run's length and the times of saving."""
    free = {"steps", "minutes", "validate_every", "save_every", "validation_samples"}
    return repr({k: v for k, v in sorted(dataclasses.asdict(config).items()) if k not in free})


def share_of(parameter: str, config: TrainConfig) -> float:
    """A parameter's share of the rate; 0: it is not trained."""
    if parameter.startswith(SHALLOW):
        return config.shallow_rate if config.train_shallow else 0.0
    return config.backbone_rate if parameter.startswith(PRETRAINED) else 1.0


@dataclasses.dataclass
class Trainer:
    """One run in one folder: ``state.pt`` to go on from, ``last.safetensors`` and ``best.safetensors`` to use."""

    model: SPMTracker
    config: TrainConfig
    sampler: PairSampler
    held_out: PairSampler | None
    folder: Path
    device: torch.device
    workers: int
    fresh: bool = False
    """random weights: the running means and variances are those of the first batch"""
    step: int = 0
    seconds: float = 0.0
    """that earlier processes have spent on the run"""
    best: float = -1.0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.model.to(self.device)
        for value in self.model.parameters():
            if value.dim() == 4:
                value.data = value.data.contiguous(memory_format=torch.channels_last)
        for name, value in self.model.named_parameters():
            value.requires_grad_(share_of(name, self.config) > 0)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        if self.config.train_shallow and isinstance(self.model.backbone, AlexNet):
            # conv1's taps that are zero stay zero: graphs leave out the rings of its kernel that have no others.
            taps = self.model.backbone.conv1.weight
            taps.register_hook(lambda gradient: gradient * (taps.detach() != 0))  # type: ignore[no-untyped-call]
        decay = self.config.weight_decay
        self.optimizer = torch.optim.AdamW(self._groups(), lr=self.config.rate, weight_decay=decay, fused=True)
        self._held_out_batches: list[Batch] = []
        self._settling_batches: list[Batch] = []
        self._started = time.monotonic()

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by their share of the rate."""
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(share_of(name, self.config), []).append(parameter)
        return [{"params": parameters, "share": share} for share, parameters in groups.items()]

    def progress(self) -> float:
        """The part of the run that is over, 0 to 1: of its minutes if it goes by the clock, or else of its steps."""
        if self.config.minutes:
            spent = self.seconds + time.monotonic() - self._started
            return min(1.0, spent / (60 * self.config.minutes))
        return self.step / self.config.steps

    def rate_at(self, progress: float) -> float:
        """Learning rate of the heads: up, level, and half a cosine down."""
        config, low, left = self.config, self.config.final_rate, 1 - progress
        level = left >= config.decay
        fall = 1.0 if level else low + (1 - low) * (0.5 - 0.5 * math.cos(math.pi * left / config.decay))
        return config.rate * min(1.0, (self.step + 1) / max(1, config.warmup)) * fall

    def resume(self) -> bool:
        """Go on from the folder's state, if there is one."""
        path = self.folder / "state.pt"
        if not path.is_file():
            return False
        state = load_state(path)
        if state["config"] != config_text(self.config):
            raise CheckpointError(f"{path}: this state is of a run with other settings; give them, or another folder")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best, self.history = state["step"], state["best"], state["history"]
        self.seconds = state.get("seconds", 0.0)
        return True

    def save(self) -> None:
        save_state(
            self.folder / "state.pt",
            {
                "step": self.step,
                "seconds": self.seconds + time.monotonic() - self._started,
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "config": config_text(self.config),
                "best": self.best,
                "history": self.history,
            },
        )

    def run(self, report: Report, deadline: float = math.inf, started: float | None = None) -> None:
        """Train to the end, or until ``time.monotonic()`` has passed ``deadline``; then the state is saved.

        ``report`` is called after every step and every validation; the run's minutes count from ``started`` on.
        """
        self._started = time.monotonic() if started is None else started
        while self.progress() < 1 and self._run_stage(report, deadline):
            pass

    def _stage(self) -> tuple[PairSampler, int]:
        """The samples of the present stage, and the step at which it ends, if the clock does not end it."""
        config, end = self.config, 1 << 40
        boundary = math.ceil(config.whole_after * config.steps)
        if config.whole_after < 1 and self.progress() >= config.whole_after:
            whole = copy.copy(self.sampler)
            whole.config = config.sampling.whole(self.model.spec.crop_size, config.whole_shift)
            return whole, end if config.minutes else config.steps
        return self.sampler, end if config.minutes else boundary

    def _run_stage(self, report: Report, deadline: float) -> bool:
        """Train until the stage ends; whether the run goes on."""
        config, is_first = self.config, self.progress() < self.config.whole_after
        sampler, end = self._stage()
        for batch in batches(sampler, config.batch, self.step, end, self.workers, self.device):
            started = time.perf_counter()
            values = self.train_step(batch)
            report({"kind": "step", "step": self.step, "seconds": time.perf_counter() - started, **values})
            progress = self.progress()
            last = progress >= 1 or time.monotonic() > deadline
            if self.step % config.validate_every == 0 or last:
                self._validate(report)
            if self.step % config.save_every == 0 or last:
                self.save()
            if last or (is_first and progress >= config.whole_after):
                return not last
        return True

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimiser; returns the losses."""
        config = self.config
        rate = self.rate_at(self.progress())
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        generator = torch.Generator(self.device).manual_seed(config.seed * 1_000_003 + self.step)
        self.model.eval()  # there is no dropout, and the batch norms run on running values (network.py)
        objective = config.objective
        if self.fresh and self.step == 0:
            objective = dataclasses.replace(objective, momentum=1.0)
        with autocast(self.device, config.bf16):
            terms = compute_losses(self.model, batch, objective, generator)
        self.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        # The optimiser divides by it on the way: no pass over the gradients of its own, and nothing to wait for.
        self.optimizer.grad_scale = (nn.utils.get_total_norm(gradients) / config.clip).clamp(min=1)  # type: ignore[attr-defined]
        self.optimizer.step()
        self.step += 1
        self._update_average()
        # One transfer a step, and only after everything has been queued: a GPU is not kept waiting.
        values = torch.stack([value.detach() for value in terms]).tolist()
        if not math.isfinite(values[0]):
            raise CheckpointError(f"step {self.step}: the loss is not finite; resume with a lower --rate")
        return dict(zip(terms._fields, values, strict=True)) | {"rate": rate}

    def _update_average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            mine = [v for v in self.model.state_dict().values() if v.is_floating_point()]
            averaged = [v for v in self.average.state_dict().values() if v.is_floating_point()]
            torch._foreach_lerp_(averaged, mine, 1 - decay)

    @torch.no_grad()
    def _settle(self) -> None:
        """Give the averaged weights of the light model the running values that belong to them.

        Averages of running values belong to no network while weights move fast.
        """
        if not isinstance(self.model.backbone, Lite0):
            return
        if not self._settling_batches:  # the same ones in every run
            cpu = torch.device("cpu")
            self._settling_batches = list(batches(self.sampler, self.config.batch, 0, SETTLING, 0, cpu))
        for number, held in enumerate(self._settling_batches):
            batch = Batch(*(value.to(self.device) for value in held))
            pairs = make_pairs(batch.category, batch.instance)
            with autocast(self.device, self.config.bf16):
                seen = match(self.average, batch.template, batch.search, pairs.template, 1 / (number + 1))
            update_statistics(self.average, seen.search, 1 / (number + 1))

    def _validate(self, report: Report) -> None:
        self._settle()
        save_weights(self.average, self.folder / "last.safetensors", self.step)
        if self.held_out is None:
            return
        if not self._held_out_batches:  # the same ones in every run
            size, count = self.config.validation_batches
            self._held_out_batches = list(batches(self.held_out, size, 0, count, 0, torch.device("cpu")))
        picture = self.folder / "pictures" / f"{self.step:06d}.jpg"
        with autocast(self.device, self.config.bf16):
            result = validate(self.average, self._held_out_batches, self.device, picture)
        means = {
            name: getattr(result, name) for name in ("top_overlap", "fine_auc", "fine_overlap", "fine_correlation")
        }
        self.history.append({"step": self.step, **means})
        if result.score > self.best:
            self.best = result.score
            save_weights(self.average, self.folder / "best.safetensors", self.step)
        report({"kind": "validation", "step": self.step, **result._asdict()})


def autocast(device: torch.device, bf16: bool) -> torch.autocast:
    """A context in which convolutions and products are computed in bfloat16, if ``bf16``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)
