"""Files that are whole or not there, whatever stops their writer; tables as CSV."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pollinate.errors import UsageError


def temporary_beside(path: Path) -> Path:
    """Return a name for what will take a file's or folder's place; a dead process' rest goes.

    The name says the process, so two that write the same target don't meet, and is one that nobody
    can have made before.
    """
    for left in path.parent.glob(f".{glob.escape(path.name[:100])}.*.tmp"):
        number = left.name.removesuffix(".tmp").rpartition(".")[2]
        if number.isdecimal() and not is_alive(int(number)):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.{os.getpid()}.tmp")


def name_without_temporary(name: str) -> str:
    """Return the name whose place a temporary one was to take, or the name if it is no such one."""
    found = re.fullmatch(r"\.(.+)\.[0-9a-f]{16}\.\d+\.tmp", name)
    return found[1] if found else name


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
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Give a path beside the target; what is written there takes the target's place at the end.

    The target's folder is made if need be. After an error the target is as it was.

    Args:
        path: the target.
        private: whether only its owner may read it, since it may hold secrets.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    mode = 0o600 if private else 0o666
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write a text file that survives a power cut; for ``private`` see ``replacing``."""
    with (
        replacing(path, private=private) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def open_own(path: Path, flags: int) -> int:
    """Open a file that is to be written in place, never what a link of its name leads to.

    A second name of the same content (a hard link) gets a copy of its own first.

    Raises:
        OSError: it can't be opened, or is a link.
    """
    if path.is_file() and not path.is_symlink() and path.stat().st_nlink > 1:
        with replacing(path) as temporary:
            shutil.copyfile(path, temporary)
    return os.open(path, flags | NO_LINKS, 0o644)


def refuse_links(folder: Path, patterns: Sequence[str] = ("*",)) -> None:
    """Check that a folder in which will be written holds files and folders only.

    A link in a stranger's folder may lead to any file of the user's.

    Args:
        folder: itself may be reached by a link, as the user named it.
        patterns: of its entries that matter; all that is inside them does.

    Raises:
        UsageError: a link, a pipe or a device is among them.
    """
    wanted = [path for pattern in patterns for path in folder.glob(pattern)]
    while wanted:
        path = wanted.pop()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            kind = f"a link to {path.readlink()}" if path.is_symlink() else "no regular file"
            raise UsageError(
                f"{path} is {kind}; nothing is written through links: put the file itself there, "
                "or remove it"
            )
        if path.is_dir():
            wanted += path.iterdir()


def path_inside(folder: Path, name: object) -> Path:
    """Return the path of what a file calls ``name``, which must lie in the folder, behind no link.

    Raises:
        ValueError: it lies elsewhere, or there are links on the way or in it.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"{name!r:.80} names no file")
    place = Path(os.path.normpath(name))
    if place.is_absolute() or place.parts[:1] == ("..",):
        raise ValueError(f"{name!r:.80} is not in {folder}")
    path = folder
    for part in place.parts:
        path /= part
        if path.is_symlink():
            raise ValueError(f"{path} is a link")
    try:
        refuse_links(path.parent, [glob.escape(path.name)])
    except UsageError as error:
        raise ValueError(str(error)) from error
    return path


def write_json(path: Path, content: Any, *, private: bool = False) -> None:
    """Write plain values; see ``write_text`` and ``json_text``."""
    write_text(path, json_text(content) + "\n", private=private)


def json_text(
    content: Any, indent: int | None = 2, default: Callable[[Any], Any] | None = None
) -> str:
    """Return plain values as strict JSON, which has no number for NaN and infinity: null.

    Args:
        content: the values.
        indent: spaces for each depth; None: all in one line.
        default: what to write for a value that isn't plain; None: that is an error.
    """
    plain = without_nonfinite(content)
    text = json.dumps(plain, indent=indent, ensure_ascii=False, allow_nan=False, default=default)
    return text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair: its escape


def without_nonfinite(value: Any) -> Any:
    """Return plain values with None for each number that isn't finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nonfinite(item) for item in value]
    return value


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


LONGEST_NAME = 120  # bytes of a file's name, without its ending; 255 with it is what disks allow


def file_name(name: str) -> str:
    """Return a name that every file system takes; another name gives another one.

    What isn't a letter, a digit, "_", "-", "." or a space becomes "_"; such a name, or one that is
    too long, ends in a digest.
    """
    plain = re.sub(r"[^\w\-. ]", "_", name)
    short = plain.encode()[:LONGEST_NAME].decode(errors="ignore")
    if short == name:
        return name
    return f"{short}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV; what isn't known (None) is empty, numbers have all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
