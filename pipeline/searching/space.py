"""What a search draws from: {key: values} round what the preset chose."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.configuration.study_rules import TIMES, flat_keys
from pipeline.presets.choice import value_at
from pipeline.studies.search import distributions
from pollinate.errors import UsageError
from pollinate.overrides import override
from pollinate.suggest import hint

DIGITS = 3  # of a drawn number that are kept
TASKS = "tasks"  # the draw of which tasks are learnt together
START = "start"  # the draw of the trial whose model a group of tasks starts from, null for none
# what may differ from the model that a trial starts from
KEEPS_SHAPES = ("optimizer", "trainer", "schedule", "balancer", "sampler")


@dataclass(frozen=True)
class Space:
    """Keys and what they may be.

    values: {key: choices, or {low, high, log, step}, or {times: [low, high]}}.
    recipe: the configuration that factors are of, and that a choice of null keeps.
    groups: {name: tasks that may be learnt together}, one of which is drawn; the first is all.
    start: the trial of all tasks that a group may start from, None if there is none.
    """

    values: Mapping[str, Any]
    recipe: Mapping[str, Any]
    groups: Mapping[str, Sequence[str]]
    start: str | None = None

    def distributions(self) -> dict[str, Any]:
        """Return Optuna's distributions of all keys."""
        plain = {key: as_factors(values) for key, values in self.values.items()}
        if len(self.groups) > 1:
            plain[TASKS] = list(self.groups)
            plain |= {START: [None, self.start]} if self.start is not None else {}
        return distributions(plain)

    def overrides(self, drawn: Mapping[str, Any]) -> list[str]:
        """Return what a draw adds to the recipe's command line.

        A model that starts from another one has its shapes, whatever was drawn.
        """
        alike = self.source(drawn) is not None
        return [
            override(key, self._value(key, value))
            for key, value in drawn.items()
            if key not in (TASKS, START)
            and value is not None
            and not (alike and key.partition(".")[0] not in KEEPS_SHAPES)
        ]

    def source(self, drawn: Mapping[str, Any]) -> str | None:
        """Return the trial that a draw starts from; the one of all tasks starts from none."""
        whole = next(iter(self.groups))
        found = drawn.get(START) if drawn.get(TASKS, whole) != whole else None
        return None if found is None else str(found)

    def tasks(self, drawn: Mapping[str, Any]) -> list[str]:
        """Return the tasks that a draw has learnt together."""
        name = drawn.get(TASKS, next(iter(self.groups)))
        return list(self.groups[name])

    def _value(self, key: str, drawn: Any) -> Any:
        values = self.values[key]
        if not (isinstance(values, dict) and TIMES in values):
            return float(f"{drawn:.{DIGITS}g}") if isinstance(drawn, float) else drawn
        known = value_at(self.recipe, key.replace("/", "."))
        found = known * drawn
        return max(1, round(found)) if isinstance(known, int) else float(f"{found:.{DIGITS}g}")


def as_factors(values: Any) -> Any:
    """Return values as Optuna takes them: factors are drawn evenly by their logarithm."""
    if isinstance(values, dict) and TIMES in values:
        low, high = values[TIMES]
        return {"low": float(low), "high": float(high), "log": True}
    return values


def reading(recipe: Mapping[str, Any], modalities: Container[str]) -> dict[str, Any]:
    """Return a recipe without the encoders of what no task reads: nothing is drawn of them."""
    encoders = {name: own for name, own in recipe["encoder"].items() if name in modalities}
    return {**recipe, "encoder": encoders}


def space_of(
    config: Mapping[str, Any],
    recipe: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    start: str | None = None,
) -> Space:
    """Return a configuration's space.

    Args:
        config: node ``space``: keys, and whether those that the recipe lacks are left out.
        recipe: the configuration that the preset made.
        groups: {name: tasks}.
        start: the trial of all tasks, from which a group may start.

    Raises:
        UsageError: a key that no run has, or factors of something that is no number > 0.
    """
    found = {}
    for key, values in flat_keys(config["keys"]).items():
        top = key.replace("/", ".").partition(".")[0]
        if top not in recipe:
            raise UsageError(f"space.keys has the unknown key {key}{hint(top, recipe, 'keys')}")
        known = value_at(recipe, key.replace("/", "."))
        times = isinstance(values, dict) and TIMES in values
        number = isinstance(known, int | float) and not isinstance(known, bool) and known > 0
        if known is None and config["present"]:
            continue
        if times and not number:
            raise UsageError(
                f"space.keys.{key} are factors, and the recipe's {key} is {known}, no number > 0; "
                "give a list of values, or {low: ..., high: ...}"
            )
        found[key] = values
    return Space(found, recipe, groups, start)
