"""One process' part of a training run, from set-up to the final table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import seed_everything
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision
from torch import Tensor

from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.text import TextModality
from lightning_modules.callbacks.last_batch import LastBatch
from lightning_modules.callbacks.stopping import InterruptedRunError
from lightning_modules.checkpoints import (
    BEST,
    LAST,
    ShardReader,
    consolidate_shards,
    read_verified,
    shard_files,
)
from lightning_modules.module import MultiTaskModule
from lightning_modules.network import combination
from lightning_modules.predictor import load_network_weights
from pipeline.build import build_datamodule, build_module
from pipeline.crash_report import (
    has_crashed_before,
    is_crash,
    keep_evidence,
    one_line,
    open_tracker,
)
from pipeline.frozen_features import FrozenFeatureCache, modalities_to_cache
from pipeline.planning.cost import CostEstimator, dataset_modalities
from pipeline.planning.cost_tables import one_line_cost
from pipeline.planning.hardware import hardware_setup
from pipeline.plots.run_plots import draw_plots
from pipeline.resume import ResumePoint
from pipeline.run_folder import RunFolder
from pipeline.run_summary import (
    RunSummary,
    constant_baselines,
    print_next_steps,
    print_table,
    resume_command,
)
from pipeline.serving.model_folder import export_model
from pipeline.text_format import count, relpath
from pipeline.tracking.loggers import RunLogger
from pipeline.tracking.mlflow_settings import DATABASE
from pipeline.tracking.redact import redact
from pipeline.trainer import explain_out_of_memory, make_trainer
from pipeline.transfer_sources import SourceOpener
from pollinate.console import new_console
from pollinate.program import shell_command

TOKENIZER_FILE = "tokenizer.json"


def record_start(
    tracker: RunLogger, config: Mapping[str, Any], folder: RunFolder, datamodule: MixedDataModule
) -> None:
    """Record configuration, data sets and tokenizer."""
    tracker.log_params({name: value for name, value in config.items() if name != "run_dir"})
    tracker.log_artifact(folder.config)
    record_data(tracker, folder, datamodule)


def record_data(tracker: RunLogger, folder: RunFolder, datamodule: MixedDataModule) -> None:
    """Record data sets and tokenizer."""
    for name, loaded in datamodule.loaded.items():
        rows = {split: part[name].size for split, part in datamodule.parts.items()}
        spec = datamodule.datasets[name]
        tracker.log_dataset(name, loaded.digest, spec.source.location, rows, "training")
    text = datamodule.modalities.get("text")
    if isinstance(text, TextModality):
        text.tokenizer.save(folder.path / TOKENIZER_FILE)
        tracker.log_artifact(folder.path / TOKENIZER_FILE)


def record_end(
    tracker: RunLogger,
    config: Mapping[str, Any],
    folder: RunFolder,
    module: MultiTaskModule,
    matrices: Mapping[str, Tensor],
) -> None:
    """Draw the plots, keep the best checkpoint and the model."""
    tracker.flush()
    for path in draw_plots(folder, module, matrices):
        tracker.log_artifact(path, "plots")
    best = folder.checkpoints / BEST
    checkpoint = best if best.exists() else folder.checkpoints / LAST
    consolidate_shards(checkpoint)  # one file, which can be taken elsewhere
    tracker.log_artifact(checkpoint, "checkpoints")
    export_model(checkpoint, folder.model, config["allow_targets"])
    tracker.log_model(folder.model, "model")


SIGNAL_EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}  # what a shell reports for these


class TrainingRun:
    """Builds everything, trains, evaluates and reports.

    Args:
        config: the composed configuration.
        folder: the run folder.
        resumed: the checkpoint to go on from, or None.
        started: ``time.perf_counter()`` when the command began.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        folder: RunFolder,
        resumed: ResumePoint | None,
        started: float,
    ) -> None:
        self.config = config
        self.folder = folder
        self.resumed = resumed
        self.started = started
        self.console = new_console()
        seed_everything(config["seed"], verbose=False)
        self.datamodule = build_datamodule(config, resumed.learnt if resumed else None)
        self.datamodule.setup()
        self.module = build_module(config, self.datamodule)
        self.sources = self._open_sources()
        self.account = self.module.transfer.setup(self.module, self.datamodule, self.sources)
        self.module.spec["sources"] = self.sources.digests
        self.last_batch = LastBatch()
        self.trainer = make_trainer(
            config,
            folder,
            self.console,
            self.datamodule.sampler,
            self.module.transfer,
            self.last_batch,
        )
        self.module.engine.attach(self.trainer.strategy)
        self.module.transfer.attach(self.trainer)
        self.restarted = has_crashed_before(folder.path)
        self.interrupted: str | None = None  # name of the signal that stopped the run
        # nothing is left behind, in folders or on the server, by a run that can't even be set up
        if self._is_first:  # to which one made by another process would look like an earlier run's
            folder.create()
        self.tracker = self._make_tracker()
        self.trainer.loggers = [self.tracker]
        weights = list(self.module.parameters())
        self.summary = RunSummary(
            "failed",
            seed=config["seed"],
            labels=self.datamodule.labelled_rows(),
            parameters={
                "total": sum(p.numel() for p in weights),
                "trained": sum(p.numel() for p in weights if p.requires_grad),
            },
        )

    def run(self) -> int:
        """Train, evaluate, report; return the exit code."""
        try:
            if self._is_first:
                self.folder.write_config(redact(self.config))
                record_start(self.tracker, self.config, self.folder, self.datamodule)
                self._print_header()
            self._train()
            self._evaluate()
            self._record()
        except InterruptedRunError as error:
            self._finish("interrupted", str(error))
            return self._interrupted(error)
        except BaseException as error:
            self._crashed(error)
            raise
        self._finish("finished")
        return 0

    def _crashed(self, error: BaseException) -> None:
        """Keep what tells of an error, which nothing here replaces by another one."""
        if is_crash(error, begun=True):
            facts = self.last_batch.describe()
            keep_evidence(error, self.config, self.folder.path, facts, self.tracker)
        try:
            self._finish("failed", one_line(error))
        except Exception as problem:  # noqa: BLE001  # a full disk, say, may be the error's cause
            self._say(f"the run's end isn't recorded: {one_line(problem)}")

    @property
    def _is_first(self) -> bool:
        return self.trainer.is_global_zero

    def _open_sources(self) -> SourceOpener:
        """Return what opens the models that knowledge is taken from."""
        uri = self.config["tracking"].get("uri") or DATABASE
        expected = self.resumed.sources if self.resumed else None
        return SourceOpener(uri, self.config["allow_targets"], expected)

    def _make_tracker(self) -> RunLogger:
        resume = self.resumed is not None or self.restarted
        return open_tracker(self.config, self.folder.path, resume)

    def _print_header(self) -> None:
        for note in self.datamodule.notes:
            self._say(f"note: {note}")
        for line in self.account:
            self._say(line)
        rows = sum(self.datamodule.sizes.values())
        total, trained = (self.summary.parameters[key] for key in ("total", "trained"))
        verb = "resuming" if self.resumed else "training"
        sets = count(len(self.datamodule.datasets), "data set")
        self.console.print(
            f"{verb} {count(len(self.module.tasks), 'task')} on {count(rows, 'row')} of "
            f"{sets}, {trained:,} of {total:,} weights, "
            f"{count(self.datamodule.epoch_steps, 'step')} per epoch "
            f"-> {relpath(self.folder.path)}",
            highlight=False,
            soft_wrap=True,
        )
        self.console.print(self._cost_line(), highlight=False, soft_wrap=True, markup=False)
        blind = self.module.engine.sharded and self.module.engine.level is None
        if blind and self.config["gradients"]["every_n_steps"]:
            note = "note: the tasks' gradients can't be compared: the weights are sharded"
            self.console.print(note, highlight=False, soft_wrap=True)
        if self.module.engine.level is not None:
            network = self.module.network
            same = "the same" if self.module.engine.same_rows else "not all the same"
            own = "" if network.trunk.same_for_all else ", the trunk gives each its own features"
            self.console.print(
                f"balancing gradients of the shared {self.module.engine.level}; the tasks' rows "
                f"are {same}{own}",
                highlight=False,
                soft_wrap=True,
            )

    def _cost_line(self) -> str:
        """Return what a step will cost; nothing of the run changes."""
        inputs = dataset_modalities(self.datamodule)
        kinds = {name: combination(modalities) for name, modalities in inputs.items()}
        try:
            setting = replace(hardware_setup(self.config), devices=self.trainer.world_size)
            return one_line_cost(CostEstimator(self.module, self.datamodule, setting).cost(), kinds)
        except Exception as error:  # noqa: BLE001  # whatever it is, it mustn't stop the run
            return f"note: the cost of a step can't be computed: {' '.join(str(error).split())}"

    def _train(self) -> None:
        checkpoint = self.resumed.checkpoint if self.resumed else None
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, DoublePrecision | HalfPrecision):
            # Lightning's own conversion comes after it has loaded the weights, rounded to 32 bits,
            # and after features were computed
            plugin.convert_module(self.module)
        rows = self.datamodule.sampler.batch_size
        plan = shell_command("plan")
        more = f" and trainer.accumulate_grad_batches=2; {plan} says what fits"
        with explain_out_of_memory("sampler.batch_size", rows, more):
            self._keep_features(checkpoint)
            device = self.trainer.strategy.root_device
            self.module.transfer.prepare(device, self._say)
            self.trainer.fit(
                self.module,
                datamodule=self.datamodule,
                ckpt_path=checkpoint,
                weights_only=True,
            )

    def _keep_features(self, checkpoint: Path | None) -> None:
        """Compute features of frozen encoders, or find those of an earlier run."""
        network, trainer = self.module.network, self.trainer
        if not modalities_to_cache(network):
            return
        if checkpoint is not None:
            load_network_weights(network, checkpoint)
        nodes = self.module.spec["config"]["encoder"]
        FrozenFeatureCache(network, nodes, self.datamodule, trainer).fill(self._say)

    def _say(self, text: str) -> None:
        if self._is_first:
            self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _evaluate(self) -> None:
        """Score the best weights on validation and test data."""
        trainer, module = self.trainer, self.module
        self.summary.steps = trainer.global_step
        best = trainer.strategy.broadcast(self.folder.checkpoints / BEST)
        if best.exists():
            load_module_weights(module, best)
        loggers, trainer.loggers = trainer.loggers, []  # this validation is no part of the history
        trainer.validate(module, datamodule=self.datamodule, verbose=False)
        trainer.loggers = loggers
        trainer.test(module, datamodule=self.datamodule, verbose=False)
        self.summary.valid, self.summary.test = module.results["valid"], module.results["test"]
        self.summary.baseline = constant_baselines(self.datamodule)
        self.summary.rows_seen = dict(module.progress.rows)

    def _interrupted(self, error: InterruptedRunError) -> int:
        self.interrupted = error.signal_name
        self._say(f"\n{error}; everything is saved. Go on with\n  {resume_command(self.folder)}")
        return SIGNAL_EXIT_CODES.get(error.signal_name, 1)

    def _record(self) -> None:
        """Record what a finished run leaves."""
        if self._is_first:
            matrices = self.module.confusion["test"]
            record_end(self.tracker, self.config, self.folder, self.module, matrices)

    def _finish(self, status: str, message: str | None = None) -> None:
        """End the record of the run, whatever happened."""
        summary = self.summary
        summary.status, summary.message = status, message
        if not self._is_first:
            return
        summary.steps = self.trainer.global_step
        engine = self.module.engine
        traffic, known = engine.traffic, not engine.sharded
        summary.floats_sent = traffic.floats_sent if known else None
        summary.synchronisations = traffic.synchronisations if known else None
        self.tracker.close(status)
        summary.run_id = self.tracker.run_id
        summary.seconds = round(time.perf_counter() - self.started, 2)
        self.folder.write_summary(summary.as_dict())
        if status == "finished":
            print_table(self.console, summary, self.datamodule)
            print_next_steps(self.console, self.folder, self.config["tracking"])


def load_module_weights(module: MultiTaskModule, path: Any) -> None:
    """Load a checkpoint's weights into the module, of which processes may hold their pieces."""
    saved = read_verified(path)
    shards = ShardReader(shard_files(saved, path))
    own = {f"/state_dict/{name}": value for name, value in module.state_dict().items()}
    module.load_state_dict(shards.filled(saved["state_dict"], "/state_dict", own))
