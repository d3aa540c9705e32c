"""A checkpoint's scores on one split, measured as at the end of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from rich.console import Console

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.callbacks.progress_bars import EvaluationProgressBar
from lightning_modules.checkpoints import read_spec, require_training_config
from lightning_modules.evaluation_module import EvaluationModule
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.predictor import load_network_weights, write_with
from lightning_modules.rebuilding import rebuilding
from lightning_modules.trust.stored import restore_trust
from pipeline.build import build_datamodule, build_evaluation_module
from pipeline.calibration import CollectedRows, calibration_table
from pipeline.find_checkpoint import run_folder_of_checkpoint
from pipeline.frozen_features import FrozenFeatureCache
from pipeline.run_summary import TaskMetrics, constant_baselines, modalities_of
from pipeline.terminal import new_table, say
from pipeline.text_format import cell
from pipeline.trainer import explain_out_of_memory, quiet_trainer
from pollinate.errors import PollinateError, UsageError
from pollinate.files import write_json


@dataclass
class Evaluation:
    """evaluation-<split>.json.

    checkpoint: path; split: train, valid or test.
    modalities: {task: what it reads}; rows: {task: labelled rows}.
    scores: {task: {metric: value}}; baseline: of the best constant answer.
    calibration: {task: figures before and after}, of a checkpoint that is calibrated.
    decoding: how answers in words were written otherwise than in training.
    """

    checkpoint: str
    split: str
    modalities: dict[str, str]
    rows: dict[str, int]
    scores: TaskMetrics
    baseline: TaskMetrics
    calibration: dict[str, dict[str, Any]] = field(default_factory=dict)
    decoding: dict[str, Any] = field(default_factory=dict)


def evaluate(
    checkpoint: Path,
    split: str,
    batch_size: int,
    allow_targets: Sequence[str],
    console: Console,
    decoding: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Load the data of a checkpoint's run again and measure it on one split.

    Args:
        checkpoint: written by ``pipeline.fit``.
        split: train, valid or test.
        batch_size: rows at a time, >= 1; 256, as in training, gives the very same numbers.
        allow_targets: packages, besides our own, whose classes the checkpoint may name.
        console: where progress is shown.
        decoding: how answers in words are written otherwise than in training.

    Raises:
        UsageError: an option of decoding is out of range, or no task writes.
        PollinateError: the checkpoint can't be read, or the data changed since.
    """
    module, datamodule, config = evaluated_module(checkpoint, batch_size, allow_targets, console)
    changed = dict(decoding or {})
    write_with(module.tasks, changed)
    trust, kept = restore_trust(read_spec(checkpoint), module.tasks), CollectedRows()
    collected = kept.of(split, module, datamodule) if trust.tasks else nullcontext()
    with explain_out_of_memory("batch_size", batch_size), collected:
        scores = measure(module, datamodule, split, config, console)
    parts = datamodule.parts[split]
    rows = {
        name: sum(int(parts[dataset].present[name].sum()) for dataset in spec.datasets)
        for name, spec in datamodule.tasks.items()
    }
    modalities = {task: modalities_of(datamodule, task) for task in datamodule.tasks}
    baseline = constant_baselines(datamodule, split)
    reports = kept.reports(split, module.tasks, trust)
    calibration = {task: one.summary() for task, one in reports.items()}
    return Evaluation(
        str(checkpoint), split, modalities, rows, scores, baseline, calibration, changed
    )


def evaluated_module(
    checkpoint: Path, batch_size: int, allow_targets: Sequence[str], console: Console
) -> tuple[EvaluationModule, MixedDataModule, dict[str, Any]]:
    """Return a checkpoint's model, the data of its run, loaded again, and the configuration.

    Args:
        checkpoint, batch_size, allow_targets, console: as for ``evaluate``.

    Raises:
        PollinateError: the checkpoint can't be read, or the data changed since.
    """
    spec = read_spec(checkpoint)
    require_training_config(spec, checkpoint)
    config = {**spec["config"], "allow_targets": list(allow_targets)}
    with rebuilding(checkpoint):
        datamodule = build_datamodule(config, spec["learnt"])
    datamodule.evaluation_batch_size = batch_size
    datamodule.setup()
    for note in datamodule.policy.cache.notes:
        say(console, f"note: {note}")
    with rebuilding(checkpoint):
        module = build_evaluation_module(config, datamodule)
    load_network_weights(
        module.network, checkpoint
    )  # what else a run has, its transfer say, isn't asked
    return module, datamodule, config


def measure(
    module: EvaluationModule,
    datamodule: MixedDataModule,
    split: str,
    config: Mapping[str, Any],
    console: Console,
) -> TaskMetrics:
    """Return {task: {metric: value}} of tasks with labelled rows in the split."""
    trainer = evaluation_trainer(config["trainer"], console)
    if isinstance(module.network, MultiTaskNetwork):  # an ensemble finds nothing
        FrozenFeatureCache(module.network, config["encoder"], datamodule, trainer).find()
    trainer.test(module, dataloaders=datamodule.evaluation_loader(split), verbose=False)
    return module.results["test"]


def evaluation_trainer(options: Mapping[str, Any], console: Console) -> Trainer:
    """Return a trainer that only tests.

    Args:
        options: of the trainer of the run; those on which scores depend are taken over.
        console: where progress is shown.
    """
    return quiet_trainer(options, [EvaluationProgressBar(console)])


def print_evaluation(console: Console, found: Evaluation) -> None:
    table = new_table("task", "modality", "metric", found.split, "baseline", "rows", numbers=3)
    for task, modality in found.modalities.items():
        first = (task, modality, f"{found.rows[task]:,}")
        for metric, value in found.scores.get(task, {}).items():
            floor = found.baseline.get(task, {}).get(metric)
            name, reads, rows = first
            table.add_row(name, reads, metric, cell(value), cell(floor), rows)
            first = ("", "", "")  # the same for every metric of the task
    console.print(table)
    if found.calibration:
        console.print(calibration_table(found.calibration))


def results_file(checkpoint: Path, split: str, run_dir: str | None) -> Path:
    """Return where the results go, before anything is computed."""
    own = run_folder_of_checkpoint(checkpoint)
    if run_dir is not None:
        folder = Path(run_dir).absolute()
    elif own is not None:
        folder = own.path
    else:
        raise UsageError(f"{checkpoint} is in no run folder; say where results go: run_dir=PATH")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PollinateError(
            f"run_dir {folder} can't be made: {error.strerror}; choose another: run_dir=PATH"
        ) from error
    return folder / f"evaluation-{split}.json"


def write_evaluation(found: Evaluation, path: Path) -> bool:
    """Write the results, whole or not at all; return whether earlier ones were replaced.

    Replacing loses nothing: the file names its checkpoint, from which it can be made again.
    """
    was_there = path.exists()
    try:
        write_json(path, asdict(found))
    except OSError as error:
        raise PollinateError(
            f"{path} can't be written: {error.strerror}; choose another folder: run_dir=PATH"
        ) from error
    return was_there
