"""Writes the adapters of a checkpoint for other libraries, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lightning_modules.encoders.base import Encoder, PretrainedEncoder
from lightning_modules.encoders.pretrained_files import public_name
from lightning_modules.predictor import Predictor
from lightning_modules.tuning.base import NO_ADAPTERS, Tuning
from pollinate.errors import PollinateError, UsageError
from pollinate.files import temporary_beside


def check_output_folder(folder: Path, overwrite: bool) -> None:
    """Check that nothing would be overwritten unasked."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output must be a folder, got the file {folder}; choose another")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UsageError(
            f"output must be a new or empty folder, got {folder}, which holds files; choose "
            "another, or write over them: overwrite=true"
        )


@contextmanager
def fill_atomically(folder: Path) -> Iterator[Path]:
    """Give a folder to fill; its files come to their place, over older ones, when all are whole."""
    partial = temporary_beside(folder)
    try:
        partial.mkdir(parents=True)
        yield partial
        folder.mkdir(exist_ok=True)
        for file in partial.iterdir():
            file.replace(folder / file.name)
    except OSError as error:
        raise PollinateError(
            f"output {folder} can't be written: {error.strerror or error}; choose another"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class AdaptedEncoder:
    """An encoder with adapters, and the task as which it is taken."""

    encoder: Encoder
    tuning: Tuning
    modality: str
    task: str

    @property
    def whose(self) -> str:
        return "all tasks" if self.encoder.routing is None else self.task


def find_adapted_encoder(
    predictor: Predictor, task: str | None, modality: str | None
) -> AdaptedEncoder:
    """Return the encoder that is meant."""
    network = predictor.single_network
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
    readers = tasks_reading_modality(predictor, chosen)
    if task is None and network.encoder(chosen).routing is not None:
        raise UsageError(
            f"each task has its own adapters; say which: task={' or task='.join(readers)}"
        )
    if task is not None and task not in readers:
        raise UsageError(
            f"task {task} reads no {chosen}, which the adapters are of; those that do are "
            f"{', '.join(readers)}"
        )
    return AdaptedEncoder(network.encoder(chosen), known[chosen], chosen, task or readers[0])


def tasks_reading_modality(predictor: Predictor, modality: str) -> list[str]:
    return [t for t in predictor.tasks if any(modality in m for m in predictor.modalities_of(t))]


def write_adapter(found: AdaptedEncoder, folder: Path) -> str:
    """Write the adapter as peft does; return what was written."""
    adapter = found.tuning.adapter(found.encoder, found.task)
    encoder = found.encoder
    base = public_name(encoder.model) if isinstance(encoder, PretrainedEncoder) else None
    adapter.write(folder, base)
    return (
        f"adapter of {found.whose} for encoder.{found.modality}, rank {adapter.rank} on "
        f"{len(adapter.layers)} layers, for peft.PeftModel.from_pretrained"
    )


def write_merged(found: AdaptedEncoder, folder: Path) -> str:
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
