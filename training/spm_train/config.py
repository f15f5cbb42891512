"""Everything a run depends on, in one frozen object that is stored in its checkpoints.

The fields' defaults are those of the command line, and their meanings its help.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from spm_rt.errors import SettingsError
from spm_rt.settings import ModelSpec


def setting(default: Any, meaning: str, metavar: str | None = None) -> Any:
    """A field with a default and what it means; ``metavar`` stands for its value in the help of the command line."""
    about = {"help": f"{meaning} (default %(default)s)", "metavar": metavar}
    return dataclasses.field(default=default, metadata=about)


def share(default: float, meaning: str) -> Any:
    """A :func:`setting` from 0 to 1."""
    return setting(default, meaning, "SHARE")


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the four losses, and of the optional overlap losses beside the two box losses."""

    coarse_class: float = 1.0
    coarse_box: float = 2.0
    fine_class: float = 1.0
    fine_box: float = 1.0
    overlap: float = setting(1.0, "weight of 1 - GIoU of the decoded boxes, in both stages; not in the paper")
    positives: int = setting(16, "coarse positives that count, per pair")
    sampled: int = setting(64, "coarse anchors that count, per pair; those not positive are negative, half the hardest")


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What counts as a positive, and how many boxes the fine stage compares."""

    generalised: bool = setting(True, "every object of the template's category is a coarse positive; off: the target")
    anchor_high: float = 0.6
    anchor_low: float = 0.3
    fine_high: float = 0.5
    graded_from: float = setting(0.0, "IoU of a fine box up to which its score should be 0, if graded_to is above 0")
    graded_to: float = setting(
        0.0, "IoU from which on it should be 1, rising evenly between; 0: 1 where the proposal's own IoU is 0.5 or more"
    )
    near: int = setting(8, "fine boxes per pair jittered around the target")
    proposed: int = setting(6, "fine boxes per pair from the coarse stage")
    distractors: int = setting(2, "fine boxes per pair on other objects, or what the coarse stage takes for the target")
    crossed: int = setting(4, "fine boxes per pair of two different objects")
    momentum: float = 0.01
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """How often and how strongly crops are changed. Probabilities are per crop, unless stated otherwise."""

    shift: float = setting(40, "largest shift of the target from the search crop's centre, in crop pixels", "PX")
    wide_shift: float = share(0.4, "search crops whose shift is uniform up to ``shift``; others stay near the centre")
    scale: float = setting(0.18, "standard deviation of the log of the object's size in the search crop")
    aspect: float = setting(0.09, "standard deviation of the log stretch of the search crop's picture")
    aspect_limit: float = setting(0.3, "largest log stretch")
    wide_aspect: float = share(0.0, "search crops stretched by the next two numbers instead")
    wide_aspect_deviation: float = setting(0.35, "standard deviation of the log stretch of those")
    wide_aspect_limit: float = setting(0.9, "largest log stretch of those")
    extent: float = share(0.0, "pairs whose box is a part of the object or has a margin, the same in both crops")
    extent_deviation: float = setting(
        0.13, "standard deviation of how far each side of such a box moves, as a share of the box; at most 0.3"
    )
    mirror: float = share(0.5, "both crops mirrored (per pair)")
    turn_round: float = share(0.15, "one of the two crops mirrored alone, as when an animal turns round (per pair)")
    template_angle: float = share(0.2, "templates that are turned, by up to 15 degrees")
    color: float = share(0.7, "crops with other colours (each alone)")
    grey: float = share(0.15, "both crops grey (per pair)")
    light: float = share(0.6, "crops with other light and contrast (each alone)")
    blur: float = share(0.2, "blurred crops (each alone)")
    noise: float = share(0.15, "crops with noise (each alone)")
    low_detail: float = share(0.25, "both crops as if the object were small in its picture (per pair)")
    occlusion: float = share(0.2, "search crops with a patch in front of the object")
    background: float = share(0.75, "crops of stills with the surroundings of another picture (each alone)")
    video_background: float = share(0.15, "the same, for search crops of video")
    paste: float = share(0.25, "search crops with another object pasted beside the target")


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """What is drawn how often, and how large the crops are."""

    template_side: int = setting(
        143, "143 has what AlexNet's template needs, 159 the light model's; 271 and 255 are whole crops", "PX"
    )
    search_side: int = setting(207, "271 is the whole crop, 255 the light model's", "PX")
    max_gap: int = setting(60, "largest distance of a pair's frames in a clip, in the clip's listed frames", "FRAMES")
    beside: float = setting(
        0.0, "samples compared with another object of the category in the same clip or picture, where there is one"
    )
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """data set name -> share; a set without an entry gets the square root of its number of groups"""
    held_out_every: int = setting(12, "one clip or picture in N is kept for validation; 0 for none", "N")
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    def whole(self, side: int, shift: float) -> SamplingConfig:
        """The same with whole search crops, of ``side`` pixels."""
        return dataclasses.replace(self, search_side=side, augment=dataclasses.replace(self.augment, shift=shift))


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One run."""

    steps: int = setting(4000, "length of the run")
    minutes: float = setting(
        0.0, "length of the run by the clock, instead of --steps; the last validation comes on top"
    )
    whole_after: float = share(1.0, "part of the run after which whole crops are searched")
    whole_shift: float = setting(64, "largest shift of the target in those, in crop pixels", "PX")
    batch: int = setting(16, "samples per step, an even number; each is compared with two templates")
    rate: float = setting(4e-4, "learning rate of the two heads")
    backbone_rate: float = share(
        0.4, "that of the backbone's later layers (conv3..conv5), as a share of the heads'; 0: frozen"
    )
    shallow_rate: float = share(
        0.1, "that of its first layers (conv1, conv2) with --train-shallow, as a share of the heads'"
    )
    warmup: int = setting(150, "steps over which the rate rises", "STEPS")
    decay: float = share(0.45, "last part of the run, over which the rate falls (half a cosine)")
    final_rate: float = share(0.02, "what the rate falls to, as a share of itself")
    weight_decay: float = setting(0.01, "of AdamW")
    clip: float = setting(10.0, "largest norm of the gradient")
    ema: float = setting(0.998, "decay per step of the averaged weights, which are validated and written out")
    train_shallow: bool = setting(False, "train the backbone's first layers too, which are frozen otherwise")
    bf16: bool = True
    seed: int = setting(1, "of samples and losses")
    validate_every: int = setting(
        250, "steps between two validations; each writes a picture, and best.safetensors if it is best", "STEPS"
    )
    validation_samples: int = setting(192, "held-out samples of a validation")
    save_every: int = setting(100, "steps between two states that a killed run resumes from", "STEPS")
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        def require(condition: bool, text: str) -> None:
            if not condition:
                raise SettingsError(text)

        require(self.steps > 0, f"steps is {self.steps}; it must be 1 or more")
        even = self.batch >= 2 and self.batch % 2 == 0
        require(even, f"batch is {self.batch}; it must be even (samples come in twos)")
        require(0 < self.rate < 1, f"rate is {self.rate}; it must lie between 0 and 1")
        require(0 <= self.decay <= 1, f"decay is {self.decay}; it must lie between 0 and 1")
        require(0 <= self.ema < 1, f"ema is {self.ema}; it must be at least 0 and below 1")
        low, high = self.objective.graded_from, self.objective.graded_to
        graded = 0 <= low < high <= 1 or low == high == 0
        require(graded, f"graded_from is {low}, graded_to {high}; they must rise, from 0 to 1, or both be 0")
        require(self.save_every > 0 and self.validate_every > 0, "save_every and validate_every must be 1 or more")

    @property
    def validation_batches(self) -> tuple[int, int]:
        """How many samples a batch of a validation has, and how many batches there are."""
        size = min(16, self.validation_samples)
        return size, math.ceil(self.validation_samples / size)

    def check_sides(self, spec: ModelSpec) -> None:
        """Refuse crops whose cells are not cells of the whole crop, or too small for what is read of them.

        Raises:
            SettingsError: the message says which.
        """
        step, full = 2 * spec.coarsest_stride, spec.crop_size
        least = {"template_side": spec.template_cells + 12, "search_side": spec.cells - spec.search_cells + 12}
        for name, cells in least.items():
            side, smallest = getattr(self.sampling, name), cells * spec.stride - 1
            fits = smallest <= side <= full and (full - side) % step == 0
            if not fits:
                raise SettingsError(
                    f"{name} is {side}; it must be {full} less a multiple of {step}, and at least {smallest}"
                )
