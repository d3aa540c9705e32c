"""ForkMerge's rounds: branches start at the same weights and are merged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.callbacks.average_parameters import AverageParameters
from lightning_modules.callbacks.stopping import raise_if_others_nonfinite
from lightning_modules.hooks import HookReporter
from lightning_modules.module import MultiTaskModule, as_multitask
from lightning_modules.transfer.branch_search import (
    Acceptance,
    Coefficients,
    CoefficientSearch,
    corners,
)
from lightning_modules.transfer.branch_snapshot import (
    BranchSnapshot,
    load_weights,
    merge_snapshots,
    validation_scores,
)
from pollinate.errors import UsageError


class BranchPlan(Protocol):
    """What rounds ask of the method: see ``ForkMerge``."""

    targets: list[str]
    every_n_steps: int
    stop_at: dict[str, float]
    search: CoefficientSearch
    acceptance: Acceptance
    active: str
    processes: int

    @property
    def names(self) -> list[str]:
        """The branches, in the order in which they train."""

    @property
    def num_branches(self) -> int:
        """As many as branches of a process."""


def trainer_problems(trainer: Trainer, plan: BranchPlan, max_steps: int | None) -> Iterator[str]:
    """Yield what rounds don't fit.

    Args:
        trainer: about to train.
        plan: the branches and their steps.
        max_steps: optimizer steps of the run, or None.
    """
    round_, accumulate = plan.num_branches * plan.every_n_steps, trainer.accumulate_grad_batches
    if plan.every_n_steps % accumulate:
        yield (
            f"transfer.every_n_steps must be a multiple of trainer.accumulate_grad_batches="
            f"{accumulate}, got {plan.every_n_steps}; gradients of one branch would move another"
        )
    steps = round_ // accumulate
    if max_steps is not None and max_steps % max(1, steps):
        yield (
            f"trainer.max_steps must be a multiple of {steps}, the optimizer steps of a round, got "
            f"{max_steps}"
        )
    if trainer.val_check_batch != trainer.num_training_batches:
        yield (
            "trainer.val_check_interval must leave validations to the ends of epochs, which are "
            f"rounds, got {trainer.val_check_interval}; leave it out"
        )
    if trainer.num_training_batches != round_:
        yield (
            f"trainer.limit_train_batches must leave a round of {round_} whole, got "
            f"{trainer.num_training_batches}"
        )


def averaging_problems(callbacks: list[Callback]) -> Iterator[str]:
    """Yield what would average weights in the middle of a round."""
    if any(isinstance(one, AverageParameters) for one in callbacks):
        yield (
            "trainer.averaging must be null with transfer=fork_merge: it would average branches in "
            "the middle of a round; use trainer=branches for a branch a process"
        )
    if any(isinstance(one, WeightAveraging) for one in callbacks):
        yield (
            "ema_decay must be null with transfer=fork_merge: an average over branches that start "
            "anew is of no use"
        )


Scores = dict[str, float]


class ForkMergeRounds(Callback):
    """Trains branches from one start, merges them, accepts or rolls back.

    Acts before RunCheckpoint, whose state of a round under way has the start and the branches that
    are done; where each process trains its own, checkpoints are written between rounds only.

    Logged are ``fork_merge/accepted`` (1 or 0), ``fork_merge/coefficient/<branch>`` of the best
    merge, ``fork_merge/score/<branch>/<task>`` of each branch, and ``fork_merge/kept/<task>`` of
    the weights with which the next round starts.

    Args:
        plan: branches, search, and when a merge is accepted.
        report: where to tell of a round.
    """

    def __init__(self, plan: BranchPlan, report: HookReporter) -> None:
        self.plan = plan
        self.report = report
        self.round = 0  # rounds that are over
        self.batches = 0  # of the branch that trains
        self.start: BranchSnapshot | None = None
        self.done: list[BranchSnapshot] = []
        self.scores: Scores = {}  # of the start
        self._tried: dict[Coefficients, Scores] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let each process that trains a branch of its own take all rows."""
        divides = self.plan.processes == 1
        as_multitask(pl_module).engine.divides_rows = datamodule_of(trainer).divides_rows = divides

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure where the first round starts; end at once if the aim was reached.

        Raises:
            UsageError: an option of the trainer that rounds don't fit.
        """
        module = as_multitask(pl_module)
        for problem in trainer_problems(trainer, self.plan, module.optimization.max_steps):
            raise UsageError(problem)
        if self.start is None:
            self.start = BranchSnapshot.of(trainer, module)
        if not self.round and not self.done and not self.batches:
            self.scores = validation_scores(trainer, module, datamodule_of(trainer))
            self.plan.acceptance.accept(self.scores)
        self._activate(trainer)
        if self._reached():
            trainer.should_stop = True
            if trainer.is_global_zero:
                self.report.say("transfer.stop_at is reached before the first step of this run")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """End a branch after its last step, and the round after its last branch."""
        module = as_multitask(pl_module)
        module.engine.weights_differ = self.plan.processes > 1
        self.batches += 1
        if self.batches < self.plan.every_n_steps:
            return
        module.pending_metrics()  # measured before anything of the branch changes
        assert self.start is not None
        self.done.append(BranchSnapshot.of(trainer, module))
        self.batches = 0
        if len(self.done) < self.plan.num_branches:
            self.start.restore(trainer, module)
        else:
            self._gather(trainer, module)
            self._merge(trainer, module)
            module.engine.weights_differ = False
            trainer.should_stop |= self._reached()
        self._activate(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the round under way; between two rounds the start is what the checkpoint is of."""
        under_way = bool(self.done or self.batches)
        return {
            "round": self.round,
            "batches": self.batches,
            "start": self.start.state_dict() if self.start and under_way else None,
            "done": [branch.state_dict() for branch in self.done],
            "scores": self.scores,
            "baseline": self.plan.acceptance.baseline,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.round, self.batches = state_dict["round"], state_dict["batches"]
        start = state_dict["start"]
        self.start = None if start is None else BranchSnapshot(**start)
        self.done = [BranchSnapshot(**branch) for branch in state_dict["done"]]
        self.scores = dict(state_dict["scores"])
        self.plan.acceptance.baseline = dict(state_dict["baseline"])

    def _gather(self, trainer: Trainer, module: MultiTaskModule) -> None:
        processes = self.plan.processes
        if processes == 1:
            return
        raise_if_others_nonfinite(trainer)
        own = self.done
        self.done = [
            own[number // processes].broadcast(trainer, number % processes)
            for number in range(len(self.plan.names))
        ]
        for branch in own:
            module.engine.traffic.add(sum(w.numel() for w in branch.weights.values()))
        module.engine.traffic.synchronisations += 1

    def _merge(self, trainer: Trainer, module: MultiTaskModule) -> None:
        """Search coefficients; go on from the best merge, or from the start again."""
        assert self.start is not None
        acceptance, names = self.plan.acceptance, self.plan.names
        self._tried = {}

        def value(coefficients: Coefficients) -> float:
            return acceptance.value(self._try(trainer, module, coefficients))

        for branch in corners(len(names)):  # for the record
            self._try(trainer, module, branch)
        best = self.plan.search.run(len(names), value, seed=self.round)
        accepted = value(best) > -float("inf")
        if not accepted:  # the best of those that were refused, for the record
            best = max(self._tried, key=lambda tried: acceptance.gain(self._tried[tried]))
        scores = self._tried[best]
        fallen = acceptance.fallen(scores)
        if accepted:
            following = merge_snapshots(self.done, best)
            acceptance.accept(scores)
            self.scores = scores
        else:
            following = self.start.with_schedule_of(self.done[-1])
        following.restore(trainer, module)
        self.start, self.done = BranchSnapshot.of(trainer, module), []
        self.round += 1
        self._tell(trainer, best, scores, accepted, fallen)

    def _try(self, trainer: Trainer, module: MultiTaskModule, coefficients: Coefficients) -> Scores:
        """Return the validation scores of a merge, measured once a round."""
        if coefficients not in self._tried:
            load_weights(module, merge_snapshots(self.done, coefficients).weights)
            self._tried[coefficients] = validation_scores(trainer, module, datamodule_of(trainer))
        return self._tried[coefficients]

    def _tell(
        self,
        trainer: Trainer,
        best: Coefficients,
        scores: Scores,
        accepted: bool,
        fallen: Scores,
    ) -> None:
        names, targets = self.plan.names, self.plan.targets
        numbers = {"fork_merge/accepted": float(accepted)}
        numbers |= {f"fork_merge/coefficient/{n}": c for n, c in zip(names, best, strict=True)}
        for name, branch in zip(names, corners(len(names)), strict=True):
            for task, score in self._tried[branch].items():
                numbers[f"fork_merge/score/{name}/{task}"] = score
        numbers |= {f"fork_merge/kept/{task}": score for task, score in self.scores.items()}
        self.report.publish(trainer, numbers)
        if not trainer.is_global_zero:
            return
        mix = " + ".join(f"{c:.2g} {n}" for n, c in zip(names, best, strict=True) if c > 0)
        measured = ", ".join(f"{task} {scores.get(task, float('nan')):.3f}" for task in targets)
        falls = ", ".join(f"{task} falls by {fall:.3f}" for task, fall in fallen.items())
        verdict = "accepted" if accepted else f"rolled back: {falls or 'a target has no score'}"
        self.report.say(f"round {self.round}  {mix}: {measured}; {verdict}")

    def _activate(self, trainer: Trainer) -> None:
        rank = trainer.global_rank if self.plan.processes > 1 else 0
        self.plan.active = self.plan.names[len(self.done) * self.plan.processes + rank]

    def _reached(self) -> bool:
        aims = self.plan.stop_at
        return bool(aims) and all(self.scores.get(t, -1e9) >= aim for t, aim in aims.items())


def datamodule_of(trainer: Trainer) -> MixedDataModule:
    """Return the run's data."""
    data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in fit
    assert isinstance(data, MixedDataModule)
    return data
