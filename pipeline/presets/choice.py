"""Options that a preset chooses, and why; what the user said already stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pollinate.overrides import override

REPLACED = {"trainer.max_steps": "trainer.max_epochs", "trainer.max_time": "trainer.max_epochs"}


@dataclass(frozen=True)
class Choice:
    """Options that go together, {key: value} as on the command line, and the reason for them.

    Without options it is a note.
    """

    options: Mapping[str, Any]
    why: str

    @property
    def overrides(self) -> list[str]:
        """The options as on the command line."""
        return [override(key, value) for key, value in self.options.items()]

    def line(self) -> str:
        """Return it for people."""
        return f"{' '.join(self.overrides)}  ({self.why})" if self.options else self.why


def open_choices(
    choices: Iterable[Choice],
    given: Sequence[str],
    config: Mapping[str, Any],
    usual: Mapping[str, Any],
) -> Iterator[Choice]:
    """Yield choices without the options that the user chose.

    These are what stands on the command line, with all that is inside of it, and what a file or an
    experiment set to something else than it usually is. Options of a part that a preset chooses,
    ``encoder.text.tune`` of ``encoder/text``, leave the choice of the part open.

    Args:
        choices: of a preset.
        given: keys on the command line.
        config: composed without the preset.
        usual: composed of nothing but defaults.
    """
    said = [key.replace("/", ".") for key in given if key != "data"]  # a file, looked at as such
    closed = [*said, *(REPLACED[key] for key in said if key in REPLACED)]
    for choice in choices:
        kept = {}
        for key, value in choice.options.items():
            place = key.replace("/", ".")
            inside = any(within(other, place) for other in closed)
            taken = any(within(place, other) for other in closed) or (inside and key == place)
            changed = not inside and value_at(config, place) not in (None, value_at(usual, place))
            if taken or changed:
                closed.append(place)  # what is inside of a part that isn't chosen isn't either
            else:
                kept[key] = value
        if kept or not choice.options:
            yield Choice(kept, choice.why)


def within(place: str, other: str) -> bool:
    """Say whether a key is another one, or inside of it."""
    return f"{place}.".startswith(f"{other}.")


def value_at(config: Mapping[str, Any], place: str) -> Any:
    """Return what a configuration has at a key, None for nothing."""
    found: Any = config
    for part in place.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found
