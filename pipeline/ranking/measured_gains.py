"""Measured gains of real transfers, from a table or from runs."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.find_checkpoint import find_checkpoint
from pipeline.ranking.candidates import CandidateSource, CheckpointSource, EncoderSource
from pipeline.run_folder import RunFolder
from pollinate.errors import PollinateError, UsageError
from pollinate.suggest import hint

COLUMNS = ("source", "task", "gain")
SCRATCH = ""  # in place of a source: none


@dataclass
class MeasuredGains:
    """values: {task: {source: mean gain}}; notes: what a user should know of them."""

    values: dict[str, dict[str, float]]
    notes: list[str] = field(default_factory=list)


Found = dict[tuple[str, str], list[float]]  # {(task, source): values}


def gains_table(path: Path, tasks: Sequence[str], sources: Sequence[str]) -> MeasuredGains:
    """Read gains from a CSV with the columns source, task and gain; rows of a pair are averaged."""
    if not path.is_file():
        raise UsageError(f"gains must be a CSV or a list of runs, there is no file {path}")
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        names = reader.fieldnames or []
        for column in COLUMNS:
            if column not in names:
                known = hint(column, names, "columns")
                raise UsageError(f"gains: {path} has no column {column!r}{known}")
        found: Found = defaultdict(list)
        others: set[str] = set()
        for row in reader:
            where = f"gains: {path}, line {reader.line_num}"
            task, source = (row["task"] or "").strip(), (row["source"] or "").strip()
            if task not in tasks:
                raise UsageError(f"{where}: no task {task!r}{hint(task, tasks, 'tasks')}")
            gain = finite(row["gain"], where)
            if source in sources:
                found[task, source].append(gain)
            else:
                others.add(source)
    if not found:
        some = sorted(others)[0] if others else ""
        raise UsageError(
            f"gains: {path} names none of the sources{hint(some, sources, 'sources')}"
            if others
            else f"gains: {path} has no rows"
        )
    return averaged(found, tasks, notes_of(str(path), others))


def finite(cell: str | None, where: str) -> float:
    try:
        value = float(cell or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{where}: gain must be a number, got {cell!r}")
    return value


def notes_of(where: str, others: set[str]) -> list[str]:
    if not others:
        return []
    return [f"{where} also has gains of {', '.join(sorted(others))}, which are not ranked"]


def averaged(found: Found, tasks: Sequence[str], notes: list[str]) -> MeasuredGains:
    values: dict[str, dict[str, float]] = {task: {} for task in tasks}
    for (task, source), own in found.items():
        values[task][source] = sum(own) / len(own)
    return MeasuredGains(values, notes)


def gains_of_runs(
    runs: Sequence[str], tasks: Mapping[str, str], sources: Sequence[CandidateSource], uri: str
) -> MeasuredGains:
    """Measure gains: a run's test score minus that of runs without a source, means over seeds.

    A run has a source if its ``transfer`` names the checkpoint, or its encoder is the pre-trained
    one.

    Args:
        runs: folders of finished runs on the target.
        tasks: {task: the metric, larger is better, that is its score}.
        sources: models that are ranked.
        uri: MLflow's address, where run ids that ``transfer`` names are looked up.
    """
    scores: Found = defaultdict(list)
    for run in runs:
        folder = RunFolder(Path(run).expanduser().absolute())
        if not (folder.summary.is_file() and folder.config.is_file()):
            raise PollinateError(
                f"gains must name folders of finished runs, {folder.path} has no summary.json and "
                "config.yaml"
            )
        source = source_of(folder.read_config(), sources, uri)
        for task, value in test_scores(folder, tasks).items():
            scores[task, source].append(value)
    without = {task for task, source in scores if source == SCRATCH}
    if not without or all(source == SCRATCH for _, source in scores):
        lacking = "with one of the sources" if without else "without any source"
        raise UsageError(
            f"gains must name runs with and without a source, there is none {lacking}; a run has "
            "a source if its transfer names the checkpoint or its encoder is the pre-trained one"
        )
    base = averaged({k: v for k, v in scores.items() if k[1] == SCRATCH}, list(tasks), []).values
    found: Found = defaultdict(list)
    for (task, source), own in scores.items():
        if source != SCRATCH and task in without:
            found[task, source] = [value - base[task][SCRATCH] for value in own]
    return averaged(found, list(tasks), [])


def test_scores(folder: RunFolder, tasks: Mapping[str, str]) -> dict[str, float]:
    found = folder.read_summary().get("test", {})
    return {
        task: value
        for task, metric in tasks.items()
        if (value := found.get(task, {}).get(metric)) is not None
    }


def source_of(config: Mapping[str, Any], sources: Sequence[CandidateSource], uri: str) -> str:
    """Return the name of the source that a run has, ``SCRATCH`` if it has none."""
    named = set(texts(config.get("transfer")))
    for source in sources:
        if isinstance(source, CheckpointSource) and same_checkpoint(named, source, uri):
            return source.name
        if isinstance(source, EncoderSource):
            node = config["encoder"].get(source.modalities[0]) or {}
            if node.get("model") == source.encoder.model and node.get("weights", True):
                return source.name
    return SCRATCH


def texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)


def same_checkpoint(named: set[str], source: CheckpointSource, uri: str) -> bool:
    if source.name in named:
        return True
    for name in named:
        try:
            if find_checkpoint(name, uri).resolve() == source.checkpoint.resolve():
                return True
        except PollinateError:
            continue  # another option of the transfer, no checkpoint
    return False
