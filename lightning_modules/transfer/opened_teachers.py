"""Teachers that are opened: runs of this project, and language models that no run has trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace

from torch import nn

from datamodules.inputs import InputColumns
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.text import TextModality
from lightning_modules.encoders.language_model import LanguageModel
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.predictor import Predictor
from lightning_modules.source_models import SourceModel, SourceProvider
from lightning_modules.tasks.base import Task
from lightning_modules.transfer.teacher_outputs import TeacherColumns, TeacherInput, teacher_inputs
from lightning_modules.trunks.shared import SharedTrunk
from lightning_modules.views import TEXT
from pollinate.errors import UsageError

UNUSED_WIDTH = 1  # of a projection that isn't used


class OpenedTeachers:
    """Opens each teacher once.

    Args:
        sources: opens models.
    """

    def __init__(self, sources: SourceProvider) -> None:
        self.sources = sources
        self._opened: dict[str, tuple[SourceModel, Predictor]] = {}
        self._writers: dict[str, LanguageModel] = {}

    def open(self, what: str, there: str, task: Task) -> tuple[SourceModel, Predictor]:
        """Return a teacher, and what answers for it.

        Args:
            what: a source.
            there: the teacher's name for the task that it teaches.
            task: that it teaches; a language model that no run has trained is asked as this is.

        Raises:
            PollinateError: it can't be had.
            UsageError: it is another library's model that doesn't write.
        """
        if what in self._opened:
            return self._opened[what]
        source = self.sources.open(what)
        if source.spec is None and task.prompt is not None:
            if source.name not in self._writers:
                self._writers[source.name] = opened_writer(source.name)
            own = asking_predictor(self._writers[source.name], there, task)
            # what it is built from is its own folder's matter
            return replace(source, spec={"learnt": {}}, load=lambda: own), own
        predictor = source.predictor()
        self._opened[what] = replace(source, load=lambda: predictor), predictor
        return self._opened[what]

    def forget(self) -> None:
        """Let go of them: a model may be large."""
        self._opened.clear()
        self._writers.clear()


def opened_writer(model: str) -> LanguageModel:
    """Return a language model with its weights.

    Args:
        model: a folder, a file of the format GGUF, or an id of the hub.
    """
    found = LanguageModel(0, UNUSED_WIDTH, model)
    found.load()
    return found


def asking_predictor(writer: LanguageModel, name: str, task: Task) -> Predictor:
    """Return what a language model answers to a task's own prompts, without any training.

    Args:
        writer: with its weights.
        name: of the task.
        task: that answers in words; its form of answers is taken, in the model's own tokens.
    """
    own = deepcopy(task)
    own.longest_answer = 0  # it was counted in other tokens
    route = {name: task.datasets}
    network = MultiTaskNetwork(
        {TEXT: writer},
        SharedTrunk([], UNUSED_WIDTH, depth=0),
        {name: nn.Identity()},
        route,
        views={name: own.view},
    )
    text = TextModality(assets=writer.known)
    found = Predictor(network, {name: own}, {TEXT: text}, {d: {} for d in task.datasets})
    own.use_codec(found.prompt_modality(name))
    return found


def readable_datasets(
    data: MixedDataModule,
    datasets: Sequence[str],
    inputs: TeacherColumns,
    source: str,
    there: str,
    predictor: Predictor,
) -> Iterator[tuple[str, dict[str, TeacherInput]]]:
    """Yield (data set, {modality: what a teacher reads of it}), of those that it can read.

    Args:
        data: this run's, set up.
        datasets: of the task that is taught.
        inputs: {data set: {modality: column}} of the user.
        source: the teacher, as it was named; there: its task.
        predictor: that answers for it.

    Raises:
        UsageError: it can read none, or a column isn't there.
    """
    trained: dict[str, dict[str, InputColumns]] = {}
    for name in predictor.network.routes[there]:
        reads = predictor.read_by(there, name)
        trained[name] = {m: c for m, c in predictor.inputs[name].items() if m in reads}
    found = False
    for name in datasets:
        read = teacher_inputs(name, data.loaded[name], inputs.get(name, {}), trained)
        if read:
            found = True
            yield name, read
    if not found:
        modalities = sorted({m for own in trained.values() for m in own})
        raise UsageError(
            f"{source} reads {' and '.join(modalities)} to answer {there}, and "
            f"{' and '.join(datasets)} has none; name the column: transfer.inputs="
            f"{{{datasets[0]}: {{{modalities[0]}: COLUMN}}}}"
        )
