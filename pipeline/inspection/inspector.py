"""Looks at all data sets of a configuration; a fault of one doesn't hide the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datamodules.mixed import MixedDataModule
from datamodules.modalities.text import TextModality
from pipeline.build import build_datamodule
from pipeline.errors import PollinateError
from pipeline.inspection.checks import CHECKS, Subject, shared_problems
from pipeline.inspection.facts import DatasetFacts, dataset_facts
from pipeline.inspection.problems import ERROR, Problem, by_severity

# what a data module needs besides the data; nothing is drawn from it
UNUSED = {
    "seed": 0,
    "loader": {"workers": 0, "pin_memory": False},
    "sampler": {
        "_target_": "datamodules.samplers.proportional.Proportional",
        "batch_size": 1_000_000,
    },
}


@dataclass
class Findings:
    """facts: {data set: numbers}; problems: the worst first; subjects: what was looked at."""

    facts: dict[str, DatasetFacts] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    subjects: dict[str, Subject] = field(default_factory=dict)


def inspect_data(config: Mapping[str, Any]) -> Findings:
    """Read, measure and check all data sets."""
    data = build_datamodule({**config, **UNUSED})
    found = Findings()
    for name in data.datasets:
        try:
            data.loaded[name] = data.load(name)
        except PollinateError as error:
            advice = "the others were looked at"
            found.problems.append(Problem(ERROR, name, str(error), advice))
    data.learn_modalities()
    for name in data.loaded:
        subject = look(data, name)
        found.subjects[name], found.facts[name] = subject, subject.facts
        found.problems += [problem for check in CHECKS for problem in check(subject)]
    found.problems += shared_problems(data.loaded)
    found.problems = by_severity(found.problems)
    return found


def look(data: MixedDataModule, name: str) -> Subject:
    """Prepare and measure one data set, without its bad rows."""
    loaded = data.loaded[name]
    stores = data.prepare(name)
    loaded.rows = {split: loaded.bad.without(rows) for split, rows in loaded.rows.items()}
    tasks = {
        task: spec
        for task, spec in data.tasks.items()
        if name in spec.datasets and name not in spec.unlabelled
    }
    where = data.datasets[name].source.location
    facts = dataset_facts(where, loaded, stores, tasks, data.modalities)
    text = data.modalities.get("text")
    tokens = text if isinstance(text, TextModality) else None
    return Subject(name, loaded, stores, tasks, facts, tokens)
