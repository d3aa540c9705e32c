"""Writes the adapters of a checkpoint for other libraries, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.prompts import PROMPT
from lightning_modules.encoders.base import Encoder, PretrainedEncoder
from lightning_modules.encoders.pretrained_files import public_name
from lightning_modules.predictor import Predictor
from lightning_modules.tuning.base import NO_ADAPTERS, Tuning
from lightning_modules.tuning.full import Full
from lightning_modules.views import TEXT
from pollinate.errors import PollinateError, UsageError
from pollinate.files import temporary_beside

LENGTH = "max_new_tokens"


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
            if file.is_dir():
                shutil.rmtree(folder / file.name, ignore_errors=True)
            file.replace(folder / file.name)
    except OSError as error:
        raise PollinateError(
            f"output {folder} can't be written: {error.strerror or error}; choose another"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class AdaptedEncoder:
    """An encoder with or without adapters, and the task as which it is taken.

    options: how its answers are written; see ``PretrainedEncoder.save_companions``.
    """

    encoder: Encoder
    tuning: Tuning
    modality: str
    task: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def whose(self) -> str:
        return "all tasks" if self.encoder.routing is None else self.task


def find_adapted_encoders(
    predictor: Predictor, task: str | None, modality: str | None, merge: bool = False
) -> list[AdaptedEncoder]:
    """Return the encoder that is meant, once for each task that has adapters of its own.

    Args:
        predictor: of the checkpoint.
        task: None: all, where each has its own.
        modality: None: the only one.
        merge: whether the whole encoder is written, so that it need have no adapters.
    """
    network = predictor.single_network
    if task is not None:
        predictor.check_task(task)
    known = {name: t for name, t in network.tunings.items() if t.adapts}
    if not known and merge:
        known = {name: network.tunings.get(name, Full()) for name in network.encoders}
    if not known:
        raise UsageError(f"{NO_ADAPTERS}; merge=true writes the whole encoder")
    if modality is None and len(known) > 1:
        raise UsageError(
            f"there are encoders of {' and '.join(known)}; say whose: modality={next(iter(known))}"
        )
    chosen = modality or next(iter(known))
    if chosen not in known:
        raise UsageError(f"modality must be one with adapters, {' or '.join(known)}, got {chosen}")
    readers = tasks_of_modality(predictor, chosen)
    if task is not None and task not in readers:
        raise UsageError(
            f"task {task} reads no {chosen}, which the adapters are of; those that do are "
            f"{', '.join(readers)}"
        )
    encoder = network.encoder(chosen)
    if task is None and encoder.routing is None:
        options = common_options([predictor.tasks[name].writing_options() for name in readers])
        return [AdaptedEncoder(encoder, known[chosen], chosen, readers[0], options)]
    return [
        AdaptedEncoder(
            encoder, known[chosen], chosen, name, predictor.tasks[name].writing_options()
        )
        for name in ([task] if task is not None else readers)
    ]


def common_options(options: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the options that all tasks that write have alike, and the longest answer of them."""
    written = [one for one in options if one]
    if not written:
        return {}
    common = {k: v for k, v in written[0].items() if all(o.get(k) == v for o in written)}
    return {**common, LENGTH: max(one[LENGTH] for one in written)}


def tasks_of_modality(predictor: Predictor, modality: str) -> list[str]:
    """Return the tasks that an encoder's rows are of; prompts are texts."""
    return [
        task
        for task in predictor.tasks
        if any(
            modality == (TEXT if name.startswith(PROMPT) else name)
            for names in predictor.modalities_of(task)
            for name in names
        )
    ]


def write_encoders(found: Sequence[AdaptedEncoder], folder: Path, merge: bool) -> list[str]:
    """Write one encoder into a folder, several into folders named by their tasks.

    Returns:
        what was written, a line each.
    """
    write = write_merged if merge else write_adapter
    if len(found) == 1:
        return [write(found[0], folder)]
    lines = []
    for one in found:
        (folder / one.task).mkdir()
        lines.append(write(one, folder / one.task))
    return lines


def write_adapter(found: AdaptedEncoder, folder: Path) -> str:
    """Write the adapter as peft does; return what was written."""
    adapter = found.tuning.adapter(found.encoder, found.task)
    encoder, loader = found.encoder, "peft.PeftModel.from_pretrained"
    if isinstance(encoder, PretrainedEncoder):
        adapter.write(folder, public_name(encoder.model), encoder.peft_task)
        encoder.save_companions(folder, found.options)
    else:
        adapter.write(folder, None)
    return (
        f"adapter of {found.whose} for encoder.{found.modality}, rank {adapter.rank} on "
        f"{len(adapter.layers)} layers, for {loader}"
    )


def write_merged(found: AdaptedEncoder, folder: Path) -> str:
    """Write the backbone with the adapter, if there is one, in its weights.

    Returns:
        what was written.

    Raises:
        UsageError: the encoder is none of another library's.
        PollinateError: the backbone is only a part of a model.
    """
    encoder, tuning = found.encoder, found.tuning
    if not isinstance(encoder, PretrainedEncoder):
        raise UsageError(
            f"encoder.{found.modality} is no model of another library, in whose format it could be "
            "written; write the adapter alone: merge=false"
        )
    weights = (
        tuning.merged(encoder, found.task) if tuning.adapts else encoder.tuned_part().state_dict()
    )
    encoder.save(folder, weights)
    encoder.save_companions(folder, found.options)
    with_adapter = f" with the adapter of {found.whose} in its weights" if tuning.adapts else ""
    return f"encoder.{found.modality}{with_adapter}"
