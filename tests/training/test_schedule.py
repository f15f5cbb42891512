"""Rates and stages by steps and by the clock, layers that learn at shares of the rate, presets, and throughput."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spm_export.model.checkpoint import load_model
from spm_rt.settings import ModelSpec
from spm_train import cli, trainer
from spm_train.config import AugmentConfig, LossConfig, ObjectiveConfig, SamplingConfig, TrainConfig
from spm_train.data.loading import batches
from spm_train.data.packed import PackedStills
from spm_train.data.sampling import PairSampler
from spm_train.objective.pairs import Batch
from spm_train.presets import PRESETS
from spm_train.trainer import Trainer


def make_trainer(stills: Path, folder: Path, **changes: Any) -> Trainer:
    sampling = SamplingConfig(search_side=175, held_out_every=0)
    config = TrainConfig(**{"batch": 2, "bf16": False, "warmup": 1, "sampling": sampling, **changes})
    sampler = PairSampler([PackedStills(stills)], sampling, ModelSpec(), config.seed)
    return Trainer(load_model([]), config, sampler, None, folder, torch.device("cpu"), 0)


def train_one_step(run: Trainer) -> None:
    """Without a run's end, which writes more than half a gigabyte."""
    run.train_step(next(iter(batches(run.sampler, run.config.batch, 0, 1, 0, run.device))))


def test_shallow_layers_learn_at_their_share_and_taps_of_zero_stay_zero(stills: Path, tmp_path: Path) -> None:
    run = make_trainer(stills, tmp_path, steps=1, train_shallow=True, shallow_rate=0.1, backbone_rate=0.4)
    before = {name: value.clone() for name, value in run.model.backbone.named_parameters()}
    is_zero = before["conv1.weight"] == 0
    assert 0 < is_zero.sum() < is_zero.numel(), "the shipped weights fill 7 x 7 of 11 x 11"
    train_one_step(run)
    after = dict(run.model.backbone.named_parameters())
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    assert torch.equal(after["conv1.weight"] == 0, is_zero)
    # AdamW's first step is as long as the rate, whatever the gradient.
    moved = [(after[f"conv{layer}.bias"] - before[f"conv{layer}.bias"]).abs().max().item() for layer in (1, 2, 3, 4)]
    assert moved == pytest.approx([0.1 * 4e-4, 0.1 * 4e-4, 0.4 * 4e-4, 0.4 * 4e-4], rel=0.05)


def test_frozen_layers_stay(stills: Path, tmp_path: Path) -> None:
    run = make_trainer(stills, tmp_path, steps=1)
    before = {name: value.clone() for name, value in run.model.backbone.named_parameters()}
    train_one_step(run)
    same = {name for name, value in run.model.backbone.named_parameters() if torch.equal(value, before[name])}
    assert same == {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}


def test_gradients_are_clipped_as_by_pytorchs_function(stills: Path, tmp_path: Path) -> None:
    runs = [make_trainer(stills, tmp_path, steps=2, clip=clip) for clip in (0.5, 1e9)]
    batch = next(iter(batches(runs[0].sampler, 2, 0, 1, 0, runs[0].device)))
    plain = runs[1]
    step = plain.optimizer.step

    def clipped() -> None:
        assert nn.utils.clip_grad_norm_(plain.model.parameters(), 0.5) > 0.5
        step()

    plain.optimizer.step = clipped  # type: ignore[method-assign,assignment]
    for run in runs:
        run.train_step(batch)
    states = [next(iter(run.optimizer.state.values())) for run in runs]
    torch.testing.assert_close(states[0]["exp_avg"], states[1]["exp_avg"], atol=1e-9, rtol=1e-3)


@dataclasses.dataclass
class Clock:
    """Seconds that pass with every step; and of each step the time, the search crop's side and the rate."""

    now: float = 1000.0
    seen: list[tuple[float, int, float]] = dataclasses.field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now

    def step_of(self, run: Trainer) -> Any:
        def step(batch: Batch) -> dict[str, float]:
            self.seen.append((self.now - 1000, batch.search.shape[-1], run.rate_at(run.progress())))
            run.step += 1
            self.now += 10
            return {}

        return step


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(trainer, "time", made)
    return made


RECIPE = {"rate": 0.1, "decay": 0.5, "final_rate": 0.0, "whole_after": 0.5, "whole_shift": 60}


@pytest.mark.parametrize("length", [{"minutes": 1.0}, {"steps": 6}])
def test_rates_and_stages_by_the_clock_and_by_steps(
    length: dict[str, float], stills: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_trainer(stills, tmp_path, **RECIPE, **length)
    monkeypatch.setattr(Trainer, "save", lambda _: None)
    monkeypatch.setattr(trainer, "save_weights", lambda *_: None)
    run.train_step = clock.step_of(run)  # type: ignore[method-assign]
    run.run(lambda _: None)
    assert [side for _, side, _ in clock.seen] == [175, 175, 175, 271, 271, 271]
    falling = [0.1 * (0.5 + 0.5 * math.cos(math.pi * part / 3)) for part in (0, 1, 2)]
    assert [rate for *_, rate in clock.seen] == pytest.approx([0.1, 0.1, 0.1, *falling])
    assert run.sampler.config.search_side == 175


def test_a_run_by_the_clock_goes_on_with_the_time_that_is_left(stills: Path, tmp_path: Path, clock: Clock) -> None:
    run = make_trainer(stills, tmp_path, **RECIPE, minutes=1.0)
    run.train_step = clock.step_of(run)  # type: ignore[method-assign]
    run.run(lambda _: None, deadline=clock.now + 15)
    assert run.step == 2
    clock.now += 5000
    again = make_trainer(stills, tmp_path, **RECIPE, minutes=1.0)
    assert again.resume()
    again.train_step = clock.step_of(again)  # type: ignore[method-assign]
    again.run(lambda _: None)
    assert [side for _, side, _ in clock.seen] == [175, 175, 175, 271, 271, 271]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_options_that_fit_and_those_given_beside_them_win(name: str) -> None:
    arguments = ["--data", "got10k:x", "--out", "x", "--preset", name]
    options = cli.parse_options([*arguments, "--rate", "1e-5"])
    assert options.rate == 1e-5
    assert PRESETS[name].keys() <= vars(cli.parse_options(arguments[:4])).keys()
    assert {option: vars(options)[option] for option in PRESETS[name]} == PRESETS[name] | {"rate": 1e-5}
    assert sum(PRESETS[name]["weights"].values()) == pytest.approx(1, abs=1e-3)


def test_every_setting_is_an_option() -> None:
    options = vars(cli.parse_options(["--data", "x", "--out", "x"]))
    fixed = {"objective", "sampling", "loss", "augment", "bf16", "momentum", "anchor_high", "anchor_low", "fine_high"}
    fixed |= {"coarse_class", "coarse_box", "fine_class", "fine_box"}
    for config in (TrainConfig, SamplingConfig, AugmentConfig, ObjectiveConfig, LossConfig):
        assert {field.name for field in dataclasses.fields(config)} - fixed <= options.keys()


def test_throughput_is_measured_and_nothing_written(
    stills: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    more = "--preset h200 --batch 2 --search-side 175 --shift 16 --workers 0 --threads 1 --held-out-every 0 --json"
    data = ["--data", f"packed-stills:{stills}", "--init", "none"]
    assert cli.main([*data, "--throughput", "0.1", *more.split()]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert (measured["batch"], measured["search_side"], measured["threads"]) == (2, 175, 1)
    assert all(measured[f"samples_per_second_{name}"] > 0 for name in ("data", "step", "both"))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_without_a_folder_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--data", "got10k:x"])
    assert stop.value.code == 2
    assert "--out" in capsys.readouterr().err
