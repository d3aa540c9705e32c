"""Reads what a stranger may have written: plain values only, and not more than a file should hold.

Nine lines of YAML can stand for more values than memory has, and brackets can be nested until a
reader gives up. What is read here is bounded in size, depth and number of values, and a file that
goes beyond is refused in one line.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

MOST_BYTES = 16 << 20  # of a file of settings; data have no limit
MOST_VALUES = 200_000  # of such a file, with all that its aliases stand for
MOST_DEPTH = 64  # lists and mappings inside each other


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Return a regular file's text.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        OSError: it isn't there, or may not be read.
        ValueError: it is a pipe or a device, too large, or no UTF-8.
    """
    # a pipe would be waited for: it is looked at before anything is read
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(file, "rb") as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path} is no regular file")
        if found.st_size > most:
            raise ValueError(f"{path} has {found.st_size:,} bytes, at most {most:,} are read")
        return stream.read(most).decode("utf-8").replace("\r\n", "\n")


def parse_json(text: str | bytes, most: int = MOST_VALUES) -> Any:
    """Return the value that JSON stands for.

    Raises:
        ValueError: it is no JSON, nested too deep, or holds too many values.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"it is nested more than {MOST_DEPTH} deep") from error
    check_extent(found, most)
    return found


def read_json(path: Path, most: int = MOST_VALUES) -> Any:
    """Return the value in a JSON file; see ``read_text`` and ``parse_json``."""
    return parse_json(read_text(path), most)


def check_extent(tree: Any, most: int = MOST_VALUES) -> None:
    """Check how deep and how large nested containers are; what is there twice counts twice.

    A container that holds itself is too deep.

    Raises:
        ValueError: too deep, or too large.
    """
    count, open_ones = 0, [iter((tree,))]
    while open_ones:
        inner = next((part for value in open_ones[-1] if (part := _parts(value)) is not None), None)
        if inner is None:
            open_ones.pop()
            continue
        count += len(inner)
        if count > most:
            raise ValueError(f"it holds more than {most:,} values")
        if len(open_ones) > MOST_DEPTH:
            raise ValueError(f"it is nested more than {MOST_DEPTH} deep")
        open_ones.append(iter(inner))


def _parts(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple | set | frozenset) else None


# a file says what its values are by how they are written; other tags stand for Python's objects
TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "!")


@cache
def _loader() -> type[Any]:
    """Return OmegaConf's reader of YAML, which knows when there is too much."""
    import yaml  # both take a moment
    from omegaconf._utils import get_yaml_loader

    class Loader(get_yaml_loader()):  # type: ignore[misc]  # OmegaConf has no types for it
        def __init__(self, text: str) -> None:
            super().__init__(text)
            self.depth = self.count = 0
            self.sizes: dict[int, int] = {}  # of complete nodes, with all that they stand for

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            if isinstance(event, yaml.AliasEvent):
                node = super().compose_node(parent, index)
                if id(node) not in self.sizes:
                    self.refuse(f"*{event.anchor} stands inside what it stands for", event)
                self.count += self.sizes[id(node)]
                self.check(event)
                return node
            if getattr(event, "tag", None) not in (None, *TAGS):
                self.refuse(f"the tag {event.tag} is not read; write a plain value", event)
            before = self.count
            self.count, self.depth = self.count + 1, self.depth + 1
            self.check(event)
            node = super().compose_node(parent, index)
            self.depth -= 1
            self.sizes[id(node)] = self.count - before
            return node

        def check(self, event: Any) -> None:
            if self.depth > MOST_DEPTH:
                self.refuse(f"nested more than {MOST_DEPTH} deep", event)
            if self.count > MOST_VALUES:
                self.refuse(f"more than {MOST_VALUES:,} values, with what aliases stand for", event)

        def refuse(self, problem: str, event: Any) -> None:
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)

    return Loader


def parse_yaml(text: str) -> Any:
    """Return the plain value that YAML stands for, as OmegaConf reads it; None of an empty text.

    Raises:
        yaml.YAMLError: it is no YAML, or too much; ValueError: a number has too many digits.
    """
    loader = _loader()(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def texts_in(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, text) of all texts among plain containers."""
    if isinstance(tree, str):
        yield path, tree
    items: Iterable[tuple[Any, Any]] = tree.items() if isinstance(tree, Mapping) else ()
    if isinstance(tree, list | tuple):
        items = enumerate(tree)
    for key, value in items:
        yield from texts_in(value, f"{path}.{key}" if path else str(key))
