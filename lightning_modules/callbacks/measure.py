"""Turns what the module gathers into named metrics."""

from __future__ import annotations

import time

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from lightning_modules.distributed import local_only
from lightning_modules.evaluation_module import EvaluationModule, as_evaluated
from lightning_modules.module import MultiTaskModule, as_multitask


class Measure(Callback):
    """Logs losses, scores, weights, learning rates, rows and speed.

    Names: ``train|valid|test/<task>/<metric>``, ``valid/score`` (mean of the tasks' main metrics),
    ``weight/<task>``, ``rows/<task>`` (labelled rows so far), ``epoch_rows/<task>``,
    ``passes/<data set>`` (how often it has been gone through), ``lr/<part>``,
    ``train/steps_per_second``, what the trunk gauges: ``gate/<task>/<source>``,
    ``load/<task>/<source>``, and what transfer does: ``source/<task>/<source>``,
    ``transfer/<method>/<name>``. Of several processes ``traffic/floats_sent`` and
    ``traffic/synchronisations``. The step is the number of optimizer steps.

    Args:
        every_n_steps: optimizer steps between two log lines, >= 1.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self.stage_scores: dict[str, dict[str, dict[str, float]]] = {}
        self.matrices: dict[str, dict[str, Tensor]] = {}
        self.latest: dict[str, float] = {}  # of every metric, whenever it was last measured
        self._clock: tuple[int, float] = (0, 0.0)
        self._paused = 0.0
        self._logged_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._clock = (trainer.global_step, time.perf_counter())
        self._logged_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Log every n optimizer steps."""
        step = trainer.global_step
        if step == self._logged_step or step % self.every_n_steps:
            return
        self._logged_step = step
        module = as_multitask(pl_module)
        with local_only(module.engine.local):  # a process that steps on its own has its own figures
            self.publish(trainer, self._step_metrics(trainer, module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the training scores of the epoch, and the rows that it had."""
        module = as_multitask(pl_module)
        scores = module.progress.take_scores()
        named = {f"train/{task}/{module.tasks[task].score}": v for task, v in scores.items()}
        named |= {f"epoch_rows/{t}": float(n) for t, n in module.progress.take_epoch_rows().items()}
        data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in fit
        if data is not None:
            named |= {f"passes/{name}": passes for name, passes in data.passes().items()}
        self.publish(trainer, named | {"epoch": float(trainer.current_epoch)})

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the validation's time out of the training speed."""
        self._paused = time.perf_counter()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the validation scores."""
        self._finish_stage(trainer, as_evaluated(pl_module), "valid")
        step, since = self._clock
        self._clock = (step, since + time.perf_counter() - self._paused)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the test scores."""
        self._finish_stage(trainer, as_evaluated(pl_module), "test")

    def _finish_stage(self, trainer: Trainer, module: EvaluationModule, stage: str) -> None:
        numbers, self.matrices[stage] = module.scores.take()
        self.stage_scores[stage] = numbers
        # validating the best weights once more, after training, isn't part of the history
        if trainer.state.fn != TrainerFn.VALIDATING and not trainer.sanity_checking:
            self.publish(trainer, stage_metrics(module, stage, numbers))

    def publish(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        """Give metrics to the loggers and to callbacks that monitor one."""
        self.latest |= metrics
        trainer.callback_metrics.update({name: torch.tensor(v) for name, v in metrics.items()})
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)

    def _step_metrics(self, trainer: Trainer, module: MultiTaskModule) -> dict[str, float]:
        metrics = {f"train/{t}/loss": loss for t, loss in module.progress.losses.take().items()}
        with torch.no_grad():
            weights = module.balancer.task_weights(module.losses)
        metrics |= {f"weight/{task}": weight for task, weight in weights.items()}
        metrics |= {f"rows/{task}": float(rows) for task, rows in module.progress.rows.items()}
        metrics |= module.network.trunk.gauges(list(module.losses))
        metrics |= module.transfer.gauges() | module.engine.traffic.metrics()
        for group in trainer.optimizers[0].param_groups:
            metrics[f"lr/{group['part']}"] = group["lr"]
        return metrics | {"train/steps_per_second": self._speed(trainer.global_step)}

    def _speed(self, step: int) -> float:
        before, since = self._clock
        now = time.perf_counter()
        self._clock = (step, now)
        return (step - before) / max(now - since, 1e-9)


def stage_metrics(
    module: EvaluationModule, stage: str, numbers: dict[str, dict[str, float]]
) -> dict[str, float]:
    """Return the flat metrics of one evaluation, with the mean of the tasks' main metrics."""
    named = {
        f"{stage}/{task}/{metric}": value
        for task, values in numbers.items()
        for metric, value in values.items()
    }
    mains = [values[module.tasks[task].score] for task, values in numbers.items()]
    mains = [value for value in mains if value == value]  # R2 of a single row isn't a number
    return named | ({f"{stage}/score": sum(mains) / len(mains)} if mains else {})
