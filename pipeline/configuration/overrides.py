"""Sort the command line's ``group=option`` from its ``key=value``.

Hydra composes the groups. The values are set by us afterwards, so that nobody needs to know
when Hydra wants ``+`` or ``++``: a key that doesn't belong is found by the schema.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from pipeline.configuration.groups import NAMED_IN_DATA, find_option, groups, options
from pipeline.configuration.suggest import hint
from pipeline.errors import UsageError

ALLOW_TARGETS = "allow_targets"
STRUCTURE = re.compile(r"[{}\[\]\"',]|\$\{")  # a value that Hydra's grammar must read itself


@dataclass
class CommandLine:
    """The command line, sorted."""

    choices: dict[str, str | None] = field(default_factory=dict)  # {group: option}, the last wins
    deletions: list[str] = field(default_factory=list)  # ~key
    values: list[tuple[str, Any]] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)  # data/shop -> /home/ann/shop.yaml
    allow_targets: list[str] = field(default_factory=list)

    def for_hydra(self, defaults: Mapping[str, str | None]) -> list[str]:
        """Return the part that Hydra composes.

        ``defaults`` is the command's defaults list, {group: option}: Hydra wants ``+`` for other
        groups, and ``~`` to leave out an option that is in it.
        """
        chosen = [
            f"{'' if group in defaults else '+'}{group}={option}"
            for group, option in self.choices.items()
            if option is not None
        ]
        left_out = [
            f"~{group}"
            for group, option in self.choices.items()
            if option is None and defaults.get(group) is not None
        ]
        return [*chosen, *left_out, *self.deletions]


def sort_overrides(
    overrides: Sequence[str],
    folders: Sequence[Path],
    defaults: Collection[str],
    keys: Sequence[str],
) -> CommandLine:
    """Return the sorted command line.

    Args:
        overrides: ``group=option``, ``key=value`` or ``~key``.
        folders: where groups are looked for.
        defaults: the groups in the command's defaults list.
        keys: the plain keys of the command's own file; they win over a group of that name.

    Raises:
        UsageError: unreadable override, unknown group or option, or a file that isn't there.

    """
    line = CommandLine()
    for text in overrides:
        override = _parse(text)
        key = override.key_or_group
        value: Any = override.value()
        if override.is_delete():
            line.deletions.append(text)
        elif key == ALLOW_TARGETS:
            line.allow_targets = _packages(value)
        elif key not in keys and _is_group(key, folders, defaults) and _names_option(value):
            line.choices[key] = _choice(line, key, value, folders)
        else:
            line.values.append((key, value))
    return line


def _parse(text: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        key, equals, value = text.partition("=")
        # file names with ~, # or accents are not in Hydra's grammar, but mean what they say
        if not equals or STRUCTURE.search(value) or '"' in text:
            raise UsageError(_unreadable(text, error)) from error
        try:
            override = OverridesParser.create().parse_override(f'{key}="{value}"')
        except HydraException:
            raise UsageError(_unreadable(text, error)) from error
    if override.is_sweep_override():
        key, _, value = text.partition("=")
        raise UsageError(
            f"{key} takes one value, got {value}; write a list as '{key}=[a,b]', or quote a value "
            f"with commas or parentheses: {key}='\"{value}\"'"
        )
    return override


def _unreadable(text: str, error: HydraException) -> str:
    if "=" not in text:
        return f"expected key=value or group=option, got {text!r}"
    return f"can't read {text!r}: {str(error).splitlines()[0]}; quote the value"


def _packages(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value
    good = isinstance(names, list) and all(
        isinstance(name, str) and all(part.isidentifier() for part in name.split("."))
        for name in names
    )
    if not good:
        raise UsageError(f"allow_targets must be a list of packages such as [my_pkg], got {value}")
    return list(names)


def _is_group(key: str, folders: Sequence[Path], defaults: Collection[str]) -> bool:
    if key in NAMED_IN_DATA:
        raise UsageError(f"{key} is not a key of its own; set {NAMED_IN_DATA[key]}=OPTION")
    if key in defaults or options(key, folders):
        return True
    if "/" in key:
        known = groups(folders)
        raise UsageError(f"{key} is not a group of configs{hint(key, known, 'groups')}")
    return False


def _names_option(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _choice(
    line: CommandLine, group: str, value: str | None, folders: Sequence[Path]
) -> str | None:
    """Return the option's name, null for none; a file by its path becomes an option."""
    if value is None:
        return None
    if value.endswith((".yaml", ".yml")):
        file = Path(value).expanduser().resolve()
        if not file.is_file():
            raise UsageError(f"{group}={value}: there is no config file {file}")
        # a word in Hydra's grammar, whatever the file is called: nan.yaml, 1.yaml
        name = f"file_{re.sub('[^A-Za-z0-9_]', '_', file.stem)}"
        line.files[f"{group}/{name}"] = file
        return name
    if find_option(group, value, folders) is None:
        known = options(group, folders)
        raise UsageError(f"{group} has no option {value!r}{hint(value, known, 'options')}")
    return value
