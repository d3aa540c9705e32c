"""One process' part of a training run, from set-up to the final table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision
from rich.console import Console

from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.text import TextModality
from lightning_modules.callbacks.last_batch import LastBatch
from lightning_modules.callbacks.stopping import (
    InterruptedRunError,
    PausedRunError,
    ResumableEarlyStopping,
)
from lightning_modules.checkpoints import (
    BEST,
    LAST,
    ShardReader,
    consolidate_shards,
    is_intact,
    read_verified,
    shard_files,
)
from lightning_modules.evaluation_module import EvaluationModule
from lightning_modules.module import MultiTaskModule
from lightning_modules.network import combination
from lightning_modules.predictor import load_network_weights
from lightning_modules.trust.stored import store_trust
from pipeline.build import build_datamodule, build_module, wants_calibration
from pipeline.calibration import CollectedRows, calibrate, collect_held_back
from pipeline.crash_report import (
    has_crashed_before,
    is_crash,
    keep_evidence,
    one_line,
    open_tracker,
)
from pipeline.frozen_features import FrozenFeatureCache, modalities_to_cache
from pipeline.linear.scores import linear_scores
from pipeline.monitored_metric import monitored_mode
from pipeline.planning.cost import CostEstimator, dataset_modalities
from pipeline.planning.cost_tables import one_line_cost
from pipeline.planning.hardware import hardware_setup
from pipeline.plots.reliability import draw_reliability
from pipeline.plots.run_plots import draw_plots
from pipeline.resume import ResumePoint
from pipeline.run_folder import RunFolder
from pipeline.run_summary import (
    RunSummary,
    constant_baselines,
    linear_verdict,
    print_next_steps,
    print_table,
    resume_command,
)
from pipeline.serving.model_folder import export_model
from pipeline.side_work import costs_only_itself
from pipeline.terminal import say
from pipeline.text_format import count, relpath
from pipeline.tracking.loggers import RunLogger
from pipeline.tracking.mlflow_settings import DATABASE
from pipeline.tracking.redact import redact
from pipeline.trainer import explain_out_of_memory, explain_refused_options, make_trainer
from pipeline.transfer_sources import SourceOpener
from pollinate.console import new_console
from pollinate.files import replacing
from pollinate.interrupt import SIGNAL_EXIT_CODES
from pollinate.locks import FolderLock
from pollinate.program import shell_command

TOKENIZER_FILE = "tokenizer.json"


def record_start(
    tracker: RunLogger, config: Mapping[str, Any], folder: RunFolder, datamodule: MixedDataModule
) -> None:
    tracker.log_params({name: value for name, value in config.items() if name != "run_dir"})
    tracker.log_artifact(folder.config)
    record_data(tracker, folder, datamodule)


def record_data(tracker: RunLogger, folder: RunFolder, datamodule: MixedDataModule) -> None:
    for name, loaded in datamodule.loaded.items():
        rows = {split: part[name].size for split, part in datamodule.parts.items()}
        spec = datamodule.datasets[name]
        tracker.log_dataset(name, loaded.digest, spec.source.location, rows, "training")
    text = datamodule.modalities.get("text")
    if isinstance(text, TextModality):
        text.tokenizer.save(folder.path / TOKENIZER_FILE)
        tracker.log_artifact(folder.path / TOKENIZER_FILE)


def checkpoint_of(folder: RunFolder) -> Path:
    """Return the checkpoint that was scored."""
    best = folder.checkpoints / BEST
    return best if is_intact(best) else folder.checkpoints / LAST


def record_calibration(
    module: EvaluationModule,
    rows: CollectedRows,
    config: Mapping[str, Any],
    folder: RunFolder,
    summary: RunSummary,
    tracker: RunLogger,
    say: Callable[[str], None],
) -> None:
    """Calibrate the checkpoint that was scored, if rows were collected, and leave the figures."""
    if not rows.parts:
        return
    found = calibrate(module.tasks, rows, config.get("coverage"))
    checkpoint = checkpoint_of(folder)
    consolidate_shards(checkpoint)
    store_trust(found.trust, checkpoint)
    summary.calibration = found.summary()
    tracker.log_metrics(found.metrics(), summary.steps)
    for line in found.lines():
        say(line)
    draw_reliability(module.tasks, found.trust, rows.parts.get("test", {}), folder.plots)


def record_end(
    run: PreparedRun, summary: RunSummary, tracker: RunLogger, rows: CollectedRows
) -> None:
    """Show the scores; leave calibration, plots, checkpoint and model. A fault costs only itself.

    Args:
        run, summary, tracker: of the run.
        rows: that were collected for its calibration.
    """
    folder, config = run.folder, run.config

    def table() -> None:
        print_table(run.console, summary, run.datamodule)

    def baselines() -> None:
        summary.baseline = constant_baselines(run.datamodule)

    def linear() -> None:
        if config.get("baseline") == "linear":
            found = linear_scores(run.datamodule, run.datamodule.policy.cache)
            summary.linear, summary.no_linear = found.scores["test"], found.reasons
            numbers = [
                (f"linear/{task}/{metric}", value)
                for task, own in summary.linear.items()
                for metric, value in own.items()
            ]
            tracker.log_metrics(dict(numbers), summary.steps)

    def plots() -> None:
        draw_plots(folder, run.module, run.module.confusion.get("test", {}))

    calibration = partial(
        record_calibration, run.module, rows, config, folder, summary, tracker, run.say
    )

    def copies() -> None:
        for path in sorted(folder.plots.glob("*.png")):
            tracker.log_artifact(path, "plots")

    def model() -> None:
        checkpoint = checkpoint_of(folder)
        consolidate_shards(checkpoint)  # one file, which can be taken elsewhere
        tracker.log_artifact(checkpoint, "checkpoints")
        export_model(checkpoint, folder.model, config["allow_targets"])
        tracker.log_model(folder.model, "model")

    tracker.flush()
    parts: dict[str, Callable[[], None]] = {
        "baselines": baselines,
        "linear models": linear,
        "table": table,
        "calibration": calibration,
        "plots": plots,
        "plots' copies": copies,
    }
    for what, leave in (parts | {"model": model}).items():
        with costs_only_itself(what, config, folder, tracker, run.say, summary.problems):
            leave()


@dataclass(frozen=True)
class PreparedRun:
    """What a run is made of; nothing of it is in a folder yet, or on a server.

    resumed: the checkpoint to go on from, or None.
    account: lines about the knowledge that is taken from other models.
    """

    config: Mapping[str, Any]
    folder: RunFolder
    resumed: ResumePoint | None
    console: Console
    datamodule: MixedDataModule
    module: MultiTaskModule
    account: Sequence[str]
    last_batch: LastBatch
    trainer: Trainer

    @property
    def is_first(self) -> bool:
        """Whether this process keeps the run's record, and speaks."""
        return self.trainer.is_global_zero

    def say(self, text: str) -> None:
        if self.is_first:
            say(self.console, text)


def prepare(
    config: Mapping[str, Any], folder: RunFolder, resumed: ResumePoint | None
) -> PreparedRun:
    """Load the data, build the module, take from other models what it needs, make the trainer."""
    console, last_batch = new_console(), LastBatch()
    seed_everything(config["seed"], verbose=False)
    datamodule = build_datamodule(config, resumed.learnt if resumed else None)
    datamodule.setup()
    mode = monitored_mode(config, datamodule)
    module = build_module(config, datamodule)
    sources = SourceOpener(
        config["tracking"].get("uri") or DATABASE,
        config["allow_targets"],
        resumed.sources if resumed else None,
    )
    account = module.transfer.setup(module, datamodule, sources)
    module.spec["sources"] = sources.digests
    trainer = make_trainer(
        config, folder, console, datamodule.sampler, module.transfer, last_batch, mode
    )
    module.engine.attach(trainer.strategy)
    module.transfer.attach(trainer)
    return PreparedRun(
        config, folder, resumed, console, datamodule, module, account, last_batch, trainer
    )


def header(run: PreparedRun, parameters: Mapping[str, int]) -> Iterator[str]:
    """Yield what is said before training; ``parameters``: weights, {total, trained}."""
    datamodule, engine = run.datamodule, run.module.engine
    yield from (f"note: {note}" for note in datamodule.notes)
    yield from run.account
    changing = [item for m in datamodule.modalities.values() for item in m.random_keys().items()]
    if changing:
        listed = ", ".join(f"{key}={value}" for key, value in changing)
        yield f"augmentation: training rows change at random by {listed}"
    yield (
        f"{'resuming' if run.resumed else 'training'} {count(len(run.module.tasks), 'task')} on "
        f"{count(sum(datamodule.sizes.values()), 'row')} of "
        f"{count(len(datamodule.datasets), 'data set')}, {parameters['trained']:,} of "
        f"{parameters['total']:,} weights, {count(datamodule.epoch_steps, 'step')} per epoch "
        f"-> {relpath(run.folder.path)}"
    )
    yield cost_line(run)
    if engine.sharded and engine.level is None and run.config["gradients"]["every_n_steps"]:
        yield "note: the tasks' gradients can't be compared: the weights are sharded"
    if engine.level is not None:
        same = "the same" if engine.same_rows else "not all the same"
        alike = run.module.network.trunk.same_for_all
        own = "" if alike else ", the trunk gives each its own features"
        yield f"balancing gradients of the shared {engine.level}; the tasks' rows are {same}{own}"


def cost_line(run: PreparedRun) -> str:
    """Return what a step will cost; nothing of the run changes."""
    inputs = dataset_modalities(run.datamodule)
    kinds = {name: combination(own) or "prompts" for name, own in inputs.items()}
    try:
        setting = replace(hardware_setup(run.config), devices=run.trainer.world_size)
        return one_line_cost(CostEstimator(run.module, run.datamodule, setting).cost(), kinds)
    except Exception as error:  # noqa: BLE001  # whatever it is, it mustn't stop the run
        return f"note: the cost of a step can't be computed: {' '.join(str(error).split())}"


def train(run: PreparedRun) -> None:
    """Compute features of frozen encoders, or find those of an earlier run, and fit."""
    module, trainer = run.module, run.trainer
    checkpoint = run.resumed.checkpoint if run.resumed else None
    plugin = trainer.precision_plugin
    if isinstance(plugin, DoublePrecision | HalfPrecision):
        # Lightning's own conversion comes after it has loaded the weights, rounded to 32 bits,
        # and after features were computed
        plugin.convert_module(module)
    rows = run.datamodule.sampler.batch_size
    more = f" and trainer.accumulate_grad_batches=2; {shell_command('plan')} says what fits"
    with explain_refused_options(), explain_out_of_memory("sampler.batch_size", rows, more):
        if modalities_to_cache(module.network):
            if checkpoint is not None:
                load_network_weights(module.network, checkpoint)
            nodes = module.spec["config"]["encoder"]
            FrozenFeatureCache(module.network, nodes, run.datamodule, trainer).fill(run.say)
        module.transfer.prepare(trainer.strategy.root_device, run.say)
        trainer.fit(module, datamodule=run.datamodule, ckpt_path=checkpoint, weights_only=True)


def evaluate(run: PreparedRun, summary: RunSummary) -> CollectedRows:
    """Score the best weights on validation and test data; return rows for calibration."""
    trainer, module = run.trainer, run.module
    summary.steps = trainer.global_step
    best = trainer.strategy.broadcast(run.folder.checkpoints / BEST)
    if is_intact(best):
        load_module_weights(module, best)
    elif best.exists():
        run.say(f"warning: {best} is damaged; the last weights are scored instead")
    rows = score_splits(trainer, module, run.datamodule, run.config, summary)
    summary.rows_seen = dict(module.progress.rows)
    return rows


def score_splits(
    trainer: Trainer,
    module: EvaluationModule,
    data: MixedDataModule,
    config: Mapping[str, Any],
    summary: RunSummary,
) -> CollectedRows:
    """Measure a module on validation and test data, and keep the outputs that are asked for.

    Returns:
        What calibration needs of both, nothing where there is none.
    """
    rows = CollectedRows()

    def collected(split: str) -> AbstractContextManager[None]:
        return rows.of(split, module, data) if wants_calibration(config) else nullcontext()

    module.keep_outputs = config.get("keep_outputs") or ()  # earlier runs' have none
    loggers, trainer.loggers = trainer.loggers, []  # this validation is no part of the history
    with collected("valid"):
        trainer.validate(module, datamodule=data, verbose=False)
    collect_held_back(trainer, module, data, rows)
    trainer.loggers = loggers
    with collected("test"):
        trainer.test(module, datamodule=data, verbose=False)
    # without batches of a split, trainer.limit_val_batches=0 say, there are no scores of it
    summary.valid, summary.test = (module.results.get(split, {}) for split in ("valid", "test"))
    return rows


def write_outputs(
    folder: RunFolder, module: EvaluationModule, data: MixedDataModule, say: Callable[[str], None]
) -> None:
    """Leave what the best weights answered to the rows of the splits that were asked for."""
    for split in module.keep_outputs:
        path, found = folder.outputs(split), module.outputs.get(split, {})
        for own in found.values():
            for dataset, index in own["rows"].items():
                numbers = data.parts[split][dataset].rows
                own["rows"][dataset] = torch.from_numpy(numbers[index.numpy()])
        with replacing(path) as temporary:
            torch.save(found, temporary)
        megabytes = path.stat().st_size / 1e6
        say(f"kept the outputs of the {split} split: {relpath(path)}, {megabytes:,.1f} MB")


class TrainingRun:
    """A prepared run and its record: folder, tracker, summary.

    Args:
        prepared: what it is made of.
        started: ``time.perf_counter()`` when the command began.
        lock: of the folder.
    """

    def __init__(self, prepared: PreparedRun, started: float, lock: FolderLock) -> None:
        self.prepared = prepared
        self.started = started
        self.interrupted: str | None = None  # name of the signal that stopped the run
        folder, config = prepared.folder, prepared.config
        again = prepared.resumed is not None or has_crashed_before(folder.path)
        if prepared.is_first:
            # only now: one made by another process would look like an earlier run's
            folder.create()
            lock.acquire()
        self.tracker = open_tracker(config, folder.path, again)
        prepared.trainer.loggers = [self.tracker]
        weights = list(prepared.module.parameters())
        self.summary = RunSummary(
            "failed",
            seed=config["seed"],
            labels=prepared.datamodule.labelled_rows(),
            parameters={
                "total": sum(p.numel() for p in weights),
                "trained": sum(p.numel() for p in weights if p.requires_grad),
            },
        )

    def run(self) -> int:
        """Train, evaluate, report; return the exit code."""
        run = self.prepared
        try:
            if run.is_first:
                run.folder.write_config(redact(run.config))
                record_start(self.tracker, run.config, run.folder, run.datamodule)
                for line in header(run, self.summary.parameters):
                    run.say(line)
            train(run)
            rows = evaluate(run, self.summary)
            if run.is_first:
                with self._aside("outputs"):
                    write_outputs(run.folder, run.module, run.datamodule, run.say)
                self._write_summary("finished")
                record_end(run, self.summary, self.tracker, rows)
        except (InterruptedRunError, PausedRunError) as error:
            if isinstance(error, PausedRunError):
                self.summary.paused = error.epochs
            self._finish("interrupted", str(error))
            go_on = resume_command(run.folder, run.config["tracking"])
            run.say(f"\n{error}; everything is saved. Go on with\n  {go_on}")
            if isinstance(error, PausedRunError):
                return 0
            self.interrupted = error.signal_name
            return SIGNAL_EXIT_CODES.get(error.signal_name, 1)
        except BaseException as error:
            self._crashed(error)
            raise
        self._finish("finished")
        return 0

    def _aside(self, what: str) -> AbstractContextManager[None]:
        run, problems = self.prepared, self.summary.problems
        return costs_only_itself(what, run.config, run.folder, self.tracker, run.say, problems)

    def _crashed(self, error: BaseException) -> None:
        """Keep what tells of an error, which nothing here replaces by another one."""
        run = self.prepared
        if is_crash(error, begun=True):
            facts = run.last_batch.describe()
            keep_evidence(error, run.config, run.folder.path, facts, self.tracker)
        try:
            self._finish("failed", one_line(error))
        except Exception as problem:  # noqa: BLE001  # a full disk, say, may be the error's cause
            run.say(f"the run's end isn't recorded: {one_line(problem)}")

    def _finish(self, status: str, message: str | None = None) -> None:
        run, summary = self.prepared, self.summary
        if run.is_first:
            # first, since the tracker's end may fail, or take as long as its server
            self._write_summary(status, message)
            self.tracker.close(status)
            summary.run_id = self.tracker.run_id
            self._write_summary(status, message)
        if run.is_first and status == "finished":
            stopped = run.trainer.early_stopping_callbacks
            early = any(s.has_stopped for s in stopped if isinstance(s, ResumableEarlyStopping))
            print_next_steps(run.console, run.folder, run.config["tracking"], early)
            verdict = linear_verdict(summary, run.datamodule)
            if verdict is not None:
                run.say(verdict)

    def _write_summary(self, status: str, message: str | None = None) -> None:
        run, summary = self.prepared, self.summary
        summary.status, summary.message = status, message
        summary.steps = run.trainer.global_step
        engine = run.module.engine
        traffic, known = engine.traffic, not engine.sharded
        summary.floats_sent = traffic.floats_sent if known else None
        summary.synchronisations = traffic.synchronisations if known else None
        summary.seconds = round(time.perf_counter() - self.started, 2)
        run.folder.write_summary(summary.as_dict())


def load_module_weights(module: MultiTaskModule, path: Any) -> None:
    """Load a checkpoint's weights into the module, of which processes may hold their pieces."""
    saved = read_verified(path)
    shards = ShardReader(shard_files(saved, path))
    own = {f"/state_dict/{name}": value for name, value in module.state_dict().items()}
    module.load_state_dict(shards.filled(saved["state_dict"], "/state_dict", own))
