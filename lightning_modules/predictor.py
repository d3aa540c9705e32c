"""Predictions for new rows from a checkpoint: no data or config file needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import Batch
from datamodules.inputs import TEMPLATE, InputColumns
from datamodules.mixed_datamodule import prompt_modality
from datamodules.modalities.base import Modality
from datamodules.modalities.forms import forms_of, modality_of
from datamodules.modalities.image import displayed_size
from datamodules.modalities.prompt import PromptModality
from datamodules.prompts import is_textual, prompt_input
from datamodules.split_dataset import SplitDataset
from lightning_modules.building import HEAD_INPUT, build_model, build_tasks, restore_vocabularies
from lightning_modules.checkpoints import read_checkpoint, read_spec
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.rebuilding import rebuilding
from lightning_modules.task_network import TaskNetwork
from lightning_modules.tasks.base import Label, Task
from lightning_modules.trunks.base import Routes
from lightning_modules.trust.doubts import UNCALIBRATED, DoubtOptions, Doubts, rows_outside
from lightning_modules.trust.row_features import row_features
from lightning_modules.trust.samples import dropout_outputs
from lightning_modules.trust.stored import Trust, restore_trust
from lightning_modules.trust.task_trust import TaskTrust
from lightning_modules.views import EncodedDataset
from pollinate.errors import PollinateError, UsageError
from pollinate.suggest import hint

Columns = Mapping[str, Sequence[Any]]  # {modality: N raw values, None where a row has none}
NETWORK_PREFIX = "network."  # of the network's weights in a checkpoint


@dataclass
class Predictions:
    """Answers for N rows.

    answers: {task: N answers, None where a row lacks what the task reads}.
    errors: {row: why a value of it can't be read}.
    tokens: that were written, one after the other, by tasks that answer in words.
    """

    answers: dict[str, list[Label | None]]
    errors: dict[int, str] = field(default_factory=dict)
    tokens: int = 0


@dataclass
class EncodedRows:
    """rows: their numbers; datasets: what ``network.encode`` returned; routes: of their tasks."""

    rows: list[int]
    datasets: Mapping[str, EncodedDataset]
    routes: Routes


@dataclass
class RowBatch:
    """Rows that have values of the same modalities, as rows of one data set.

    rows: their numbers; batch: they; routes: of the tasks that are answered from them.
    modalities: those of the data set that all of the rows have; prompts are none.
    """

    rows: list[int]
    dataset: str
    batch: Batch
    routes: Routes
    modalities: frozenset[str]


class Predictor:
    """A trained network with all that it needs around it.

    Args:
        network: with its weights.
        tasks: {task: how outputs are read}.
        modalities: {modality: how raw values become tensors}, of an ensemble in all of its forms.
        inputs: {data set: {modality: its column, or columns, in training}}.
        readings: {data set: how its files were read}; see ``Source.reading``.
        trust: how answers are calibrated; None: they aren't.

    Attributes:
        inputs, modalities: with the prompts of tasks that answer in words, ``prompt/TASK``.
    """

    def __init__(
        self,
        network: TaskNetwork,
        tasks: Mapping[str, Task],
        modalities: Mapping[str, Modality],
        inputs: Mapping[str, Mapping[str, InputColumns]],
        readings: Mapping[str, Mapping[str, Any]] | None = None,
        trust: Trust | None = None,
    ) -> None:
        self.network = network.eval()
        self.tasks = dict(tasks)
        asked = [name for name, task in tasks.items() if task.prompt is not None]
        prompts = {prompt_input(t): prompt_modality(t, tasks[t], modalities) for t in asked}
        self.modalities = {**modalities, **prompts}
        self.inputs = with_prompts(inputs, tasks, network.routes)
        self.readings = dict(readings or {})
        self.trust = trust or Trust()

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
        found = cls.from_spec(read_spec(checkpoint), allow_targets)
        load_network_weights(found.network, checkpoint)
        return found

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], allow_targets: Sequence[str] = ()) -> Predictor:
        """Build the network that a checkpoint describes; its weights are random.

        Args:
            spec: what the checkpoint says of its model.
            allow_targets: as for ``load``.
        """
        config = {**spec["config"], "allow_targets": list(allow_targets)}
        learnt = spec["learnt"]
        with rebuilding():
            tasks, modalities = restore_vocabularies(config, build_tasks(config), learnt)
            network = build_model(config, tasks, modalities, learnt.get(HEAD_INPUT))
            inputs = {name: data["inputs"] for name, data in config["data"]["datasets"].items()}
            trust = restore_trust(spec, tasks)
            return cls(network, tasks, modalities, inputs, learnt.get("readings"), trust)

    @property
    def single_network(self) -> MultiTaskNetwork:
        """The network of a model that is neither linear nor an ensemble: encoders, trunk, heads.

        Raises:
            UsageError: the model is one of these.
        """
        if not isinstance(self.network, MultiTaskNetwork):
            raise UsageError(
                "the model must be a single network with encoders, got "
                f"{'a linear model' if self.network.networks == (self.network,) else 'an ensemble'}"
            )
        return self.network

    def prompt_modality(self, task: str) -> PromptModality:
        """Return how prompts of a task that answers in words become tokens."""
        found = self.modalities[prompt_input(task)]
        assert isinstance(found, PromptModality)
        return found

    @property
    def modality_names(self) -> list[str]:
        """What its rows can have: each modality once, however many networks read it."""
        return list(dict.fromkeys(map(modality_of, self.modalities)))

    @property
    def empty_words(self) -> frozenset[str]:
        """Texts that stood for an empty cell in all data sets of training."""
        words = [set(self.readings.get(name, {}).get("empty", ())) for name in self.inputs]
        return frozenset(set.intersection(*words)) if words else frozenset()

    def modalities_of(self, task: str) -> list[tuple[str, ...]]:
        """Return the modalities that rows of the task's data sets have; a row may lack some."""
        return [tuple(sorted(self.read_by(task, name))) for name in self.network.routes[task]]

    def read_by(self, task: str, dataset: str) -> set[str]:
        """Return what a task reads of a data set's rows: its prompts, or all that isn't one."""
        if self.tasks[task].prompt is not None:
            return {prompt_input(task)}
        return {name for name in self.inputs[dataset] if name not in self._prompts}

    @property
    def _prompts(self) -> dict[str, str]:
        """{name among the inputs: task} of prompts."""
        return {prompt_input(n): n for n, task in self.tasks.items() if task.prompt is not None}

    def predictable_tasks(self, modalities: Sequence[str]) -> list[str]:
        """Return the tasks that rows with these modalities get an answer to."""
        given = set(modalities)
        return [t for t in self.tasks if any(given.intersection(m) for m in self.modalities_of(t))]

    def check_task(self, task: str) -> None:
        """Check that there is such a task."""
        if task not in self.tasks:
            raise UsageError(
                f"the checkpoint has no task {task!r}{hint(task, self.tasks, 'tasks')}"
            )

    def doubts(
        self, options: DoubtOptions | None = None, tasks: Sequence[str] | None = None
    ) -> dict[str, Doubts]:
        """Return {task: what adds to its answers what is asked for}.

        Args:
            options: what is asked for; without a coverage, that of training, if there was one.
            tasks: the tasks wanted; None: all.

        Raises:
            UsageError: the checkpoint isn't calibrated, or no wanted task can have any of it.
        """
        options = options or DoubtOptions()
        if options.asked and not self.trust.tasks:
            raise UsageError(UNCALIBRATED)
        if options.coverage is None:
            options = replace(options, coverage=self.trust.coverage)
        names = [name for name in (tasks or self.tasks) if name in self.tasks]
        found = {
            name: Doubts(name, self.tasks[name], self.trust.tasks.get(name, TaskTrust()), options)
            for name in names
            if options.asked
        }
        if options.together and not any(
            len(one.of(list(found)).tasks) > 1 for one in self.trust.rows.values()
        ):
            next(iter(found.values())).notes.append(
                f"{', '.join(found)}: no two of them have scores of the same calibration rows; "
                "each marks rows out of scope by its own"
            )
        if found and not any(own.adds for own in found.values()):
            notes = "; ".join(note for own in found.values() for note in own.notes)
            raise UsageError(f"none of the tasks can have what is asked for: {notes}")
        return found

    def predict(
        self,
        columns: Columns,
        tasks: Sequence[str] | None = None,
        batch_size: int = 256,
        doubts: Mapping[str, Doubts] | None = None,
        watch: Callable[[Predictions], None] | None = None,
    ) -> Predictions:
        """Predict every row that has what a task reads; a row that can't be read is skipped.

        Args:
            columns: texts or pairs of them; images and sounds as arrays, paths or contents of
                files, sounds also as (samples, rate); all of one length N.
            tasks: the tasks wanted; None: all.
            batch_size: rows at a time, >= 1.
            doubts: what ``doubts`` gave for these tasks; None: what training asked for.
            watch: is given what was found so far, each time that there is more.

        Raises:
            UsageError: the columns have different lengths, or a task or modality isn't known.
        """
        wanted = list(self.tasks) if tasks is None else list(tasks)
        length = max((len(values) for values in columns.values()), default=0)
        found = Predictions({task: [None] * length for task in wanted})
        asked = self.doubts(tasks=wanted) if doubts is None else doubts
        with row_features(self.network, list(asked)) as features:
            for one in self.batches(columns, wanted, batch_size, found.errors):
                rows, batches, routes = one.rows, {one.dataset: one.batch}, one.routes
                with torch.inference_mode():
                    outputs = self.network.answer(batches, routes)
                read = dict(features)
                samples = self._samples(batches, routes, asked)
                outside = self._outside(outputs, read, asked)
                for task, output in outputs.items():
                    own = self.tasks[task]
                    found.tokens += own.tokens_written(output)
                    pictures = columns.get(own.maps.modality) if own.maps is not None else None
                    doubt, several = asked.get(task), samples.get(task)
                    labels = self._answers(task, output, outside.get(task), doubt, several)
                    for row, label in zip(rows, labels, strict=True):
                        size = None if pictures is None else displayed_size(pictures[row])
                        found.answers[task][row] = own.at_size(label, size)
                if watch is not None:
                    watch(found)
        return found

    def write_with(self, options: Mapping[str, Any]) -> None:
        """Write answers in words otherwise than in training, from now on.

        Args:
            options: as for ``Task.write_with``; those left out are as in training.

        Raises:
            UsageError: no task writes, or a value is out of range.
        """
        write_with(self.tasks, options)

    def _samples(
        self, batches: Mapping[str, Batch], routes: Routes, asked: Mapping[str, Doubts]
    ) -> dict[str, list[Tensor]]:
        """Return {task: outputs of several models}, of tasks that are asked for their parts."""
        own = {task: names for task, names in routes.items() if asked_parts(asked, task)}
        if not own:
            return {}
        times = asked[next(iter(own))].options.dropout
        if times:
            return dropout_outputs(self.network, batches, own, times)
        with torch.inference_mode():
            return self.network.member_outputs(self.network.encode(batches, own), own)

    def decode(self, task: str, output: Tensor) -> list[Label]:
        """Return a task's answers to outputs (n, ...), calibrated as ``predict`` has them."""
        return self._answers(task, output, None, None, None)

    def _outside(
        self,
        outputs: Mapping[str, Tensor],
        features: Mapping[str, Tensor],
        asked: Mapping[str, Doubts],
    ) -> dict[str, Tensor]:
        """Return {task: which rows are out of scope, (n,) bool}, of tasks that can say so."""
        with torch.inference_mode():
            strange = {
                task: found
                for task, output in outputs.items()
                if task in asked
                and (found := asked[task].strangeness(output, features.get(task))) is not None
            }
            return rows_outside(asked, strange, self.trust.rows.values())

    def _answers(
        self,
        task: str,
        output: Tensor,
        outside: Tensor | None,
        doubts: Doubts | None,
        samples: Sequence[Tensor] | None,
    ) -> list[Label]:
        """Return answers to outputs (n, ...), calibrated as far as the checkpoint can."""
        trust = self.trust.tasks.get(task)
        if trust is None:
            return self.tasks[task].decode(output)
        with torch.inference_mode():
            calibrated = trust.calibrated(output)
            labels = self.tasks[task].decode_calibrated(output, calibrated)
            if doubts is not None:
                doubts.add(labels, output, calibrated, outside, samples)
        return labels

    def outputs(
        self, columns: Columns, tasks: Sequence[str], batch_size: int, errors: dict[int, str]
    ) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """Yield (n rows, {task: (n, ...)}), some rows and tasks at a time.

        Args:
            columns, batch_size: as for ``predict``.
            tasks: the tasks wanted.
            errors: {row: why a value of it can't be read}, filled on the way.

        Raises:
            UsageError: as for ``predict``.
        """
        for one in self.batches(columns, tasks, batch_size, errors):
            with torch.inference_mode():
                outputs = self.network.answer({one.dataset: one.batch}, one.routes)
            yield one.rows, outputs

    def encoded(
        self, columns: Columns, tasks: Sequence[str], batch_size: int, errors: dict[int, str]
    ) -> Iterator[EncodedRows]:
        """Encode every row that has what a task reads, some at a time; see ``outputs``."""
        for one in self.batches(columns, tasks, batch_size, errors):
            with torch.inference_mode():
                encoded = self.network.encode({one.dataset: one.batch}, one.routes)
            yield EncodedRows(one.rows, encoded, one.routes)

    def batches(
        self, columns: Columns, tasks: Sequence[str], batch_size: int, errors: dict[int, str]
    ) -> Iterator[RowBatch]:
        """Read every row that has what a task reads, some at a time; see ``outputs``."""
        self._check(columns, tasks)
        columns = {m: [blank_as_none(cell) for cell in values] for m, values in columns.items()}
        device = next(chain(self.network.parameters(), self.network.buffers())).device
        length = max((len(values) for values in columns.values()), default=0)
        for given, rows in rows_by_modalities(columns, length).items():
            rows.sort(key=lambda row: text_length(columns, row))  # little padding
            for dataset, own_tasks in self.routes(given, tasks).items():
                own = {m: columns[m] for m in self.inputs[dataset] if m in given}
                routes = dict.fromkeys(own_tasks, (dataset,))
                for start in range(0, len(rows), batch_size):
                    some = rows[start : start + batch_size]
                    batch, read = self.read(some, own, dataset, errors)
                    if read:
                        known = frozenset(own) - self._prompts.keys()
                        yield RowBatch(read, dataset, batch.to(device), routes, known)

    def _check(self, columns: Columns, tasks: Sequence[str]) -> None:
        for task in tasks:
            self.check_task(task)
        for modality in columns:
            if modality not in self.modality_names:
                known = hint(modality, self.modality_names, "modalities")
                raise UsageError(f"the checkpoint doesn't take {modality!r}{known}")
        lengths = {modality: len(values) for modality, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"all columns must have one length, got {lengths}")

    def routes(self, given: Collection[str], tasks: Sequence[str]) -> dict[str, list[str]]:
        """Return {data set: tasks}: each task as from the data set that is most like the rows.

        That is the one of whose modalities the rows have most, and lack fewest.
        """
        routes: dict[str, list[str]] = {}
        for task in tasks:
            fits = {
                name: (len(own & set(given)), -len(own - set(given)))
                for name in self.network.routes[task]
                if (own := self.read_by(task, name)) & set(given)
            }
            if fits:
                best = max(fits, key=lambda name: fits[name])
                routes.setdefault(best, []).append(task)
        # tasks of data sets with the same inputs are answered together: rows are encoded once
        first_with_inputs: dict[tuple[str, ...], str] = {}
        merged: dict[str, list[str]] = {}
        for name, own_tasks in routes.items():
            first = first_with_inputs.setdefault(tuple(sorted(self.inputs[name])), name)
            merged.setdefault(first, []).extend(own_tasks)
        return merged

    def read(
        self, rows: Sequence[int], columns: Columns, dataset: str, errors: dict[int, str]
    ) -> tuple[Batch, list[int]]:
        """Return the rows that could be read, as a batch of a data set, and which they are.

        Args:
            rows: of the columns, those that are wanted.
            columns: {modality: raw values}; those of the data set that aren't there are empty.
            dataset: in whose place they are read.
            errors: {row: why a value of it can't be read}, which are added.
        """
        values = {m: [column[row] for row in rows] for m, column in columns.items()}
        forms = {f: m for m in self.inputs[dataset] for f in forms_of(m, self.modalities)}
        read = {f: self.modalities[f].prepare(values[m]) for f, m in forms.items() if m in values}
        for form, column in read.items():
            for place, error in column.errors.items():
                errors[rows[place]] = f"{forms[form]}: {error}"
        bad = {place for column in read.values() for place in column.errors}
        good = np.array([place for place in range(len(rows)) if place not in bad], dtype=np.int64)
        found = {m: column.store for m, column in read.items()}
        for form in forms:
            if form not in found:
                found[form] = self.modalities[form].prepare([None] * len(rows)).store
        asked = self._prompts
        stores = {name: store for name, store in found.items() if name not in asked}
        prompts = {asked[name]: store for name, store in found.items() if name in asked}
        part = SplitDataset(dataset, stores, np.arange(len(rows)), {}, {}, prompts=prompts)
        return part.batch(good), [rows[place] for place in good]


def asked_parts(asked: Mapping[str, Doubts], task: str) -> bool:
    """Say whether the parts of a task's uncertainty are asked for, and can be told."""
    return task in asked and asked[task].parts


def with_prompts(
    inputs: Mapping[str, Mapping[str, InputColumns]], tasks: Mapping[str, Task], routes: Routes
) -> dict[str, dict[str, InputColumns]]:
    """Return inputs with the prompts of tasks that answer in words, ``prompt/TASK``.

    Args:
        inputs: {data set: {modality: its column, or columns}}.
        tasks: {name: task}.
        routes: {task: data sets}.
    """
    found: dict[str, dict[str, InputColumns]] = {name: dict(own) for name, own in inputs.items()}
    for task, names in routes.items():
        prompt = tasks[task].prompt
        for name in names if prompt is not None else ():
            assert prompt is not None
            found[name][prompt_input(task)] = {TEMPLATE: prompt.template}
    return found


def write_with(tasks: Mapping[str, Task], options: Mapping[str, Any]) -> None:
    """Let tasks write otherwise; see ``Task.write_with``.

    Raises:
        UsageError: none of them writes, or a value is out of range.
    """
    if options and all(task.averages for task in tasks.values()):
        raise UsageError(
            f"decoding is for tasks that write answers, and {', '.join(tasks)} don't; leave it out"
        )
    for task in tasks.values():
        task.write_with(options)


def load_network_weights(network: TaskNetwork, checkpoint: Path) -> None:
    """Load a checkpoint's weights into a network that was built from its configuration.

    Raises:
        PollinateError: names or shapes differ.
    """
    weights = read_checkpoint(checkpoint)["state_dict"]
    own = {
        k.removeprefix(NETWORK_PREFIX): value
        for k, value in weights.items()
        if k.startswith(NETWORK_PREFIX)
    }
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        raise PollinateError(
            f"the weights of {checkpoint} don't fit its configuration: {error}; "
            "use the version of pollinate that wrote it"
        ) from error


def blank_as_none(cell: Any) -> Any:
    """Return a raw value, None for a text, or pair of texts, of nothing but white space."""
    parts = cell if isinstance(cell, tuple) else (cell,)
    blank = all(p is None or (isinstance(p, str | bytes) and not p.strip()) for p in parts)
    return None if blank else cell


def rows_by_modalities(columns: Columns, length: int) -> dict[frozenset[str], list[int]]:
    """Return {modalities: the rows that have a value of just these}; none for empty rows."""
    found: dict[frozenset[str], list[int]] = {}
    for row in range(length):
        given = frozenset(name for name, values in columns.items() if values[row] is not None)
        if given:
            found.setdefault(given, []).append(row)
    return found


def text_length(columns: Columns, row: int) -> int:
    """Return the length of a row's texts, 0 if there are none."""
    return sum(len(str(cells[row])) for name, cells in columns.items() if is_textual(name))
