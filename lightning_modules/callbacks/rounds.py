"""Rounds of branches that start at the same weights and are merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.mixed import MixedDataModule
from lightning_modules.callbacks.nonfinite import ask_others
from lightning_modules.callbacks.whole_rounds import problems
from lightning_modules.forking.simplex import Coefficients
from lightning_modules.forking.snapshot import Snapshot, load, merged
from lightning_modules.forking.validation import validation_scores
from lightning_modules.multitask import MultiTaskModule, multitask
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from lightning_modules.transfer.base import Report
    from lightning_modules.transfer.fork_merge import ForkMerge

Scores = dict[str, float]


class Rounds(Callback):
    """Trains branches from one start, merges them, accepts or rolls back.

    Acts before RunCheckpoint, whose state of a round under way has the start and the branches that
    are done; where each process trains its own, checkpoints are written between rounds only.

    Logged are ``fork_merge/accepted`` (1 or 0), ``fork_merge/coefficient/<branch>`` of the best
    merge, ``fork_merge/score/<branch>/<task>`` of each branch alone, and ``fork_merge/kept/<task>``
    of the weights with which the next round starts.

    Args:
        plan: branches, search, and when a merge is accepted.
        report: where to tell of a round.
    """

    def __init__(self, plan: ForkMerge, report: Report) -> None:
        self.plan = plan
        self.report = report
        self.round = 0  # rounds that are over
        self.batches = 0  # of the branch that trains
        self.start: Snapshot | None = None
        self.done: list[Snapshot] = []
        self.scores: Scores = {}  # of the start
        self._tried: dict[Coefficients, Scores] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let each process that trains a branch of its own take all rows."""
        divided = self.plan.processes == 1
        multitask(pl_module).meeting.divided = data_of(trainer).divided = divided

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure where the first round starts; end at once if the aim was reached.

        Raises:
            UsageError: an option of the trainer that rounds don't fit.
        """
        module = multitask(pl_module)
        for problem in problems(trainer, self.plan, module.optimization.max_steps):
            raise UsageError(problem)
        if self.start is None:
            self.start = Snapshot.of(trainer, module)
        if not self.round and not self.done and not self.batches:
            self.scores = validation_scores(trainer, module, data_of(trainer))
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
        module = multitask(pl_module)
        module.meeting.apart = self.plan.processes > 1
        self.batches += 1
        if self.batches < self.plan.every_n_steps:
            return
        assert self.start is not None
        self.done.append(Snapshot.of(trainer, module))
        self.batches = 0
        if len(self.done) < self.plan.lines:
            self.start.put(trainer, module)
        else:
            self._gather(trainer, module)
            self._merge(trainer, module)
            module.meeting.apart = False
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
        """Go on with what ``state_dict`` returned."""
        self.round, self.batches = state_dict["round"], state_dict["batches"]
        start = state_dict["start"]
        self.start = None if start is None else Snapshot(**start)
        self.done = [Snapshot(**branch) for branch in state_dict["done"]]
        self.scores = dict(state_dict["scores"])
        self.plan.acceptance.baseline = dict(state_dict["baseline"])

    def _gather(self, trainer: Trainer, module: MultiTaskModule) -> None:
        """Let all processes have all branches."""
        processes = self.plan.processes
        if processes == 1:
            return
        ask_others(trainer)
        own = self.done
        self.done = [
            own[number // processes].shared(trainer, number % processes)
            for number in range(len(self.plan.names))
        ]
        for branch in own:
            module.meeting.traffic.add(sum(w.numel() for w in branch.weights.values()))
        module.meeting.traffic.synchronisations += 1

    def _merge(self, trainer: Trainer, module: MultiTaskModule) -> None:
        """Search coefficients; go on from the best merge, or from the start again."""
        assert self.start is not None
        acceptance, names = self.plan.acceptance, self.plan.names
        self._tried = {}

        def value(coefficients: Coefficients) -> float:
            return acceptance.value(self._try(trainer, module, coefficients))

        for number in range(len(names)):  # for the record
            self._try(trainer, module, only(number, len(names)))
        best = self.plan.search.run(len(names), value, seed=self.round)
        accepted = value(best) > -float("inf")
        if not accepted:  # the best of those that were refused, for the record
            best = max(self._tried, key=lambda tried: acceptance.gain(self._tried[tried]))
        scores = self._tried[best]
        fallen = acceptance.fallen(scores)
        if accepted:
            following = merged(self.done, best)
            acceptance.accept(scores)
            self.scores = scores
        else:
            following = self.start.later(self.done[-1])
        following.put(trainer, module)
        self.start, self.done = Snapshot.of(trainer, module), []
        self.round += 1
        self._tell(trainer, best, scores, accepted, fallen)

    def _try(self, trainer: Trainer, module: MultiTaskModule, coefficients: Coefficients) -> Scores:
        """Return the validation scores of a merge, measured once a round."""
        if coefficients not in self._tried:
            load(module, merged(self.done, coefficients).weights)
            self._tried[coefficients] = validation_scores(trainer, module, data_of(trainer))
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
        for number, name in enumerate(names):
            for task, score in self._tried[only(number, len(names))].items():
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


def only(number: int, branches: int) -> Coefficients:
    """Return the coefficients of one branch alone."""
    return tuple(float(other == number) for other in range(branches))


def data_of(trainer: Trainer) -> MixedDataModule:
    """Return the run's data."""
    data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in fit
    assert isinstance(data, MixedDataModule)
    return data
