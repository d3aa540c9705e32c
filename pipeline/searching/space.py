"""What a search draws from: {key: values} round what the preset chose."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.configuration.study_rules import TIMES, flat_keys
from pipeline.presets.choice import value_at
from pipeline.searching.library import JOINT
from pipeline.studies.search import distributions
from pollinate.errors import UsageError
from pollinate.overrides import override
from pollinate.suggest import hint

DIGITS = 3  # of a drawn number that are kept
TASKS = "tasks"  # the draw of which tasks are learnt together
RECIPE = "recipe"  # the draw of the recipe, null for the search's own
START = "start"  # the draw of whether a group of tasks starts from the recipe's model of all tasks
MERGE = "fork_merge"  # the draw of the task for whose sake branches are merged, null for none
INIT = "init"
# what may differ from the model that a trial starts from
KEEPS_SHAPES = ("optimizer", "trainer", "schedule", "balancer", "sampler")


@dataclass(frozen=True)
class Space:
    """Keys and what they may be.

    values: {key: choices, or {low, high, log, step}, or {times: [low, high]}}.
    recipes: {name: the configuration that factors are of, and that a choice of null keeps}, one of
        which is drawn; the first one, None, is the search's own.
    groups: {name: tasks that may be learnt together}, one of which is drawn; the first is all.
    starts: {recipe: its trial of all tasks, from which a group may start}.
    present: whether a key that a recipe lacks is left out for it.
    merges: whether branches of a run may be merged (ForkMerge), where it has several tasks.
    """

    values: Mapping[str, Any]
    recipes: Mapping[str | None, Mapping[str, Any]]
    groups: Mapping[str, Sequence[str]]
    starts: Mapping[str | None, str] = field(default_factory=dict)
    present: bool = False
    merges: bool = False

    def distributions(self) -> dict[str, Any]:
        """Return Optuna's distributions of all keys."""
        plain = {key: as_factors(values) for key, values in self.values.items()}
        plain |= {RECIPE: list(self.recipes)} if len(self.recipes) > 1 else {}
        if len(self.groups) > 1:
            plain[TASKS] = list(self.groups)
            plain |= {START: [None, JOINT]} if self.starts else {}
        if self.merges:
            plain[MERGE] = [None, *self.whole]
        return distributions(plain)

    @property
    def whole(self) -> Sequence[str]:
        """All tasks."""
        return next(iter(self.groups.values()))

    def overrides(self, drawn: Mapping[str, Any]) -> list[str]:
        """Return what a draw adds to the recipe's command line.

        A model that starts from another one has its shapes, whatever was drawn.
        """
        alike, recipe = self.source(drawn) is not None, self.recipes[self.recipe(drawn)]
        return [
            override(key, self._value(key, value, recipe))
            for key, value in drawn.items()
            if key in self.values
            and value is not None
            and not (alike and key.partition(".")[0] not in KEEPS_SHAPES)
            and not (self.present and known_value(recipe, key) is None)
        ]

    def recipe(self, drawn: Mapping[str, Any]) -> str | None:
        """Return the name of the recipe that a draw is round, None for the search's own."""
        found = drawn.get(RECIPE)
        return None if found is None else str(found)

    def source(self, drawn: Mapping[str, Any]) -> str | None:
        """Return the trial that a draw starts from; the one of all tasks starts from none."""
        whole = next(iter(self.groups))
        if drawn.get(START) is None or drawn.get(TASKS, whole) == whole:
            return None
        return self.starts.get(self.recipe(drawn)) if self.target(drawn) is None else None

    def target(self, drawn: Mapping[str, Any]) -> str | None:
        """Return the task for which the branches of a draw are merged, None if there are none."""
        tasks, found = self.tasks(drawn), drawn.get(MERGE)
        return str(found) if found in tasks and len(tasks) > 1 else None

    def tasks(self, drawn: Mapping[str, Any]) -> list[str]:
        """Return the tasks that a draw has learnt together."""
        name = drawn.get(TASKS, next(iter(self.groups)))
        return list(self.groups[name])

    def _value(self, key: str, drawn: Any, recipe: Mapping[str, Any]) -> Any:
        values = self.values[key]
        if not (isinstance(values, dict) and TIMES in values):
            return float(f"{drawn:.{DIGITS}g}") if isinstance(drawn, float) else drawn
        known = known_value(recipe, key)
        found = known * drawn
        return max(1, round(found)) if isinstance(known, int) else float(f"{found:.{DIGITS}g}")


def known_value(recipe: Mapping[str, Any], key: str) -> Any:
    """Return what a recipe has at a key as on the command line, None for nothing."""
    return value_at(recipe, key.replace("/", "."))


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
    recipes: Mapping[str | None, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    starts: Mapping[str | None, str] | None = None,
) -> Space:
    """Return a configuration's space.

    Args:
        config: node ``space``: keys, and whether those that the recipe lacks are left out.
        recipes: {name: the configuration that its preset made}; None is the search's own.
        groups: {name: tasks}.
        starts: {recipe: its trial of all tasks, from which a group may start}.

    Raises:
        UsageError: a key that no run has, or factors of something that is no number > 0.
    """
    found, own = {}, recipes[None]
    for key, values in flat_keys(config["keys"]).items():
        top = key.replace("/", ".").partition(".")[0]
        if top not in own:
            raise UsageError(f"space.keys has the unknown key {key}{hint(top, own, 'keys')}")
        known = [known_value(recipe, key) for recipe in recipes.values()]
        if config["present"]:
            known = [value for value in known if value is not None]
        if not known:
            continue
        times = isinstance(values, dict) and TIMES in values
        wrong = next((value for value in known if not is_positive(value)), None)
        if times and not all(map(is_positive, known)):
            raise UsageError(
                f"space.keys.{key} are factors, and the recipe's {key} is {wrong}, no number > 0; "
                "give a list of values, or {low: ..., high: ...}"
            )
        found[key] = values
    transfers = config.get("transfers") or (INIT,)
    merges = MERGE in transfers and len(next(iter(groups.values()))) > 1
    starts = (starts or {}) if INIT in transfers else {}
    return Space(found, recipes, groups, starts, config["present"], merges)


def is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
