"""Everything a run depends on, in one frozen object that is stored in its checkpoints."""

from __future__ import annotations

import dataclasses

from spm_rt.errors import SettingsError

from .data.sampling import SamplingConfig
from .objective.total_loss import ObjectiveConfig


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One run.

    Attributes:
        steps: length of the run; the rate falls over the last ``decay`` of it.
        batch: samples per step, an even number; each is compared with two templates.
        rate: learning rate of the two heads.
        backbone_rate: that of conv3 to conv5, as a share of ``rate``; conv1 and conv2 are frozen.
        warmup: steps over which the rate rises.
        decay: share of the steps, at the end, over which the rate falls to ``final_rate`` of itself (half a cosine).
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        ema: per-step decay of the averaged weights, which are the ones validated and written out.
        validate_every: steps between two validations; each writes a picture and ``best.safetensors`` if it is best.
        save_every: steps between two states that a killed run resumes from.
    """

    steps: int = 4000
    batch: int = 16
    rate: float = 3e-4
    backbone_rate: float = 0.4
    warmup: int = 100
    decay: float = 0.4
    final_rate: float = 0.02
    weight_decay: float = 1e-3
    clip: float = 10.0
    ema: float = 0.998
    train_shallow: bool = False
    bf16: bool = True
    seed: int = 1
    validate_every: int = 250
    validation_samples: int = 192
    save_every: int = 100
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        def require(condition: bool, text: str) -> None:
            if not condition:
                raise SettingsError(text)

        require(self.steps > 0, f"steps is {self.steps}; it must be 1 or more")
        require(
            self.batch >= 2 and self.batch % 2 == 0, f"batch is {self.batch}; it must be even (samples come in twos)"
        )
        require(0 < self.rate < 1, f"rate is {self.rate}; it must lie between 0 and 1")
        require(0 <= self.decay <= 1, f"decay is {self.decay}; it must lie between 0 and 1")
        require(0 <= self.ema < 1, f"ema is {self.ema}; it must be at least 0 and below 1")
        require(self.save_every > 0 and self.validate_every > 0, "save_every and validate_every must be 1 or more")
        for name in ("template_side", "search_side"):
            side = getattr(self.sampling, name)
            require(
                143 <= side <= 271 and (271 - side) % 16 == 0,
                f"{name} is {side}; it must be 271 less a multiple of 16, and at least 143",
            )
        require(self.sampling.search_side >= 175, "search_side must be at least 175")
