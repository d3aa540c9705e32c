"""What Python gives, as the command line says it: values, and data that no file holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

from pollinate.errors import UsageError
from pollinate.files import as_yaml
from pollinate.recipes import plain

KEPT_DATA = Path("runs", "data")  # files that commands in a study's report still name
SIMPLE = re.compile(r"[\w./-]*[./][\w./-]*[A-Za-z_/-]")  # a name or a path that needs no quotes


def override(key: str, value: Any) -> str:
    """Return ``key=value``.

    Args:
        key: ``seeds``, ``optimizer.lr``, ...
        value: None, a number, a text, a path, or a list or dict of these.
    """
    text = str(value) if isinstance(value, str | PurePath) else ""
    return f"{key}={text if SIMPLE.fullmatch(text) else value_text(value)}"


def overrides_of(**values: Any) -> list[str]:
    return [override(key, value) for key, value in values.items()]


def value_text(value: Any) -> str:
    """Return a value in Hydra's grammar; a text is always in quotes."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{value_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(value_text, value)) + "]"
    # a backslash means itself unless a quote follows
    escaped = re.sub(r'(\\*)("|$)', lambda m: 2 * m[1] + ('\\"' if m[2] else ""), str(value))
    return f'"{escaped}"'


@contextmanager
def data_override(
    data: str | Path | Mapping[str, Any] | None, *, for_later: bool
) -> Iterator[list[str]]:
    """Yield the override that names the data, none for None.

    Args:
        data: a file, the name of an option, or what a file would hold; paths in that are relative
            to the current folder.
        for_later: whether a file that is made must outlast the block.
    """
    if not isinstance(data, Mapping):
        yield [] if data is None else [override("data", data)]
        return
    content = data_yaml(data)
    with TemporaryDirectory(prefix="pollinate-") as temporary:
        name = sha256(content.encode()).hexdigest()[:12] if for_later else "data"
        file = (KEPT_DATA.absolute() if for_later else Path(temporary)) / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
        yield [override("data", file)]


def data_yaml(data: Mapping[str, Any]) -> str:
    """Return the content of a data file, with absolute paths."""
    from pipeline.configuration.composition import absolute_paths  # takes a moment

    try:
        values = absolute_paths(plain(data, "data"), Path.cwd())
    except UsageError as error:
        raise UsageError(
            f"{error}; rows that Python holds go into po.MixedDataModule, files are named here"
        ) from error
    return as_yaml(values)
