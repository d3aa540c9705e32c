"""The adapters of a checkpoint, for other libraries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lightning_modules.encoders.base import Encoder
from lightning_modules.encoders.places import public_name
from lightning_modules.encoders.pretrained import PretrainedEncoder
from lightning_modules.tuning.base import NO_ADAPTERS, Tuning
from pipeline.errors import UsageError
from pipeline.prediction.predictor import Predictor


@dataclass(frozen=True)
class Adapted:
    """An encoder with adapters, and the task as which it is taken."""

    encoder: Encoder
    tuning: Tuning
    modality: str
    task: str

    @property
    def whose(self) -> str:
        """Return whose adapters they are, for messages."""
        return "all tasks" if self.encoder.routing is None else self.task


def find_adapted(predictor: Predictor, task: str | None, modality: str | None) -> Adapted:
    """Return the encoder that is meant.

    Raises:
        UsageError: there are no adapters, several encoders have some, each task has its own and
            none is named, or there is no such task or encoder.
    """
    network = predictor.network
    if task is not None:
        predictor.check_task(task)
    known = {name: t for name, t in network.tunings.items() if t.adapts}
    if not known:
        raise UsageError(NO_ADAPTERS)
    if modality is None and len(known) > 1:
        raise UsageError(
            f"{' and '.join(known)} have adapters; say whose: modality={next(iter(known))}"
        )
    chosen = modality or next(iter(known))
    if chosen not in known:
        raise UsageError(f"modality must be one with adapters, {' or '.join(known)}, got {chosen}")
    readers = reading(predictor, chosen)
    if task is None and network.encoder(chosen).routing is not None:
        raise UsageError(
            f"each task has adapters of its own; say whose: task={' or task='.join(readers)}"
        )
    if task is not None and task not in readers:
        raise UsageError(
            f"task {task} reads no {chosen}, which the adapters are of; those that do are "
            f"{', '.join(readers)}"
        )
    return Adapted(network.encoder(chosen), known[chosen], chosen, task or readers[0])


def reading(predictor: Predictor, modality: str) -> list[str]:
    """Return the tasks that read a modality."""
    return [t for t in predictor.tasks if any(modality in m for m in predictor.modalities_of(t))]


def write_adapter(found: Adapted, folder: Path) -> str:
    """Write the adapter as peft does; return what was written."""
    adapter = found.tuning.adapter(found.encoder, found.task)
    encoder = found.encoder
    base = public_name(encoder.model) if isinstance(encoder, PretrainedEncoder) else None
    adapter.write(folder, base)
    return (
        f"adapter of {found.whose} for encoder.{found.modality}, rank {adapter.rank} on "
        f"{len(adapter.layers)} layers, for peft.PeftModel.from_pretrained"
    )


def write_merged(found: Adapted, folder: Path) -> str:
    """Write the backbone with the adapter in its weights; return what was written.

    Raises:
        UsageError: the encoder is none of another library's.
        PollinateError: the backbone is only a part of a model.
    """
    if not isinstance(found.encoder, PretrainedEncoder):
        raise UsageError(
            f"encoder.{found.modality} is no model of another library, in whose format it could be "
            "written; write the adapter alone: merge=false"
        )
    found.encoder.save(folder, found.tuning.merged(found.encoder, found.task))
    return f"encoder.{found.modality} with the adapter of {found.whose} in its weights"
