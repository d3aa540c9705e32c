"""All teachers of a run, kept outside its tree of modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from datamodules.mixed import MixedDataModule
from lightning_modules.transfer.base import Opener
from lightning_modules.transfer.source import Source
from lightning_modules.transfer.teachers.fitting import comparison_of, places_of
from lightning_modules.transfer.teachers.lesson import Course
from lightning_modules.transfer.teachers.model import ModelAtData
from lightning_modules.transfer.teachers.named import PEER, Named, require_task
from lightning_modules.transfer.teachers.reading import Inputs, require_inputs, what_it_reads
from lightning_modules.transfer.teachers.voice import OfModel, OfPeer, Voice
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.prediction.predictor import Predictor


class School:
    """Opens the teachers that are named, and checks that they can teach.

    Args:
        named: {task: its teachers}.
        inputs: {data set: {modality: column}} that teachers read and the run does not.
        temperature: at which several teachers' probabilities are averaged, > 0.
        data: this run's, set up.
        sources: opens models.

    Attributes:
        courses: {task: its teachers}.
        account: lines for the user: who teaches what.

    Raises:
        PollinateError: a teacher can't be had, or doesn't fit.
    """

    def __init__(
        self,
        named: Mapping[str, Sequence[Named]],
        inputs: Inputs,
        temperature: float,
        data: MixedDataModule,
        sources: Opener,
    ) -> None:
        self.data = data
        self.inputs = inputs
        self.sources = sources
        self.account: list[str] = []
        self.models: dict[tuple[str, str], ModelAtData] = {}  # {(source, data set): it}
        self._opened: dict[str, tuple[Source, Predictor]] = {}
        self.courses = {name: self._course(name, own, temperature) for name, own in named.items()}
        readable: dict[str, set[str]] = {}
        for model in self.models.values():
            readable.setdefault(model.dataset, set()).update(model.read)
            model.require_possible(data)
        require_inputs(inputs, data, readable)
        self._opened.clear()  # a model may be large

    def __deepcopy__(self, memo: Mapping[int, Any]) -> School:
        """Return itself: an average of the run's weights needs no teachers of its own."""
        return self

    def prepare(self, device: torch.device, say: Callable[[str], None]) -> None:
        """Compute what can be computed once."""
        for model in self.models.values():
            model.prepare(self.data, device, say)

    def _course(self, name: str, teachers: Sequence[Named], temperature: float) -> Course:
        """Return the teachers of a task."""
        spec = self.data.tasks[name]
        comparison = comparison_of(name, spec.task)
        voices = [dict(self._voices(name, teacher)) for teacher in teachers]
        for teacher, own in zip(teachers, voices, strict=True):
            of = "" if teacher.peer or teacher.task == name else f" ({teacher.task})"
            self.account.append(f"{name}: taught by {teacher.source}{of} on {', '.join(own)}")
        weights = [teacher.weight for teacher in teachers]
        return Course(name, comparison, spec.datasets, voices, weights, temperature)

    def _voices(self, name: str, teacher: Named) -> Iterator[tuple[str, Voice]]:
        return self._peers(name, teacher) if teacher.peer else self._models(name, teacher)

    def _peers(self, name: str, teacher: Named) -> Iterator[tuple[str, Voice]]:
        """Yield (data set, what another task of the run says)."""
        tasks, peer = self.data.tasks, teacher.source.removeprefix(PEER)
        require_task(f"transfer.teachers.{name}", peer, list(tasks))
        if peer == name:
            raise UsageError(f"transfer.teachers.{name}: a task can't teach itself; name another")
        known = {task: spec.task for task, spec in tasks.items()}
        places = places_of(name, known[name], Named(teacher.source, peer), known)
        both = [d for d in tasks[name].datasets if d in tasks[peer].datasets]
        if not both:
            raise UsageError(
                f"transfer.teachers.{name}: {peer} must have a data set of {name}, got "
                f"{', '.join(tasks[peer].datasets)} and {', '.join(tasks[name].datasets)}; add one "
                f"that both read: data.tasks.{peer}.unlabelled=[{tasks[name].datasets[0]}]"
            )
        yield from ((d, OfPeer(peer, d, tasks[peer].datasets, places)) for d in both)

    def _models(self, name: str, teacher: Named) -> Iterator[tuple[str, Voice]]:
        """Yield (data set, what a model says of its rows), for those that it can read."""
        source, predictor = self._open(teacher.source)
        spec = self.data.tasks[name]
        places = places_of(name, spec.task, teacher, predictor.tasks)
        trained = {d: predictor.inputs[d] for d in predictor.network.routes[teacher.task]}
        found = False
        for dataset in spec.datasets:
            given = self.inputs.get(dataset, {})
            read = what_it_reads(dataset, self.data.loaded[dataset], given, trained)
            if read:
                found, key = True, (teacher.source, dataset)
                model = self.models.setdefault(key, ModelAtData(source, dataset, read))
                model.read |= read
                yield dataset, OfModel(model, teacher.task, places)
        if not found:
            modalities = sorted({m for own in trained.values() for m in own})
            raise UsageError(
                f"{teacher.source} reads {' and '.join(modalities)} to answer {teacher.task}, and "
                f"{' and '.join(spec.datasets)} has none; name the column: transfer.inputs="
                f"{{{spec.datasets[0]}: {{{modalities[0]}: COLUMN}}}}"
            )

    def _open(self, what: str) -> tuple[Source, Predictor]:
        if what not in self._opened:
            source = self.sources.open(what)
            predictor = source.predictor()
            self._opened[what] = replace(source, load=lambda: predictor), predictor
        return self._opened[what]
