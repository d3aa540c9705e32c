"""One merge, from the models to the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.checkpoints import BEST, MERGED_KEY, write_checkpoint
from lightning_modules.distributed import fixed_buffers
from lightning_modules.evaluation_module import EvaluationModule
from lightning_modules.merging.adapter_merge import AdapterMerge
from lightning_modules.merging.adapters import add_adapters
from lightning_modules.merging.base import MergeMethod, MergeResult, check_method
from lightning_modules.merging.evaluator import MergeEvaluator, stale_batch_norms
from lightning_modules.merging.models import Models, read_bare, read_folded
from lightning_modules.predictor import NETWORK_PREFIX, Predictor
from lightning_modules.task_network import CombinesNetworks, TaskNetwork
from pipeline import terminal
from pipeline.build import build_datamodule, build_evaluation_module, wants_calibration
from pipeline.merging.adapters import merged_tunes, parent_adapters
from pipeline.merging.compatibility import (
    Shapes,
    check_complete,
    check_finite,
    check_fitted,
    check_starts,
    without_start,
)
from pipeline.merging.merge_report import (
    MergeSummary,
    coefficient_lines,
    print_merge,
    record_model,
    record_scores,
    record_start,
)
from pipeline.merging.merge_scores import MergeScores, score_all
from pipeline.merging.merged_spec import merged_spec, with_tunes
from pipeline.merging.parents import BASE, read_parent, read_parents
from pipeline.recorded_run import recorded_run
from pipeline.run_folder import RunFolder, clear_previous_run
from pipeline.run_summary import constant_baselines
from pipeline.side_work import costs_only_itself
from pipeline.text_format import relpath
from pipeline.tracking.loggers import RunLogger
from pipeline.tracking.redact import redact
from pipeline.trainer import explain_out_of_memory
from pipeline.training_run import record_calibration
from pollinate.console import new_console
from pollinate.instantiate import instantiate

FROZEN = "the frozen weights beside the adapters"  # the start of what has adapters
NAME_BASE = "name the model that all were trained on from: base=CHECKPOINT"


class MergeRun:
    """Checks, merges, writes, scores and reports.

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
        self.console = new_console()
        allow = config["allow_targets"]
        self.method: MergeMethod = instantiate(config["method"], allow, "method")
        given = config["models"]
        labels = list(given) if isinstance(given, Mapping) else None
        combines = isinstance(self.method, CombinesNetworks)
        found = read_parents(models, labels, combines)
        used = self.method.used_models({parent.label: parent.tasks for parent in found})
        self.parents = [parent for parent in found if parent.label in used]
        self.notes = [
            f"note: {parent.label} isn't in the result: it has no weight for any task"
            for parent in found
            if parent.label not in used
        ]
        self.base = None if base is None else read_parent(base, BASE)
        combine = redact(config["method"]) if combines else None
        adapters = [{} if combines else parent_adapters(one, allow) for one in self.parents]
        adapted_base = parent_adapters(self.base, allow) if self.base else {}
        from_frozen = base is None and any(adapters) and self.method.needs_base
        check_method(self.method, self.name, models, FROZEN if from_frozen else base)
        tunes = merged_tunes(self.method, adapters)
        described = merged_spec(self.parents, self.base, combine, config["name"], allow)
        spec = with_tunes(described, dict.fromkeys(tunes))  # without adapters
        network = Predictor.from_spec(spec, allow).network
        self.fitted = fixed_buffers(network)  # of any size
        self.shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        pairs = zip(self.parents, adapters, strict=True)
        bare = Models(
            [parent.label for parent in self.parents],
            [partial(read_bare, parent.weights, own) for parent, own in pairs],
            [name for name, _ in network.named_parameters(remove_duplicate=False)],
            [parent.tasks for parent in self.parents],
            partial(read_folded, self.base.weights, adapted_base) if self.base else None,
            adapters,
        )
        self.keeps = isinstance(self.method, AdapterMerge)
        folded = bare.folded(bare.frozen if from_frozen else None)
        self.models = bare if self.keeps else folded
        self.spec = with_tunes(spec, tunes)
        self.stale: list[str] = []
        if combine is None:
            check_fitted(bare, self.fitted)
            self._check_whole({n: unit.shape for unit in self.models.units for n in unit.names})
            if from_frozen:
                bare.check_frozen(NAME_BASE, all_models=False)
                self.notes += without_start(folded)
            self.notes += check_starts(self.models, self.base)
            self.stale = (
                stale_batch_norms(self.models, network)
                if config["batch_norm"] == "recompute"
                else []
            )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

        def evaluator(spec: Mapping[str, Any]) -> MergeEvaluator:
            build = partial(self._build, spec)
            steps = config["batch_norm_steps"]
            return MergeEvaluator(folded, build, self.stale, steps, device)

        self.evaluator = evaluator(self.spec)
        # in which methods try weights: a network without adapters
        self.tried = evaluator(spec) if self.keeps else self.evaluator

    @property
    def name(self) -> str:
        return type(self.method).__name__

    def run(self) -> MergeSummary:
        """Merge, write, score, report; return what came out."""
        parents = ", ".join(parent.label for parent in self.parents)
        say = partial(terminal.say, self.console)
        say(f"merging {parents} by {self.name} -> {relpath(self.folder.path)}")
        for note in self.notes:
            say(note)
        if self.config["evaluate"]:
            self.evaluator.datamodule.setup()  # what is wrong with the data stops before any work
        merged = self.merged()
        for line in coefficient_lines(merged.coefficients):
            say(line)
        if self.stale:
            say(
                f"statistics of {len(self.stale)} BatchNorm layers are computed on "
                f"{self.config['batch_norm_steps']} training steps at most"
            )
        clear_previous_run(self.folder)
        summary = MergeSummary("failed", method=self.name, coefficients=merged.coefficients)
        with recorded_run(self.config, self.folder, summary, self.started) as tracker:
            self._keep(merged, tracker, summary)
        print_merge(self.console, summary, self.folder, self.config, self.spec)
        return summary

    def merged(self) -> MergeResult:
        """Return the result, with BatchNorm statistics that fit it; nothing is written."""
        merged = self.method.merge(self.models, self.tried)
        self._check_whole({name: tuple(value.shape) for name, value in merged.state.items()})
        if self.keeps:
            network = Predictor.from_spec(self.spec, self.config["allow_targets"]).single_network
            merged.state = add_adapters(network, merged.state, merged.adapters)
        if self.stale:
            merged.state = self.evaluator.with_fresh_statistics(merged.state)
        check_finite(merged.state)
        return merged

    def _keep(self, merged: MergeResult, tracker: RunLogger, summary: MergeSummary) -> None:
        spec = {
            **self.spec,
            MERGED_KEY: {**self.spec[MERGED_KEY], "method": redact(self.config["method"])},
        }
        state = {f"{NETWORK_PREFIX}{name}": value for name, value in merged.state.items()}
        write_checkpoint({"state_dict": state, "pollinate": spec}, self.folder.checkpoints / BEST)
        summary.parents = [parent.record() for parent in self.parents]
        summary.base = self.base.record() if self.base else None
        summary.tasks = list(self.spec["config"]["data"]["tasks"])
        data = self.evaluator.datamodule if self.config["evaluate"] else None
        record_start(tracker, self.folder, data, summary)

        def aside(what: str) -> AbstractContextManager[None]:
            speak, problems = partial(terminal.say, self.console), summary.problems
            return costs_only_itself(what, self.config, self.folder, tracker, speak, problems)

        if data is not None:
            scored = self._scored(merged, data)
            summary.set_scores(scored, constant_baselines(data))
            if wants_calibration(self.spec["config"]):
                with aside("calibration"):
                    self._calibrate(scored, tracker, summary)
            with aside("plots"):
                record_scores(tracker, self.folder, self.evaluator.module, scored, summary)
        with aside("model"):
            record_model(tracker, self.folder, self.config["allow_targets"])

    def _calibrate(self, scored: MergeScores, tracker: RunLogger, summary: MergeSummary) -> None:
        module, say = self.evaluator.module, partial(terminal.say, self.console)
        config = self.spec["config"]
        record_calibration(module, scored.rows, config, self.folder, summary, tracker, say)

    def _scored(self, merged: MergeResult, data: MixedDataModule) -> MergeScores:
        data.evaluation_batch_size = self.config["batch_size"]
        with explain_out_of_memory("batch_size", self.config["batch_size"]):
            return score_all(
                self.evaluator,
                merged.state,
                self._members(),
                self.spec["config"]["trainer"],
                self.console,
            )

    def _members(self) -> Callable[[int], TaskNetwork] | None:
        """Return what gives each model's network; None: the result's takes its weights."""
        if isinstance(self.method, CombinesNetworks):
            return lambda place: self.evaluator.network.networks[place]
        if not self.keeps:
            return None
        allow, device = self.config["allow_targets"], self.evaluator.device
        return lambda place: Predictor.load(self.parents[place].path, allow).network.to(device)

    def _build(self, spec: Mapping[str, Any]) -> tuple[MixedDataModule, EvaluationModule]:
        config = {**spec["config"], "allow_targets": self.config["allow_targets"]}
        seed_everything(config["seed"], verbose=False)
        datamodule = build_datamodule(config, spec["learnt"])
        datamodule.evaluation_batch_size = self.config["batch_size"]
        datamodule.setup()
        return datamodule, build_evaluation_module(config, datamodule)

    def _check_whole(self, found: Shapes) -> None:
        trunk = self.spec["config"]["trunk"]["_target_"].rpartition(".")[2]
        sized = {name: size for name, size in found.items() if name not in self.fitted}
        wanted = {name: size for name, size in self.shapes.items() if name not in self.fitted}
        check_complete(sized, wanted, trunk)
