"""ForkMerge: search of coefficients, acceptance, branches that are merged or rolled back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from lightning_modules.balancers.moco import MoCo
from lightning_modules.hooks import HookReporter
from lightning_modules.local_strategy import LocalSGDStrategy
from lightning_modules.module import MultiTaskModule
from lightning_modules.transfer.annealed import AnnealedTransfer
from lightning_modules.transfer.base import Transfer
from lightning_modules.transfer.branch_search import (
    Acceptance,
    Coefficients,
    CoefficientSearch,
    CoordinateSearch,
    GridSearch,
    RandomSearch,
    compositions,
    corners,
)
from lightning_modules.transfer.branch_snapshot import BranchSnapshot, merge_snapshots
from lightning_modules.transfer.fork_merge import ForkMerge
from lightning_modules.transfer.fork_merge_rounds import ForkMergeRounds
from lightning_modules.transfer.none import NoTransfer
from lightning_modules.transfer.several import Several
from lightning_modules.transfer.source_attention import SourceAttention
from pollinate.errors import UsageError
from tests.lightning_modules.transfer.helpers import SingleSourceOpener, source_of
from tests.tiny import images, labels, multitask, ready, task, texts, trainer

SEARCHES = (GridSearch(4), RandomSearch(20), CoordinateSearch(4))


def near(aim: Coefficients) -> Callable[[Coefficients], float]:
    """A value that is largest at a point."""
    return lambda point: -sum((a - b) ** 2 for a, b in zip(aim, point, strict=True))


@pytest.mark.parametrize("search", SEARCHES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("branches", [1, 2, 3])
def test_all_points_are_of_the_simplex(search: CoefficientSearch, branches: int) -> None:
    tried: list[Coefficients] = []
    search.run(branches, lambda point: tried.append(point) or 0.0, seed=0)  # type: ignore[func-returns-value]  # a note
    assert set(corners(branches)) <= set(tried)
    assert all(abs(sum(point) - 1) < 1e-12 and min(point) >= 0 for point in tried)


@pytest.mark.parametrize("search", SEARCHES, ids=lambda one: type(one).__name__)
def test_a_corner_is_found(search: CoefficientSearch) -> None:
    assert search.run(3, near((0.0, 1.0, 0.0)), seed=0) == (0.0, 1.0, 0.0)


def test_the_grid_has_the_point_between() -> None:
    assert GridSearch(4).run(2, near((0.25, 0.75)), seed=0) == (0.25, 0.75)
    assert CoordinateSearch(4).run(2, near((0.25, 0.75)), seed=0) == (0.25, 0.75)


def test_the_grid_is_all_ways_to_deal_out_the_parts() -> None:
    assert list(compositions(2, 2)) == [(2, 0), (1, 1), (0, 2)]
    assert len(list(compositions(5, 3))) == 21


def test_draws_depend_on_the_seed_alone() -> None:
    aim = near((0.1, 0.2, 0.7))
    first, again, other = (RandomSearch(5).run(3, aim, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_the_first_of_equals_wins() -> None:
    assert GridSearch(2).run(2, lambda point: 0.0, seed=0) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GridSearch(0), "divisions must be >= 1, got 0"),
        (lambda: RandomSearch(-1), "draws must be >= 0, got -1"),
        (lambda: CoordinateSearch(0), "divisions must be >= 1, got 0"),
    ],
)
def test_values_out_of_range(make: Callable[[], CoefficientSearch], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def judge(**tolerance: float) -> Acceptance:
    return Acceptance(["a"], tolerance, {"a": 0.8, "b": 0.5})


def test_the_mean_of_the_targets_counts() -> None:
    both = Acceptance(["a", "b"], {})
    assert both.gain({"a": 0.5, "b": 1.0, "c": 0.0}) == 0.75
    assert both.gain({"a": 0.5}) == both.gain({"a": 0.5, "b": math.nan}) == -math.inf


def test_a_fall_within_tolerance_is_none() -> None:
    assert judge(a=0.0, b=0.125).fallen({"a": 0.8, "b": 0.375}) == {}


def test_a_fall_beyond_tolerance_is_refused() -> None:
    strict = judge(a=0.0, b=0.0625)
    assert strict.fallen({"a": 0.9, "b": 0.375}) == {"b": 0.125}
    assert strict.value({"a": 0.9, "b": 0.375}) == -math.inf


def test_a_task_without_tolerance_may_fall() -> None:
    assert judge(a=0.0).value({"a": 0.9, "b": 0.0}) == 0.9


def test_a_score_that_is_no_number_is_a_fall() -> None:
    assert judge(b=0.1).fallen({"a": 1.0, "b": math.nan}) == {"b": math.inf}
    assert judge(b=0.1).fallen({"a": 1.0}) == {"b": math.inf}


def test_small_falls_don_t_add_up() -> None:
    rule = judge(a=0.25, b=1.0)
    rule.accept({"a": 0.6, "b": 0.7})
    assert rule.baseline == {"a": 0.8, "b": 0.7}
    assert rule.fallen({"a": 0.5, "b": 0.7})


def test_what_has_no_score_leaves_its_baseline() -> None:
    rule = judge()
    rule.accept({"a": math.nan})
    assert rule.baseline == {"a": 0.8, "b": 0.5}


class Run:
    """A run of a few rounds in memory, and what it said."""

    def __init__(self, folder: Path, rounds: int = 1, data: Any = None, **options: Any) -> None:
        self.data = data or ready()
        self.module = multitask(self.data)
        self.plan = ForkMerge(**{"targets": ["notes"], "every_n_steps": 2, **options})
        self.module.transfer = self.plan
        self.plan.setup(
            self.module, self.data, SingleSourceOpener(source_of(self.module, self.data))
        )
        self.lines: list[str] = []
        self.numbers: list[dict[str, float]] = []
        report = HookReporter(lambda _, found: self.numbers.append(found), self.lines.append)
        (self.rounds,) = self.plan.callbacks(report)
        self.folder, self.number = folder, rounds

    def fit(self, **options: Any) -> Trainer:
        fit = trainer(
            self.folder, [self.rounds, *options.pop("more", ())], max_epochs=self.number, **options
        )
        self.plan.attach(fit)
        fit.fit(self.module, datamodule=self.data)
        return fit


def weights(module: MultiTaskModule) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(v, second[k]) for k, v in first.items()
    )


def test_a_merge_of_equal_branches_is_the_branch() -> None:
    state = {"w": torch.randn(3, dtype=torch.float64), "n": torch.tensor(4)}
    branch = BranchSnapshot(state, {"state": 1}, {"last_epoch": 2})
    found = merge_snapshots([branch, branch], [0.25, 0.75])
    assert equal(found.weights, state)
    assert (found.optimizer, found.schedule) == (branch.optimizer, branch.schedule)


def test_the_optimizer_is_that_of_the_heaviest() -> None:
    branches = [BranchSnapshot({"w": torch.tensor(1.0 * i)}, {"state": i}, {}) for i in range(3)]
    found = merge_snapshots(branches, [0.25, 0.25, 0.5])
    assert found.weights["w"].item() == 1.25
    assert found.optimizer == {"state": 2}


def test_what_a_branch_of_coefficient_0_does_not_know_stays_out() -> None:
    known, unknown = torch.tensor([1.0]), torch.tensor([torch.nan])
    found = merge_snapshots(
        [BranchSnapshot({"w": known}, {}, {}), BranchSnapshot({"w": unknown}, {}, {})], [1.0, 0.0]
    )
    assert torch.equal(found.weights["w"], known)


def test_a_balancer_s_state_that_a_round_made_is_rolled_back(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.module = multitask(run.data, balancer=MoCo)  # its traces are made in the first step
    run.module.transfer = run.plan
    run.plan.acceptance.baseline = {"notes": 2.0}
    run.fit()
    rows = [v for name, v in run.module.state_dict().items() if ".row" in name]
    assert rows and not any(row.any() for row in rows)


def test_a_rejected_round_leaves_the_weights(tmp_path: Path) -> None:
    run = Run(tmp_path, rounds=2)
    before = weights(run.module)
    run.plan.acceptance.baseline = {"notes": 2.0}  # which no accuracy reaches
    run.fit()
    assert equal(weights(run.module), before)
    assert [found["fork_merge/accepted"] for found in run.numbers] == [0.0, 0.0]
    assert "rolled back: notes falls by" in run.lines[1]


def test_an_accepted_round_goes_on_from_the_merge(tmp_path: Path) -> None:
    run = Run(tmp_path, tolerance=1.0)
    before = weights(run.module)
    run.fit()
    (found,) = run.numbers
    shares = [found[f"fork_merge/coefficient/{name}"] for name in ("multi_task", "targets_only")]
    assert sum(shares) == pytest.approx(1)
    assert found["fork_merge/accepted"] == 1
    assert not equal(weights(run.module), before)
    assert run.lines[0].startswith("round 1 ") and run.lines[0].endswith("; accepted")


def test_every_branch_starts_at_the_same_weights(tmp_path: Path) -> None:
    """With one batch a branch and no difference in weights or rows, branches are the same."""
    starts: list[dict[str, Tensor]] = []

    class Watch(ForkMergeRounds):
        def _activate(self, trainer: Trainer) -> None:
            super()._activate(trainer)
            starts.append(weights(run.module))

    run = Run(tmp_path, tolerance=0.0, branches={"one": {}, "two": {}, "three": {}})
    run.rounds = Watch(run.plan, run.rounds.report)
    run.plan.acceptance.baseline = {"notes": 2.0}
    run.fit()
    assert len(starts) == 4
    assert all(equal(start, starts[0]) for start in starts[1:])


def test_a_task_of_weight_0_is_not_trained(tmp_path: Path) -> None:
    run = Run(tmp_path, branches={"a": {"shapes": 0.0}, "b": {"shapes": 0.0}}, tolerance=1.0)
    head = run.module.network.heads["shapes"]
    before = {name: value.clone() for name, value in head.state_dict().items()}
    run.fit()
    assert equal(head.state_dict(), before)


def test_branches_go_through_the_schedule_once(tmp_path: Path) -> None:
    run = Run(tmp_path, rounds=3, tolerance=1.0)
    fit = run.fit()
    assert fit.global_step == 12
    assert fit.lr_scheduler_configs[0].scheduler.last_epoch == 6


def test_training_stops_at_the_aim(tmp_path: Path) -> None:
    run = Run(tmp_path, rounds=5, tolerance=1.0, stop_at={"notes": 0.0})
    assert run.fit().global_step == 0  # the start has it
    assert run.lines == ["transfer.stop_at is reached before the first step of this run"]


def test_a_method_is_a_branch_s_own() -> None:
    plan = ForkMerge(["a"], branches={"x": {"b": 0.5}}, methods={"y": NoTransfer()})
    assert plan.names == ["x", "y"]
    losses = {"a": torch.tensor(2.0), "b": torch.tensor(4.0)}
    plan.active = "x"
    assert plan.weight_losses(losses) == {"a": 2.0, "b": 2.0}
    plan.active = "y"
    assert plan.weight_losses(losses) == losses


def test_a_method_s_branch_is_one_more(tmp_path: Path) -> None:
    run = Run(tmp_path, methods={"near": NoTransfer()})
    assert run.plan.names == ["multi_task", "targets_only", "near"]


@pytest.mark.parametrize("method", [SourceAttention({"x": "a"}), ForkMerge(["notes"])])
def test_a_method_that_is_of_all_branches_is_refused(tmp_path: Path, method: Transfer) -> None:
    with pytest.raises(UsageError, match=r"transfer.methods.near can't be one branch's own"):
        Run(tmp_path, methods={"near": Several({"one": method})})


def test_a_run_has_one_kind_of_rounds() -> None:
    with pytest.raises(
        UsageError, match=r"may name one method that trains branches, got one and two"
    ):
        Several({"one": ForkMerge(["a"]), "two": Several({"in": ForkMerge(["b"])})})
    assert AnnealedTransfer(ForkMerge(["a"])).trains_branches
    assert not Several({"one": NoTransfer()}).trains_branches


def test_averages_are_refused_before_a_copy_of_the_module_is_made(tmp_path: Path) -> None:
    fit = trainer(tmp_path, [EMAWeightAveraging(decay=0.5)])
    with pytest.raises(UsageError, match="ema_decay must be null"):
        Run(tmp_path).plan.attach(fit)


def test_all_tasks_as_targets_have_a_branch_each(tmp_path: Path) -> None:
    run = Run(tmp_path, targets=["notes", "shapes"])
    assert run.plan.names == ["multi_task", "notes_only", "shapes_only"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": []}, "transfer.targets must name the tasks to make good, got none"),
        ({"targets": ["note"]}, "names 'note', which is no task; did you mean notes?"),
        ({"every_n_steps": 0}, "transfer.every_n_steps must be >= 1, got 0"),
        ({"tolerance": -0.1}, "transfer.tolerance must be finite and >= 0, got -0.1"),
        ({"tolerance": {"notes": -1.0}}, "transfer.tolerance.notes must be finite and >= 0"),
        ({"tolerance": {"shape": 0.1}}, "transfer.tolerance names 'shape'"),
        ({"stop_at": {"nots": 0.1}}, "transfer.stop_at names 'nots'"),
        ({"branches": {"x": {"shaps": 1.0}}}, "transfer.branches.x names 'shaps'"),
        ({"branches": {"x": {"notes": -1.0}}}, "transfer.branches.x.notes must be finite and >= 0"),
        ({"branches": {"x": {}}}, "transfer.branches must be >= 2 to be merged, got x"),
    ],
)
def test_what_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Run(tmp_path, **options)
    assert message in str(caught.value)


def test_a_target_without_validation_labels_is_refused(tmp_path: Path) -> None:
    parts = ["train"] * 20 + ["valid"] * 10 + ["test"] * 10
    kinds = [
        kind if part != "valid" else None for kind, part in zip(labels(40), parts, strict=True)
    ]
    notes = texts(40, kind=kinds, part=parts)
    notes.split = {"column": "part"}
    tasks = {"notes": task("notes", target="kind"), "shapes": task("shapes")}
    data = ready({"notes": notes, "shapes": images()}, tasks)
    with pytest.raises(UsageError, match="notes, which has no label in the validation split"):
        Run(tmp_path, data=data)


def test_other_epochs_are_refused(tmp_path: Path) -> None:
    data = ready()
    data.sampler.steps_per_epoch = 7
    with pytest.raises(UsageError, match="steps_per_epoch must be 4, a round of 2 branches of 2"):
        Run(tmp_path, data=data).fit()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda: {"accumulate_grad_batches": 4}, "multiple of trainer.accumulate_grad_batches=4"),
        (lambda: {"limit_train_batches": 3}, "limit_train_batches must leave a round of 4 whole"),
        (lambda: {"val_check_interval": 2}, "val_check_interval must leave validations"),
    ],
)
def test_what_would_cut_a_round_is_refused(
    tmp_path: Path, options: Callable[[], dict[str, Any]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Run(tmp_path).fit(**options())


@pytest.mark.parametrize(
    ("strategy", "processes", "message"),
    [
        (ModelParallelStrategy(1, 1), 2, "fork_merge needs whole weights, and trainer=fsdp2"),
        (LocalSGDStrategy(), 3, "must divide the number of branches, got 3 for multi_task, t"),
    ],
)
def test_processes_that_do_not_fit(
    tmp_path: Path, strategy: Any, processes: int, message: str
) -> None:
    fit: Any = SimpleNamespace(strategy=strategy, world_size=processes, callbacks=[])
    with pytest.raises(UsageError, match=message):
        Run(tmp_path).plan.attach(fit)


def test_processes_divide_the_branches(tmp_path: Path) -> None:
    run = Run(tmp_path)
    fit: Any = SimpleNamespace(strategy=LocalSGDStrategy(), world_size=2, callbacks=[])
    run.plan.attach(fit)
    assert (run.plan.num_branches, run.data.sampler.steps_per_epoch) == (1, 2)


def test_max_steps_must_be_of_whole_rounds(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.module.optimization.max_steps = 6
    with pytest.raises(UsageError, match=r"max_steps must be a multiple of 4, .* got 6"):
        run.fit()
