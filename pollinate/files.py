"""Files that are whole or not there, whatever stops their writer; tables as CSV."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def temporary_beside(path: Path) -> Path:
    """Return a name for what will take a file's or folder's place; a dead process' rest goes.

    The name says the process, so two that write the same target don't meet.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        number = left.name.removesuffix(".tmp").rpartition(".")[2]
        if number.isdecimal() and not is_alive(int(number)):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def is_alive(process: int) -> bool:
    """Say whether there is a process of this number, anybody's."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside the target; what is written there takes the target's place at the end.

    The target's folder is made if need be. After an error the target is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write a text file that survives a power cut.

    Args:
        path: of the file.
        text: what it will hold.
        private: whether only its owner may read it, since it may hold secrets.
    """
    with replacing(path) as temporary:
        mode = 0o600 if private else 0o666
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(number, "w", encoding="utf-8") as file:  # noqa: PTH123  # a descriptor
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def write_json(path: Path, content: Any, *, private: bool = False) -> None:
    """Write plain values; see ``write_text``."""
    write_text(path, json.dumps(content, indent=2) + "\n", private=private)


def as_yaml(content: Mapping[str, Any]) -> str:
    """Return plain values as OmegaConf writes them; texts with ``${`` are texts like others."""
    import yaml  # both take a moment
    from omegaconf._utils import get_omega_conf_dumper

    class Dumper(get_omega_conf_dumper()):  # type: ignore[misc]  # OmegaConf has no types for it
        def ignore_aliases(self, data: Any) -> bool:
            return True

    Dumper.add_representer(tuple, Dumper.represent_list)
    text: str = yaml.dump(
        dict(content), Dumper=Dumper, allow_unicode=True, default_flow_style=False, sort_keys=False
    )
    return text


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV; what isn't known (None) is empty, numbers have all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
