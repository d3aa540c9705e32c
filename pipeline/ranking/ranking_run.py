"""All that the command does, from its configuration to the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from lightning_modules.building import build_tasks, task_datasets
from lightning_modules.transferability.base import EvidenceKind, Score
from pipeline.build import build_datamodule
from pipeline.ranking.candidates import CandidateSource, find_source, find_sources, uri_of
from pipeline.ranking.measured_gains import MeasuredGains, gains_of_runs, gains_table
from pipeline.ranking.ranking_report import RankingReport, ranking_report
from pipeline.ranking.scoring import TASK, rank_sources, require_fit
from pipeline.ranking.target_sample import sample_target
from pipeline.ranking.task_affinity import measure_task_relations
from pipeline.run_folder import RunFolder
from pipeline.text_format import count
from pollinate.errors import UsageError
from pollinate.instantiate import instantiate


def make_ranking_report(
    config: Mapping[str, Any], folder: RunFolder, console: Console
) -> RankingReport:
    """Load sources and target, score, and compare with gains."""
    scores: dict[str, Score] = {
        name: instantiate(node, config["allow_targets"], f"scores.{name}")
        for name, node in config["scores"].items()
    }
    compares = compares_tasks(config, scores)
    if not config["sources"] and not compares:
        raise UsageError(
            "sources must name at least one, such as sources=[runs/NAME,encoder/text:minilm]; "
            "without any, data with two tasks are compared with each other, if steps >= 1 and "
            "scores have tag or gradient_cosine"
        )
    sources = find_sources(config["sources"], config)
    reference = None if config["reference"] is None else find_source(config["reference"], config)
    tasks = modalities_of_tasks(config)
    for source in [*sources, *([] if reference is None else [reference])]:
        require_fit(source, tasks)
    names = [source.name for source in sources]
    names += [f"{TASK}{task}" for task in tasks] if compares else []
    gains = read_gains(config, names, sources)
    target = sample_target(build_datamodule(config), config["rows"], config["seed"])
    counts = f"{count(len(names), 'source')} for {count(len(tasks), 'task')}"
    console.print(f"scoring {counts}", highlight=False)
    relations = measure_task_relations(config, folder) if compares else None
    found = rank_sources(target, sources, scores, config["batch_size"], reference, relations)
    return ranking_report(found, gains, config["seed"])


def compares_tasks(config: Mapping[str, Any], scores: Mapping[str, Score]) -> bool:
    """Say whether the target's tasks are sources of each other."""
    wanted = any(score.reads is EvidenceKind.RUN for score in scores.values())
    return wanted and config["steps"] > 0 and len(config["data"]["tasks"]) > 1


def modalities_of_tasks(config: Mapping[str, Any]) -> dict[str, list[str]]:
    datasets = config["data"]["datasets"]
    return {
        task: sorted({m for name in task_datasets(spec) for m in datasets[name]["inputs"]})
        for task, spec in config["data"]["tasks"].items()
    }


def read_gains(
    config: Mapping[str, Any], names: list[str], sources: list[CandidateSource]
) -> MeasuredGains | None:
    given = config["gains"]
    if given is None:
        return None
    if isinstance(given, str):
        return gains_table(Path(given).expanduser(), list(config["data"]["tasks"]), names)
    metrics = {name: task.score for name, task in build_tasks(config).items()}
    return gains_of_runs(given, metrics, sources, uri_of(config))
