"""The LightningModule: one network, many tasks, one gradient."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from datamodules.batch import MixedBatch
from datamodules.loaders import StepLoader
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.assembly import Assembly, assemble, assemble_for_tensors, part_of
from lightning_modules.backward_engine import BackwardEngine
from lightning_modules.balancers.base import Balancer
from lightning_modules.balancers.equal import Equal
from lightning_modules.building import (
    HEAD_INPUT,
    as_plain_config,
    build_balancer,
    build_network,
    build_tasks,
    require_encoders,
    restore_vocabularies,
)
from lightning_modules.checkpoints import read_checkpoint, read_spec
from lightning_modules.distributed import (
    fixed_buffers,
    keep_from_ddp,
    local_only,
    mean_losses,
)
from lightning_modules.evaluation_module import STEP, EvaluationModule
from lightning_modules.fusions.base import Fusion
from lightning_modules.hooks import HookReporter, TrainingHooks, TrainingStep
from lightning_modules.metrics import TrainingMetrics, publish
from lightning_modules.network import ForwardTrace, MultiTaskNetwork
from lightning_modules.optimization import (
    Optimization,
    OptimizerFactory,
    optimization_of,
    parameter_groups,
    schedule_optimizer,
)
from lightning_modules.predictor import load_network_weights
from lightning_modules.rebuilding import rebuilding
from lightning_modules.replay import Replay
from lightning_modules.schedules.base import Schedule
from lightning_modules.sharding import clip_norm, clip_value
from lightning_modules.source_models import SourceProvider
from lightning_modules.task_rows import Targets, targets_of
from lightning_modules.tasks.base import Task, as_task
from lightning_modules.trunks.base import Trunk
from pollinate.errors import PollinateError, UsageError
from pollinate.instantiate import build
from pollinate.recipes import Recipe

MADE_LATER = "balancer."  # a balancer may have state that it makes at its first step only


def require_fit(
    own: Mapping[str, Tensor], checkpoint: Mapping[str, Any], any_size: Collection[str] = ()
) -> None:
    """Check that names and shapes agree, before any weight is taken.

    Args:
        own: {name here: tensor}.
        checkpoint: what was saved.
        any_size: names of what takes the size of what is loaded.

    Raises:
        PollinateError: they differ: the classes have changed since.
    """
    saved = checkpoint["state_dict"]
    wrong = [
        f"{name}: {shape_text(saved.get(name))} saved, {shape_text(own.get(name))} here"
        for name in sorted(own.keys() | saved.keys())
        if (name in own or not name.startswith(MADE_LATER))
        and not (name in any_size and name in saved)
        and shape_text(own.get(name)) != shape_text(saved.get(name))
    ]
    if wrong:
        raise PollinateError(
            f"the checkpoint's weights don't fit: {'; '.join(wrong[:5])}"
            f"{f'; and {len(wrong) - 5} more' if len(wrong) > 5 else ''}. It was written by "
            f"pollinate {checkpoint['pollinate'].get('version')}: use that version"
        )


def shape_text(tensor: Tensor | None) -> str:
    """Return ``(3, 4)``, or ``nothing`` for None."""
    return "nothing" if tensor is None else str(tuple(tensor.shape))


class MultiTaskModule(EvaluationModule):
    """Trains the network on mixed batches, in any Trainer.

    The loss of task t in a step is the mean over its labelled rows on all ranks,
    L_t = sum_i l_ti / n_t. Each rank computes its rows' part times the number of ranks, so that
    averaging gradients over ranks, as DDP does, gives the gradient of L_t exactly.

    Logged are, besides the scores, ``train/<task>/<metric>``, ``weight/<task>``, ``rows/<task>``
    (labelled rows so far), ``epoch_rows/<task>``, ``passes/<data set>`` (how often it has been gone
    through, of a ``MixedDataModule``), ``lr/<part>``, ``train/steps_per_second``, what the trunk
    gauges: ``gate/<task>/<source>``, ``load/<task>/<source>``, and what transfer does:
    ``source/<task>/<source>``, ``transfer/<method>/<name>``. Of several processes
    ``traffic/floats_sent`` and ``traffic/synchronisations``. The step is the number of optimizer
    steps. What belongs to single steps comes every ``Trainer(log_every_n_steps=...)``, the rest at
    the ends of epochs.

    Args:
        data: tasks, modalities and vocabularies; it is set up here, with what the encoders bring
            along. None: batches come as tensors (``MixedBatch.of``), and ``tasks`` and
            ``encoders`` must be given.
        tasks: {name: task}, with their classes; only without ``data``.
        encoders: {modality: a recipe of ``po.encoders``, or any module (N, ...) -> (N, dim)}; for a
            modality of the data that isn't named: ``Bag`` for text, ``CNN`` for image,
            ``Spectrogram`` for audio.
        inputs: {data set: modalities of its rows}; only without ``data``, where it isn't clear.
        trunk: how the tasks share; None: ``SharedTrunk``.
        fusion: how the modalities of a row become one vector; None: ``Concat``.
        balancer: combines the tasks' losses; None: ``Equal``.
        transfer: brings in knowledge from elsewhere: it is asked at each step. Made by hand, the
            model sets it up here and adds its callbacks to any Trainer.
        sources: opens the models that ``transfer`` names: ``po.SourceOpener()``.
        optimizer: a class of ``torch.optim``, or a ``functools.partial`` of one with its options;
            None: AdamW with a weight decay of 0.01, not on norms and biases.
        lr: learning rate, > 0; None: that of ``optimizer``, or 4e-3.
        lr_scale: {part of the model, such as "encoders.text": factor on lr}.
        schedule: of the learning rate; None: ``OneCycle``.
        dim: width of the features that encoders give to the trunk, >= 1.
        network: a network of one's own making, in place of encoders, trunk and fusion.
        spec: what checkpoints say of the model, from which it can be built again; None: it is made.

    Raises:
        UsageError: a part is of another kind, or parts don't fit each other.
        PollinateError: the data can't be used.

    Examples:
        >>> import torch, pollinate as po
        >>> model = po.MultiTaskModule(data)  # good defaults for everything
        >>> trainer.fit(model, data)
        >>> model = po.MultiTaskModule(
        ...     data,
        ...     encoders={"text": po.encoders.GRU(hidden=16)},
        ...     trunk=po.trunks.MMoE(experts=2),
        ...     balancer=po.balancers.UPGrad(),
        ... )
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32))
        >>> model = po.MultiTaskModule(  # batches of tensors, no data module
        ...     tasks={"object": po.tasks.Classification(classes=10)},
        ...     encoders={"image": network},  # any module (N, ...) -> (N, dim)
        ...     dim=32,
        ... )
        >>> batch = po.MixedBatch.of(inputs={"image": torch.rand(4, 1, 8, 8)})
        >>> model.predict_step(batch, 0)["object"][0]["label"] in map(str, range(10))
        True
    """

    network: MultiTaskNetwork

    def __init__(
        self,
        data: MixedDataModule | None = None,
        *,
        tasks: Mapping[str, Task] | None = None,
        encoders: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Sequence[str]] | None = None,
        trunk: Trunk | Recipe | None = None,
        fusion: Fusion | Recipe | None = None,
        balancer: Balancer | Recipe | None = None,
        transfer: TrainingHooks | None = None,
        sources: SourceProvider | None = None,
        optimizer: OptimizerFactory | Optimization | None = None,
        lr: float | None = None,
        lr_scale: Mapping[str, float] | None = None,
        schedule: Schedule | None = None,
        dim: int = 128,
        network: MultiTaskNetwork | None = None,
        spec: Mapping[str, Any] | None = None,
    ) -> None:
        if data is not None and not isinstance(data, MixedDataModule):
            raise UsageError(
                f"data must be a po.MixedDataModule, got {type(data).__name__}; rows of one's own "
                "go into po.Dataset, batches of one's own need tasks= and encoders= instead"
            )
        if data is not None and tasks is not None:
            raise UsageError("the tasks are those of the data module; leave tasks out")
        if network is not None:
            own = tasks if data is None else {n: as_task(task) for n, task in data.tasks.items()}
            same_rows = data is None or data.tasks_share_rows()
            built = Assembly(network, dict(own or {}), dict(spec or {}), same_rows)
        elif data is not None:
            built = assemble(data, encoders or {}, trunk, fusion, dim)
        else:
            built = assemble_for_tensors(tasks or {}, encoders or {}, inputs, trunk, fusion, dim)
        super().__init__(built.network, built.tasks)
        names = list(built.tasks)
        chosen = part_of(Balancer, balancer, Equal, "balancer")
        self.balancer: Balancer = build(chosen, (), "balancer", tasks=names)
        if sorted(self.balancer.tasks) != sorted(names):
            raise UsageError(
                f"the balancer is for the tasks {', '.join(self.balancer.tasks)}, and the model "
                f"has {', '.join(names)}; leave its tasks out: po.balancers."
                f"{type(self.balancer).__name__}()"
            )
        self.transfer = TrainingHooks() if transfer is None else transfer
        self.optimization = optimization_of(optimizer, lr, lr_scale, schedule)
        self.spec = built.spec
        if spec is None:
            self.spec["config"] = {
                **self.spec.get("config", {}),
                **as_plain_config({"balancer": chosen}),
            }
        self.losses: dict[str, Tensor] = {}  # of the step under way
        self.regularization: Tensor | None = None  # of the step under way: what belongs to no task
        self.engine = BackwardEngine(built.network, self.balancer, built.same_rows)
        self._replay = Replay(built.network)
        self._step: tuple[MixedBatch, int] | None = None  # the batch under way, and its number
        self._total: int | None = None  # optimizer steps of the run, known when it starts
        keep_from_ddp(self, fixed_buffers(self))
        self.progress = TrainingMetrics(built.tasks)
        self._pending: dict[str, float] = {}  # metrics that no logger was given yet
        self._has_stepped = False
        self._lr_is_new = False  # since the schedule last set it
        self._clock = (0, 0.0)  # optimizer steps, and when, as the speed was last measured
        self._paused = 0.0
        self._owns_transfer = network is None and transfer is not None
        if self._owns_transfer:
            if data is None or sources is None:
                raise UsageError(
                    "transfer reads other models and the data: give MultiTaskModule a data module "
                    "and sources=po.SourceOpener()"
                )
            for line in self.transfer.setup(self, data, sources):
                rank_zero_info(line)

    def configure_callbacks(self) -> list[Callback]:
        """Return what a transfer method does between steps; a command adds it itself."""
        report = HookReporter(publish, rank_zero_info)
        return self.transfer.callbacks(report) if self._owns_transfer else []

    def on_fit_start(self) -> None:
        """Prepare a transfer method on the device that trains; a command does so itself."""
        if self._owns_transfer:
            self.transfer.attach(self.trainer)
            self.transfer.prepare(self.device, rank_zero_info)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # nothing but the path is needed
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        *,
        encoders: Mapping[str, Any] | None = None,
        allow_targets: Sequence[str] = (),
        **parts: Any,
    ) -> Self:
        """Return a model with the weights of a checkpoint, in evaluation mode.

        Args:
            checkpoint_path: written by a run, or by ``ModelCheckpoint``.
            map_location: a device to move the model to, "cuda:0" say; None: it stays on the CPU.
            encoders: {modality: it}, for encoders that were modules of one's own: a checkpoint has
                their weights, but can't say how to build them.
            allow_targets: packages of one's own whose classes the checkpoint may name. Only list
                those that you trust: they are imported.
            parts: other arguments of the model: balancer, transfer, optimizer, ...

        Raises:
            PollinateError: the file is absent, torn, or its weights don't fit.
            UsageError: an encoder is missing.
        """
        path = Path(checkpoint_path)
        spec = read_spec(path)
        config = {**spec["config"], "allow_targets": list(allow_targets)}
        if encoders:
            config["encoder"] = {**config["encoder"], **encoders}
        with rebuilding(path):
            require_encoders(config)
            tasks, modalities = restore_vocabularies(config, build_tasks(config), spec["learnt"])
            network = build_network(
                config, tasks, modalities, head_input=spec["learnt"].get(HEAD_INPUT)
            )
            if "balancer" not in parts and config.get("balancer"):
                parts["balancer"] = build_balancer(config, list(tasks))
        load_network_weights(network, path)
        model = cls(tasks=tasks, network=network, spec=spec, **parts)
        # what a balancer learnt is taken, too; what a transfer method did belongs to its run
        saved, own = read_checkpoint(path)["state_dict"], model.state_dict()
        fits = {k: v for k, v in saved.items() if k in own and v.shape == own[k].shape}
        model.load_state_dict(fits, strict=False)
        return model.to(map_location).eval() if map_location is not None else model.eval()

    @property
    def lr(self) -> float:
        """The learning rate of what no part names; LearningRateFinder sets it."""
        return self.optimization.lr

    @lr.setter
    def lr(self, value: float) -> None:
        for scheduler in self._schedulers():
            bases = [base / self.lr * value for base in scheduler.base_lrs]
            scheduler.base_lrs, self._lr_is_new = bases, True
        self.optimization.lr = value

    def _schedulers(self) -> list[LambdaLR]:
        configs = () if self._trainer is None else self._trainer.lr_scheduler_configs
        return [one.scheduler for one in configs if isinstance(one.scheduler, LambdaLR)]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the objective of one step."""
        read = self._read(batch)
        with local_only(self.engine.local), self.reader.explained(read):
            if not read.counts_all_ranks and self.engine.divides_rows:
                read = self.reader.add_up_counts(read)
            return self._objective(read, batch_idx)

    def _objective(self, batch: MixedBatch, batch_idx: int) -> Tensor:
        self.balancer.begin_epoch(self.current_epoch)
        self.network.trunk.begin_step(self.global_step)
        batch = self.transfer.change_batch(batch, self.network, self.global_step)
        self._step = batch, batch_idx
        if self.balancer.needs_losses_after_step or self.balancer.needs_probe:
            self._replay.mark()
        step, targets = self._outputs(batch)
        sums = self._sums(step.outputs, targets)
        complete = batch.complete_tasks(self.network.routes)
        self.progress.count(sums, step.outputs, targets, self._rows(batch), complete)
        self.losses, regularization = self._losses(step, sums)
        penalty = self.network.trunk.penalty(list(self.losses))
        parts = [one for one in (regularization, penalty) if one is not None]
        self.regularization = torch.stack(parts).sum() if parts else None
        objective = self.balancer.objective(self.losses) if self.losses else self._nothing()
        return objective if self.regularization is None else objective + self.regularization

    def network_losses(self, batch: MixedBatch) -> dict[str, Tensor]:
        """Return {task: mean loss of its labelled rows}, of the network alone, with a graph."""
        present = [task for task in self.tasks if batch.labelled.get(task)]
        outputs = self.network(batch.batches, present)
        sums = self._sums(outputs, targets_of(batch.batches, present, self.network.routes))
        return {task: total / batch.labelled[task] for task, total in sums.items()}

    def on_train_start(self) -> None:
        """Find out how processes exchange gradients; start the clock."""
        if self.balancer.needs_probe and self.trainer.accumulate_grad_batches < 2:
            raise UsageError(
                "balancer.trial_lr tries a step on the first parts of an optimizer step and looks "
                "at the last, so it needs trainer.accumulate_grad_batches >= 2, got "
                f"{self.trainer.accumulate_grad_batches}; set that, or balancer.trial_lr=null"
            )
        self.engine.start(self.trainer)
        self._clock = self.global_step, time.perf_counter()
        self._pending, self._has_stepped = {}, False
        if self._lr_is_new:  # a search gave all parts the same, and knows no warm-up
            for one in self._schedulers():
                places = zip(one.optimizer.param_groups, one.base_lrs, one.lr_lambdas, strict=True)
                for group, base, factor in places:
                    group["lr"] = base * factor(one.last_epoch)
            self._lr_is_new = False

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Let the balancer fill the gradients."""
        with local_only(self.engine.local):
            if self.balancer.needs_probe:
                self.balancer.probe = self._losses_again
            self.engine.backward(
                self.losses, loss, self.regularization, self._is_last(), self.parameters()
            )
            self.balancer.probe = None  # a copy of the balancer must not hold the module

    def _losses_again(self, with_graph: bool = True) -> dict[str, Tensor]:
        """Return the losses of the last call's rows with the weights of the moment."""
        assert self._step is not None
        batch, _ = self._step
        context = self.trainer.precision_plugin.train_step_context()
        with self._replay.replayed(), torch.set_grad_enabled(with_graph), context:
            step, targets = self._outputs(batch)
            losses, _ = self._losses(step, self._sums(step.outputs, targets))
        return losses

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step; then tell the balancer what the step did to the losses, if it wants to know."""
        super().optimizer_step(*args, **kwargs)
        self.engine.count_step()
        self._has_stepped = True
        if self.balancer.needs_losses_after_step and self._step is not None:
            with local_only(self.engine.local):
                self.balancer.after_step(self._losses_again(with_graph=False))

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip, also where gradients are sharded, and before a fused step.

        Lightning refuses to clip in mixed precision if the optimizer could unscale gradients by
        itself, as fused ones can. Without a scaler, as in bfloat16, there is nothing to unscale.
        """
        plugin = self.trainer.precision_plugin
        if not (self.engine.sharded and gradient_clip_val):
            if isinstance(plugin, MixedPrecision) and plugin.scaler is None:
                kind = GradClipAlgorithmType(gradient_clip_algorithm or GradClipAlgorithmType.NORM)
                Precision.clip_gradients(plugin, optimizer, gradient_clip_val or 0.0, kind)
            else:
                super().configure_gradient_clipping(
                    optimizer, gradient_clip_val, gradient_clip_algorithm
                )
        elif gradient_clip_algorithm == "value":
            clip_value(self.parameters(), gradient_clip_val)
        else:
            clip_norm(self.parameters(), gradient_clip_val)

    def on_train_batch_start(self, batch: MixedBatch, batch_idx: int) -> None:
        """Choose which parts of the encoders train, by the step's number alone."""
        self.engine.tune(self.global_step)

    def on_train_batch_end(self, outputs: Any, batch: MixedBatch, batch_idx: int) -> None:
        """Log losses, weights, learning rates, rows and speed, every n optimizer steps."""
        metrics = self.pending_metrics()
        if metrics:
            publish(self.trainer, metrics)
            self._pending = {}

    def on_train_epoch_start(self) -> None:
        """Forget what was logged at the end of the epoch before.

        Lightning would tell ModelCheckpoint of an old step or epoch.
        """
        self._pending = {}
        for name in (STEP, "epoch"):
            self.trainer.callback_metrics.pop(name, None)

    def on_train_epoch_end(self) -> None:
        """Log the training scores of the epoch, and the rows that it had."""
        scores = self.progress.take_scores()
        named = {f"train/{t}/{self.tasks[t].training_score}": v for t, v in scores.items()}
        named |= {f"epoch_rows/{t}": float(n) for t, n in self.progress.take_epoch_rows().items()}
        loader = self.trainer.train_dataloader
        if isinstance(loader, StepLoader):
            named |= {f"passes/{name}": passes for name, passes in loader.passes().items()}
        self._pending = named | {"epoch": float(self.current_epoch)}
        self._log_reduced(self._pending | {STEP: float(self.global_step)})

    def on_validation_epoch_start(self) -> None:
        """Leave the validation's time out of the training speed."""
        self._paused = time.perf_counter()

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        step, since = self._clock
        self._clock = step, since + time.perf_counter() - self._paused

    def pending_metrics(self) -> dict[str, float]:
        """Return what this step or epoch logs, as long as no logger was given it.

        The loggers get metrics after the callbacks have acted. A callback asks for them that
        needs them before: to write a checkpoint from which the history goes on, or to change what
        is measured. All processes must ask.
        """
        if self._has_stepped:
            self._has_stepped = False
            every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # an option
            if every and self.global_step % every == 0:
                with local_only(self.engine.local):  # a process that steps on its own has its own
                    self._pending = self._step_metrics()
        return self._pending

    def _step_metrics(self) -> dict[str, float]:
        metrics = {f"train/{t}/loss": loss for t, loss in self.progress.losses.take().items()}
        with torch.no_grad():
            weights = self.balancer.task_weights(self.losses)
        metrics |= {f"weight/{task}": weight for task, weight in weights.items()}
        metrics |= {f"rows/{task}": float(rows) for task, rows in self.progress.rows.items()}
        metrics |= self.network.trunk.gauges(list(self.losses))
        metrics |= self.transfer.gauges() | self.engine.traffic.metrics()
        for group in self.trainer.optimizers[0].param_groups:
            metrics[f"lr/{group.get('part', 'all')}"] = group["lr"]
        (before, since), self._clock = self._clock, (self.global_step, time.perf_counter())
        speed = (self.global_step - before) / max(self._clock[1] - since, 1e-9)
        return metrics | {"train/steps_per_second": speed}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        plan = self.optimization
        roots = {"": self.network, "balancer": self.balancer, "transfer": self.transfer}
        optimizer = plan.optimizer(parameter_groups(roots, plan.lr, plan.lr_scale, plan.decay))
        self._total = self.total_steps()
        length = None if self._total is None else self._total // self.transfer.num_branches
        scheduler = schedule_optimizer(optimizer, plan.schedule, length)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def total_steps(self) -> int | None:
        """Return the optimizer steps of the whole run; None: no end is set."""
        limits = [self.trainer.estimated_stepping_batches, self.optimization.max_steps]
        finite = [int(limit) for limit in limits if limit is not None and limit != float("inf")]
        return min(finite, default=None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to build the network again."""
        checkpoint["pollinate"] = self.spec

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the weights fit before any of them is taken; count from there."""
        require_fit(self.state_dict(), checkpoint, fixed_buffers(self))
        if self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING:
            self.progress.clear()

    def rank_state(self) -> dict[str, Any]:
        """Return what this rank gathered since the last log line and epoch."""
        return {
            **self.progress.state(),
            "traffic": self.engine.traffic.state_dict(),
            # a process that steps on its own balances on its own
            "parts": {n: p.state_dict() for n, p in self._own_parts().items()},
        }

    def load_rank_state(self, state: Mapping[str, Any]) -> None:
        """Restore what ``rank_state`` returned."""
        self.progress.load_state(state)
        self.engine.traffic.load_state_dict(state["traffic"])
        for name, part in self._own_parts().items():
            part.load_state_dict(state["parts"].get(name, part.state_dict()))

    def _own_parts(self) -> dict[str, nn.Module]:
        """Return the parts whose state differs between processes besides their parameters."""
        own = {"balancer": self.balancer, "transfer": self.transfer}
        return own if self.engine.local else {}

    def _is_last(self) -> bool:
        if self._step is None or self.engine.level is None:
            return True
        every = self.trainer.accumulate_grad_batches
        return (self._step[1] + 1) % every == 0 or self.trainer.is_last_batch

    def _outputs(self, batch: MixedBatch) -> tuple[TrainingStep, dict[str, tuple[Tensor, Tensor]]]:
        """Return the step's outputs, and the targets of the tasks that have some on any process."""
        labelled = [task for task in self.tasks if batch.labelled.get(task)]
        required_tasks = set(labelled) | set(self.transfer.required_tasks(batch))
        tasks, trace = [task for task in self.tasks if task in required_tasks], ForwardTrace()
        outputs = self.engine.forward(batch.batches, tasks, trace)
        done, world = self.global_step, self.trainer.world_size if self.engine.divides_rows else 1
        step = TrainingStep(batch, outputs, trace, done, self._total, world)
        return step, targets_of(batch.batches, labelled, self.network.routes)

    def _losses(
        self, step: TrainingStep, sums: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return ({task: L_t}, what transfer adds that belongs to no task).

        A loss has the value of all processes' rows and the gradient of this one's.
        """
        labelled = step.batch.labelled
        losses = {task: step.mean(total, labelled[task]) for task, total in sums.items()}
        added = self.transfer.losses(step)
        for task in added.label_weights.keys() & losses.keys():
            losses[task] = losses[task] * added.label_weights[task]
        for task, loss in added.by_task.items():
            losses[task] = losses[task] + loss if task in losses else loss
        return mean_losses(self.transfer.weight_losses(losses)), added.regularization

    def _nothing(self) -> Tensor:
        """Return a zero that needs a gradient: a step without any label moves nothing."""
        return torch.zeros((), device=self.device, requires_grad=True)

    def _sums(self, outputs: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Return {task: sum of the losses of this process's rows}.

        A process that steps on its own has no loss of a task of which it has no label: a zero would
        move the task's head, and tell the balancer that the task is learnt.
        """
        sums = {}
        for task, (target, present) in targets.items():
            if self.engine.local and not present.any():
                continue
            loss = self.tasks[task].loss(outputs[task], target)
            sums[task] = loss.where(present, loss.new_zeros(())).sum()
        return sums

    def _rows(self, batch: MixedBatch) -> dict[str, int]:
        """Return {task: labelled rows of all processes}."""
        times = 1 if self.engine.divides_rows else self.trainer.world_size
        return {task: rows * times for task, rows in batch.labelled.items()}


def as_multitask(module: LightningModule) -> MultiTaskModule:
    """Narrow the type of a module, which callbacks get as a LightningModule."""
    assert isinstance(module, MultiTaskModule)
    return module
