"""Answers that are pictures: a folder a task, beside the output."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lightning_modules.tasks.base import Label, Task
from pipeline.errors import PollinateError, UsageError


class AnswerFiles:
    """Writes each answer that is a picture into ``OUTPUT-TASK/ROW.png``.

    Args:
        output: the table of answers.
        tasks: {name: task}, those that are answered.
    """

    def __init__(self, output: Path, tasks: Mapping[str, Task]) -> None:
        self.tasks = {name: task for name, task in tasks.items() if task.maps is not None}
        self.folders = {
            name: output.with_name(f"{output.stem}-{name}").absolute() for name in self.tasks
        }
        self.temporary = {
            name: folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
            for name, folder in self.folders.items()
        }

    def check(self, overwrite: bool) -> None:
        """Check that no folder has anything in it.

        Raises:
            UsageError: one has, and may not be written to.
        """
        for folder in self.folders.values():
            if folder.exists() and not folder.is_dir():
                raise UsageError(f"{folder} must be a folder, it is a file; choose another output")
            if folder.exists() and any(folder.iterdir()) and not overwrite:
                raise UsageError(
                    f"the folder {folder} is there already; choose another output, or "
                    "overwrite=true, which replaces pictures of the same name in it"
                )

    def keep(self, task: str, row: int, answer: Label | None) -> dict[str, str]:
        """Write an answer; return {task: its path, relative to the output's folder}, or nothing.

        Args:
            task: its name.
            row: counted from 1.
            answer: None if there is none.
        """
        content = self.tasks[task].file(answer or {}) if task in self.tasks else None
        if content is None:
            return {}
        name = f"{row:06}.png"
        (self.temporary[task] / name).write_bytes(content)
        return {task: f"{self.folders[task].name}/{name}"}


@contextmanager
def answer_files(output: Path, tasks: Mapping[str, Task], overwrite: bool) -> Iterator[AnswerFiles]:
    """Write pictures beside their folders, and move them there at the end if nothing fails.

    Raises:
        UsageError: a folder is there already.
        PollinateError: one can't be written, on a full disk say.
    """
    files = AnswerFiles(output, tasks)
    files.check(overwrite)
    try:
        for folder in files.temporary.values():
            folder.mkdir()
        yield files
        for name, folder in files.folders.items():
            folder.mkdir(exist_ok=True)
            for picture in files.temporary[name].iterdir():
                picture.replace(folder / picture.name)
    except OSError as error:
        raise PollinateError(
            f"the pictures of {output} can't be written: {error.strerror or error}; make room or "
            "choose another folder"
        ) from error
    finally:
        for folder in files.temporary.values():
            shutil.rmtree(folder, ignore_errors=True)
