"""One merge, from the models to the table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from rich.console import Console

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.checkpoints import BEST, MERGED_KEY, write_checkpoint
from lightning_modules.evaluation_module import EvaluationModule
from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator, stale_batch_norms
from lightning_modules.merging.models import Models
from lightning_modules.predictor import NETWORK_PREFIX, Predictor
from pipeline.build import build_datamodule, build_evaluation_module
from pipeline.merging.compatibility import (
    Shapes,
    check_complete,
    check_finite,
    check_method,
    check_starts,
)
from pipeline.merging.merge_report import (
    MergeSummary,
    coefficient_lines,
    print_merge,
    record_result,
    record_start,
)
from pipeline.merging.merge_scores import MergeScores, score_all
from pipeline.merging.merged_spec import merged_spec
from pipeline.merging.output_folder import clear_previous_run
from pipeline.merging.parents import BASE, read_parent, read_parents
from pipeline.run_folder import RunFolder
from pipeline.run_summary import constant_baselines
from pipeline.text_format import relpath
from pipeline.tracking.loggers import RunLogger
from pipeline.tracking.redact import redact
from pipeline.trainer import explain_out_of_memory
from pollinate.instantiate import instantiate


class MergeRun:
    """Checks, merges, writes, scores and reports.

    Args:
        config: the composed configuration of the command.
        folder: of the result.
        models: checkpoints.
        base: their common start, or None.
        started: ``time.perf_counter()`` when the command began.

    Raises:
        UsageError: the models don't fit together, or not to the method.
        PollinateError: a checkpoint can't be read.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        folder: RunFolder,
        models: list[Path],
        base: Path | None,
        started: float,
    ) -> None:
        self.config = config
        self.folder = folder
        self.started = started
        self.console = Console()
        allow = config["allow_targets"]
        self.method: MergeMethod = instantiate(config["method"], allow, "method")
        check_method(self.method, self.name, models, base)
        self.parents = read_parents(models)
        self.base = None if base is None else read_parent(base, BASE)
        keeps = self.method.keeps_members
        self.spec = merged_spec(self.parents, self.base, keeps, config["name"], allow)
        network = Predictor.from_spec(self.spec, allow).network
        self.shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        self.models = Models(
            [parent.label for parent in self.parents],
            [parent.weights for parent in self.parents],
            [name for name, _ in network.named_parameters(remove_duplicate=False)],
            [parent.tasks for parent in self.parents],
            self.base.weights if self.base else None,
        )
        self.notes: list[str] = []
        self.stale: list[str] = []
        if not keeps:
            self._check_whole({n: unit.shape for unit in self.models.units for n in unit.names})
            self.notes = check_starts(self.models, self.base)
            self.stale = (
                stale_batch_norms(self.models, network)
                if config["batch_norm"] == "recompute"
                else []
            )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.evaluator = MergeEvaluator(
            self.models, self._build, self.stale, config["batch_norm_steps"], device
        )

    @property
    def name(self) -> str:
        """The method's name, for messages: that of its class."""
        return type(self.method).__name__

    def run(self) -> None:
        """Merge, write, score, report."""
        parents = ", ".join(parent.label for parent in self.parents)
        self._say(f"merging {parents} by {self.name} -> {relpath(self.folder.path)}")
        for note in self.notes:
            self._say(note)
        if self.config["evaluate"]:
            self.evaluator.datamodule.setup()  # what is wrong with the data stops before any work
        merged = self.merged()
        for line in coefficient_lines(merged.coefficients):
            self._say(line)
        if self.stale:
            self._say(
                f"statistics of {len(self.stale)} BatchNorm layers are computed on "
                f"{self.config['batch_norm_steps']} training steps at most"
            )
        clear_previous_run(self.folder)
        self.folder.create()
        tracker = self._tracker()
        summary = MergeSummary("failed", method=self.name, coefficients=merged.coefficients)
        try:
            self._keep(merged, tracker, summary)
            summary.status = "finished"
        except BaseException as error:
            summary.message = f"{type(error).__name__}: {error}"
            raise
        finally:
            tracker.close(summary.status)
            summary.run_id = tracker.run_id
            summary.seconds = round(time.perf_counter() - self.started, 2)
            self.folder.write_summary(summary.as_dict())
        print_merge(self.console, summary, self.folder, self.config, self.spec)

    def merged(self) -> MergeResult:
        """Return the result, with BatchNorm statistics that fit it; nothing is written."""
        merged = self.method.merge(self.models, self.evaluator)
        self._check_whole({name: tuple(value.shape) for name, value in merged.state.items()})
        if self.stale:
            merged.state = self.evaluator.with_fresh_statistics(merged.state)
        check_finite(merged.state)
        return merged

    def _keep(self, merged: MergeResult, tracker: RunLogger, summary: MergeSummary) -> None:
        """Write the result, then score and record it."""
        self.folder.write_config(redact(self.config))
        best = self.folder.checkpoints / BEST
        spec = {
            **self.spec,
            MERGED_KEY: {**self.spec[MERGED_KEY], "method": redact(self.config["method"])},
        }
        state = {f"{NETWORK_PREFIX}{name}": value for name, value in merged.state.items()}
        write_checkpoint({"state_dict": state, "pollinate": spec}, best)
        summary.parents = [parent.record() for parent in self.parents]
        summary.base = self.base.record() if self.base else None
        summary.tasks = list(self.spec["config"]["data"]["tasks"])
        data = self.evaluator.datamodule if self.config["evaluate"] else None
        record_start(tracker, self.config, self.folder, data, summary)
        scored = None
        if data is not None:
            scored = self._scored(merged, data)
            summary.set_scores(scored, constant_baselines(data))
        record_result(tracker, self.config, self.folder, self.evaluator, scored, summary)

    def _scored(self, merged: MergeResult, data: MixedDataModule) -> MergeScores:
        data.options.evaluation_batch_size = self.config["batch_size"]
        with explain_out_of_memory("batch_size", self.config["batch_size"]):
            return score_all(
                self.evaluator,
                merged.state,
                self.method.keeps_members,
                self.spec["config"]["trainer"],
                self.console,
            )

    def _build(self) -> tuple[MixedDataModule, EvaluationModule]:
        """Load the data of all models, and build the result's network."""
        config = {**self.spec["config"], "allow_targets": self.config["allow_targets"]}
        seed_everything(config["seed"], verbose=False)
        datamodule = build_datamodule(config, self.spec["learnt"])
        datamodule.options.evaluation_batch_size = self.config["batch_size"]
        datamodule.setup()
        return datamodule, build_evaluation_module(config, datamodule)

    def _check_whole(self, found: Shapes) -> None:
        trunk = self.spec["config"]["trunk"]["_target_"].rpartition(".")[2]
        check_complete(found, self.shapes, trunk)

    def _tracker(self) -> RunLogger:
        options = {"run_dir": self.folder.path, "run_name": self.config["name"], "resume": False}
        tracker: RunLogger = instantiate(
            self.config["tracking"], self.config["allow_targets"], "tracking", **options
        )
        return tracker

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)
