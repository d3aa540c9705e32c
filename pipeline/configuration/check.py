"""All rules for a composed configuration, reported together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.configuration.chosen_tasks import chosen_problems
from pipeline.configuration.component_rules import component_problems
from pipeline.configuration.data_rules import MODALITIES, data_problems
from pipeline.configuration.schema import SCHEMAS
from pipeline.configuration.schema_check import flatten, missing_values, schema_problems
from pipeline.configuration.study_rules import study_problems
from pipeline.configuration.suggest import raise_problems
from pipeline.configuration.trainer_rules import (
    AVERAGING,
    averaging_problems,
    lr_scale_problems,
    sharding_problems,
    trainer_options,
    trainer_problems,
)
from pipeline.configuration.transfer_rules import transfer_problems

TRAINING = ("fit", "plan", "rank_sources", "study")  # commands that describe a training


def check(command: str, config: dict[str, Any], allow: Sequence[str]) -> None:
    """Fill in defaults and report all problems at once.

    Args:
        command: a key of ``SCHEMAS``.
        config: plain containers, changed in place.
        allow: packages that ``_target_`` may name besides our own.

    Raises:
        UsageError: unknown keys, wrong types, missing values, values out of range.

    """
    known = list(flatten(config))
    if command in TRAINING:
        known += [f"trainer.{name}" for name in (*trainer_options(), AVERAGING)]
    problems = [
        *missing_values(config),
        *schema_problems(SCHEMAS[command], config, known=known),
        *component_problems(config, allow),
    ]
    if command in TRAINING:
        problems += _fit_problems(config)
    if command == "study":
        problems += study_problems(config)
    if command == "inspect":
        problems += data_problems(config.get("data"), {name: {"any": True} for name in MODALITIES})
    raise_problems(problems)


def _fit_problems(config: dict[str, Any]) -> Iterator[str]:
    yield from trainer_problems(config.get("trainer"))
    yield from sharding_problems(config)
    yield from averaging_problems(config)
    yield from lr_scale_problems(config.get("optimizer"))
    yield from data_problems(config.get("data"), config.get("encoder"))
    yield from transfer_problems(config.get("transfer"))
    yield from chosen_problems(config)
