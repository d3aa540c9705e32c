"""From a preset's name to a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.build import build_datamodule
from pipeline.command import given_keys
from pipeline.configuration.composition import compose, compose_with_requirements
from pipeline.configuration.schema import AudioConfig, ImageConfig, TextConfig
from pipeline.presets.choice import Choice, open_choices
from pipeline.presets.facts import (
    DataFacts,
    MachineFacts,
    data_facts,
    machine_facts,
    pretrained_packages,
)
from pipeline.presets.fast import fast
from pipeline.presets.good import good
from pipeline.presets.writing import writing
from pollinate.overrides import override
from pollinate.requirements import require_all

AUTO, NONE = "auto", "none"
USUAL_INPUTS = {"audio": AudioConfig, "image": ImageConfig, "text": TextConfig}
PRESETS: Mapping[str, Callable[[DataFacts, MachineFacts, frozenset[str]], Iterator[Choice]]] = {
    "fast": fast,
    "good": good,
}


@dataclass(frozen=True)
class ChosenConfig:
    """config: of the run; lines: what a preset chose in it, and why, for people.

    overrides: what it chose, as before those of the command line.
    """

    config: dict[str, Any]
    lines: Sequence[str] = ()
    overrides: Sequence[str] = ()


def apply_preset(
    command: str, config: dict[str, Any], overrides: Sequence[str], config_dirs: Sequence[Path]
) -> ChosenConfig:
    """Return a configuration in which a preset has chosen what the user left open.

    The same data, packages and kind of machine always give the same one: nothing is timed.

    Args:
        command: whose configuration it is.
        config: composed, with ``preset``.
        overrides: of the command line, which win.
        config_dirs: folders with configs of the user's own.

    Raises:
        PollinateError: the data can't be read, or a package that is chosen isn't installed.
    """
    machine, packages = machine_facts(), pretrained_packages()
    name = config["preset"]
    if name == AUTO:
        name = "good" if machine.gpu and packages else "fast"
    if name == NONE:
        return ChosenConfig(config)
    facts = data_facts(build_datamodule(config))
    usual = compose(command)
    usual["data"] = {name: asdict(kind()) for name, kind in USUAL_INPUTS.items()}
    choices = list(
        open_choices(
            writing(facts, machine) if facts.writes else PRESETS[name](facts, machine, packages),
            given_keys(overrides),
            config,
            usual,
        )
    )
    chosen = [text for choice in choices for text in choice.overrides]
    composed = compose_with_requirements(
        command, [*chosen, *overrides, override("preset", name)], config_dirs
    )
    require_all(composed.requires)
    lines = [f"preset {name} chose (what is on the command line wins; preset=none: nothing):"]
    lines += [f"  {choice.line()}" for choice in choices]
    return ChosenConfig(composed.config, lines, chosen)
