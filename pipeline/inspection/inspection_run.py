"""Looks at all data sets of a configuration; a fault of one doesn't hide the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.text import TextModality
from lightning_modules.encoders.language_model import LanguageModel
from lightning_modules.tasks.base import as_task
from pipeline.build import build_datamodule
from pipeline.inspection.data_checks import (
    CHECKS,
    ERROR,
    NOTE,
    SEVERITIES,
    DataProblem,
    InspectedDataset,
    lookalike_labels,
    shared_problems,
)
from pipeline.inspection.data_statistics import DatasetStatistics, dataset_statistics
from pipeline.linear.scores import linear_scores
from pipeline.run_summary import constant_baselines
from pollinate.errors import PollinateError, UsageError

# what a data module needs besides the data; nothing is drawn from it
UNUSED_OPTIONS = {
    "seed": 0,
    "loader": {"workers": 0, "pin_memory": False},
    "sampler": {
        "_target_": "pollinate.samplers.Proportional",
        "batch_size": 1_000_000,
    },
}


@dataclass
class ReferenceScore:
    """What a trained model must be above.

    task, metric: of the score; baseline: of the best constant answer; linear: of a linear model.
    reason: why there is no linear model; empty where there is one.
    """

    task: str
    metric: str
    baseline: float | None
    linear: float | None
    reason: str = ""


@dataclass
class InspectionFindings:
    """facts: {data set: numbers}; problems: the worst first; references: of tasks, on test."""

    facts: dict[str, DatasetStatistics] = field(default_factory=dict)
    problems: list[DataProblem] = field(default_factory=list)
    inspected_datasets: dict[str, InspectedDataset] = field(default_factory=dict)
    references: list[ReferenceScore] = field(default_factory=list)


def inspect_data(config: Mapping[str, Any]) -> InspectionFindings:
    data = build_datamodule({**config, **UNUSED_OPTIONS})
    use_tokenizer(data, config["tokenizer"])
    found = InspectionFindings()
    for name in data.datasets:
        try:
            data.loaded[name] = data.load(name, every_column=True)
        except PollinateError as error:
            advice = "the others were inspected"
            found.problems.append(DataProblem(ERROR, name, str(error), advice))
    data.learn_modalities()
    for name in data.loaded:
        inspected = inspect_dataset(data, name)
        found.inspected_datasets[name], found.facts[name] = inspected, inspected.facts
        found.problems += [problem for check in CHECKS for problem in check(inspected)]
    found.problems += shared_problems(data.loaded)
    found.problems += lookalike_labels(found.facts)
    for note in data.policy.cache.notes:
        found.problems.append(
            DataProblem(NOTE, "cache", note, "if it happens again, check the disk")
        )
    if config["baseline"] == "linear" and not any(p.severity == ERROR for p in found.problems):
        found.references = reference_scores(config)
    found.problems.sort(key=lambda problem: SEVERITIES.index(problem.severity))
    return found


def reference_scores(config: Mapping[str, Any]) -> list[ReferenceScore]:
    """Return what constant answers and linear models reach; the data must have no faults."""
    data = build_datamodule({**config, **UNUSED_OPTIONS})
    data.setup()
    constant, linear = constant_baselines(data), linear_scores(data, data.policy.cache)
    found = []
    for name, spec in data.tasks.items():
        metric = as_task(spec).score
        own, reached = (s.get(name, {}).get(metric) for s in (constant, linear.scores["test"]))
        found.append(ReferenceScore(name, metric, own, reached, linear.reasons.get(name, "")))
    return found


def inspect_dataset(data: MixedDataModule, name: str) -> InspectedDataset:
    loaded = data.loaded[name]
    stores, prompts = data.prepare(name)
    loaded.rows = {split: loaded.bad.without(rows) for split, rows in loaded.rows.items()}
    tasks = {
        task: spec
        for task, spec in data.tasks.items()
        if name in spec.datasets and name not in spec.unlabelled
    }
    where = data.datasets[name].source.location
    facts = dataset_statistics(where, loaded, stores, tasks, data.modalities, prompts)
    text = data.modalities.get("text")
    tokens = text if isinstance(text, TextModality) else None
    return InspectedDataset(name, loaded, stores, tasks, facts, tokens, prompts)


def use_tokenizer(data: MixedDataModule, model: str | None) -> None:
    """Count the tokens of texts, prompts and answers as a model does; None: as learnt here.

    Raises:
        UsageError: there are no texts.
        PollinateError: there is no such model, or it doesn't write.
    """
    if model is None:
        return
    text = data.modalities.get("text")
    if text is None:
        raise UsageError(
            f"tokenizer is for texts, which no data set has, got {model}; leave it out"
        )
    data.modalities["text"] = text.with_options(assets=LanguageModel.assets_of({"model": model}))
