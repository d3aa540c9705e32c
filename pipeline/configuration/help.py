"""The ``--help`` page, made from the YAML files and docstrings; needs no YAML parser."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from pipeline.configuration.groups import (
    FLAGS,
    NAMED_IN_DATA,
    SHIPPED,
    find_option,
    groups,
    options,
    search_folders,
)
from pollinate.program import shell_command

DEFAULT = re.compile(r"^  - (?P<group>[\w/]+): (?P<option>\w+)", re.MULTILINE)
SUMMARY = re.compile(r'"""(?P<text>.*?)(?:"""|$)', re.MULTILINE)  # a docstring's first line
BELOW = re.compile(r"^  - (?P<command>[a-z]+)$", re.MULTILINE)  # a command's file it builds on


def help_text(command: str, config_dirs: Sequence[Path] = ()) -> str:
    """Return the help page of a command."""
    folders = search_folders(config_dirs)
    text = (SHIPPED / f"{command}.yaml").read_text(encoding="utf-8")
    first = leading_comment(text)
    for match in BELOW.finditer(text):
        below = (SHIPPED / f"{match['command']}.yaml").read_text(encoding="utf-8")
        text = f"{text}\n# as for {match['command']}\n{below}"
    chosen = {match["group"]: match["option"] for match in DEFAULT.finditer(text)}
    sections = [
        f"{shell_command(command)} [group=option] [group=file.yaml] [key=value] [flags]\n\n"
        f"{commands().get(command) or first}",
        section("Flags", table(FLAGS)),
        section("Keys and their defaults", _keys(text)),
    ]
    if chosen:
        others = set(_chosen_elsewhere(chosen))
        lines = _groups(chosen, others, folders)
        sections.append(section("Groups and their options (* default)", lines))
    sections.append(section("Commands", table(_other_commands())))
    return "\n\n".join(sections) + "\n"


@cache
def commands() -> Mapping[str, str]:
    """Return {command: its docstring's first line} of all files here that define ``run``."""
    found = {}
    for file in sorted(Path(__file__).parents[1].glob("*.py")):
        source = file.read_text(encoding="utf-8")
        if "\ndef run(" in source:
            summary = SUMMARY.match(source)
            found[file.stem] = summary["text"] if summary else ""
    return found


def leading_comment(text: str) -> str:
    """Return the comment that a YAML file begins with, after any @package line, or nothing."""
    lines = (line for line in text.splitlines() if "@package" not in line)
    first = next(lines, "")
    return first.lstrip("# ") if first.startswith("#") else ""


def _other_commands() -> dict[str, str]:
    return {shell_command(name): summary for name, summary in commands().items()}


def section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *(f"  {line}".rstrip() for line in lines)])


def table(rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows), default=0)
    return [f"{name:{width}}  {text}" for name, text in rows.items()]


def _keys(text: str) -> list[str]:
    """Return the YAML file's own keys with their comments, without its defaults list."""
    lines = text.splitlines()
    kept = [line for line in lines if not line.startswith(("#", "defaults:", "  - "))]
    return "\n".join(kept).strip().splitlines()


def _chosen_elsewhere(chosen: dict[str, str]) -> Iterator[str]:
    """Yield the groups of other commands alone; without data also those that data name."""
    for file in SHIPPED.glob("*.yaml"):
        for match in DEFAULT.finditer(file.read_text(encoding="utf-8")):
            if match["group"] not in chosen:
                yield match["group"]
    if "data" not in chosen:
        yield from NAMED_IN_DATA


def _groups(chosen: dict[str, str], others: Collection[str], folders: Sequence[Path]) -> list[str]:
    lines = []
    for group in groups(folders):
        if group in others:
            continue
        where = f" ({NAMED_IN_DATA[group]})" if group in NAMED_IN_DATA else ""
        rows = {
            f"{'*' if chosen.get(group) == name else ' '} {name}": _summary(group, name, folders)
            for name in options(group, folders)
        }
        lines += [f"{group}{where}", *table(rows)]
    return lines


def _summary(group: str, name: str, folders: Sequence[Path]) -> str:
    file = find_option(group, name, folders)
    return leading_comment(file.read_text(encoding="utf-8")) if file else ""
