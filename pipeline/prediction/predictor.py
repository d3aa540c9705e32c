"""Answers for new rows, from a checkpoint alone: no data, no config file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import Batch
from datamodules.modalities.base import Modality
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.tasks.base import Label, Task
from pipeline.build import build_modalities, build_network, build_tasks
from pipeline.checkpoints import read_checkpoint
from pipeline.configuration.suggest import hint
from pipeline.errors import PollinateError, UsageError
from pipeline.resume import read_spec

Columns = Mapping[str, Sequence[Any]]  # {modality: N raw values, None where a row has none}
PREFIX = "network."  # of the network's weights in a checkpoint


@dataclass
class Predictions:
    """Answers for N rows.

    answers: {task: N answers, None where a row lacks what the task reads}.
    errors: {row: why a value of it can't be read}.
    """

    answers: dict[str, list[Label | None]]
    errors: dict[int, str] = field(default_factory=dict)


class Predictor:
    """A trained network with all that it needs around it.

    Args:
        network: with its weights.
        tasks: {task: how outputs are read}.
        modalities: {modality: how raw values become tensors}.
        inputs: {data set: {modality: name of its column in training}}.
    """

    def __init__(
        self,
        network: MultiTaskNetwork,
        tasks: Mapping[str, Task],
        modalities: Mapping[str, Modality],
        inputs: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.network = network.eval()
        self.tasks = dict(tasks)
        self.modalities = dict(modalities)
        self.inputs = dict(inputs)

    @classmethod
    def load(cls, checkpoint: Path, allow_targets: Sequence[str] = ()) -> Predictor:
        """Build the network of a checkpoint again.

        Args:
            checkpoint: written by ``pipeline.fit``.
            allow_targets: packages, besides our own, whose classes it may name. What the
                checkpoint says of this itself doesn't count: it may be a stranger's.

        Raises:
            PollinateError: the file is absent, torn, of another format, or its weights don't fit.
            UsageError: it names a class that is not allowed.
        """
        spec = read_spec(checkpoint)
        config = {**spec["config"], "allow_targets": list(allow_targets)}
        tasks, modalities = build_tasks(config), build_modalities(config)
        for name, task in tasks.items():
            task.load_state_dict(spec["learnt"]["tasks"][name])
        for name, modality in modalities.items():
            modality.load_state_dict(spec["learnt"]["modalities"][name])
        network = build_network(config, tasks, modalities)
        load_network(network, checkpoint)
        inputs = {name: data["inputs"] for name, data in config["data"]["datasets"].items()}
        return cls(network, tasks, modalities, inputs)

    def modalities_of(self, task: str) -> list[tuple[str, ...]]:
        """Return the modalities that a row must have, one alternative for each data set."""
        return [tuple(sorted(self.inputs[name])) for name in self.network.routes[task]]

    def answerable(self, modalities: Sequence[str]) -> list[str]:
        """Return the tasks that rows with these modalities get an answer to."""
        given = set(modalities)
        return [t for t in self.tasks if any(given.issuperset(m) for m in self.modalities_of(t))]

    def check_task(self, task: str) -> None:
        """Check that there is such a task.

        Raises:
            UsageError: there isn't.
        """
        if task not in self.tasks:
            raise UsageError(
                f"the checkpoint has no task {task!r}{hint(task, self.tasks, 'tasks')}"
            )

    def predict(
        self, columns: Columns, tasks: Sequence[str] | None = None, batch_size: int = 256
    ) -> Predictions:
        """Answer every row that has what a task reads; a row that can't be read stops no other.

        Args:
            columns: texts, or images as arrays, paths or contents of files; all of one length N.
            tasks: the tasks wanted; None: all.
            batch_size: rows at a time, >= 1.

        Raises:
            UsageError: the columns have different lengths, or a task or modality isn't known.
        """
        wanted = list(self.tasks) if tasks is None else list(tasks)
        self._check(columns, wanted)
        length = max((len(values) for values in columns.values()), default=0)
        found = Predictions({task: [None] * length for task in wanted})
        for needed, routes in self._groups(wanted).items():
            rows = complete_rows(columns, needed, length)
            rows.sort(key=lambda row: text_length(columns, row))  # little padding
            for start in range(0, len(rows), batch_size):
                batch = rows[start : start + batch_size]
                self._answer(batch, {m: columns[m] for m in needed}, routes, found)
        return found

    def _check(self, columns: Columns, tasks: Sequence[str]) -> None:
        for task in tasks:
            self.check_task(task)
        for modality in columns:
            if modality not in self.modalities:
                known = hint(modality, self.modalities, "modalities")
                raise UsageError(f"the checkpoint doesn't take {modality!r}{known}")
        lengths = {modality: len(values) for modality, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"all columns must have one length, got {lengths}")

    def _groups(self, tasks: Sequence[str]) -> dict[tuple[str, ...], dict[str, str]]:
        """Return {modalities: {task: the first of its data sets with just these}}."""
        groups: dict[tuple[str, ...], dict[str, str]] = {}
        for task in tasks:
            for dataset, needed in zip(
                self.network.routes[task], self.modalities_of(task), strict=True
            ):
                groups.setdefault(needed, {}).setdefault(task, dataset)
        return groups

    def _answer(
        self, rows: list[int], columns: Columns, routes: Mapping[str, str], found: Predictions
    ) -> None:
        """Put one batch's answers and errors into ``found``."""
        inputs, rows = self._read(rows, columns, found.errors)
        if not rows:
            return
        for task, output in self._forward(inputs, len(rows), routes).items():
            for row, label in zip(rows, self.tasks[task].decode(output), strict=True):
                if found.answers[task][row] is None:
                    found.answers[task][row] = label

    def _read(
        self, rows: list[int], columns: Columns, errors: dict[int, str]
    ) -> tuple[dict[str, Tensor], list[int]]:
        """Return ({modality: (n, ...)}, the n rows that could be read)."""
        values = {m: [column[row] for row in rows] for m, column in columns.items()}
        read = {m: self.modalities[m].prepare(column) for m, column in values.items()}
        for modality, column in read.items():
            for place, error in column.errors.items():
                errors[rows[place]] = f"{modality}: {error}"
        bad = {place for column in read.values() for place in column.errors}
        good = [place for place in range(len(rows)) if place not in bad]
        inputs = {m: c.store.rows(np.array(good)) for m, c in read.items() if good}
        return inputs, [rows[place] for place in good]

    def _forward(
        self, inputs: dict[str, Tensor], count: int, routes: Mapping[str, str]
    ) -> dict[str, Tensor]:
        """Return {task: (n, ...)}; rows are encoded once, however many tasks read them."""
        with torch.inference_mode():
            some = next(iter(routes.values()))
            features = self.network.encode({some: Batch(inputs, {}, {}, torch.arange(count))})
            shared = dict.fromkeys(routes.values(), features[some])
            chosen = {task: (dataset,) for task, dataset in routes.items()}
            represented = self.network.trunk(shared, chosen)
            return {task: self.network.heads[task](rows) for task, rows in represented.items()}


def load_network(network: MultiTaskNetwork, checkpoint: Path) -> None:
    """Load a checkpoint's weights into a network that was built from its configuration.

    Raises:
        PollinateError: names or shapes differ.
    """
    weights = read_checkpoint(checkpoint)["state_dict"]
    own = {k.removeprefix(PREFIX): value for k, value in weights.items() if k.startswith(PREFIX)}
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        raise PollinateError(
            f"the weights of {checkpoint} don't fit its configuration: {error}; "
            "use the version of pollinate that wrote it"
        ) from error


def complete_rows(columns: Columns, needed: Sequence[str], length: int) -> list[int]:
    """Return the rows that have a value of every modality needed."""
    if any(modality not in columns for modality in needed):
        return []
    return [row for row in range(length) if all(columns[m][row] is not None for m in needed)]


def text_length(columns: Columns, row: int) -> int:
    """Return the length of a row's text, 0 if there is none."""
    texts = columns.get("text")
    return 0 if texts is None else len(str(texts[row]))
