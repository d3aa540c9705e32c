"""What a student is trained like: as the recipe, or, under limits, as what keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

import numpy as np

from pipeline.build import build_datamodule, build_module
from pipeline.searching.context import SearchContext
from pipeline.searching.latency import TIMED, WARM, median_ms
from pipeline.searching.library import JOINT
from pipeline.searching.outcome import Limits, Selected
from pipeline.searching.plan import Trial
from pipeline.searching.request import recipe_config
from pipeline.searching.space import is_positive, known_value, reading
from pipeline.searching.trials import FORK_MERGE
from pollinate.overrides import override

FACTORS = (0.7, 0.5, 0.35, 0.25, 0.18, 0.12)  # on widths, the largest that keeps the limits
MULTIPLE = 4  # of which widths are


def student_shape(search: SearchContext, selected: Selected) -> Trial:
    """Return the trial that a student is trained like.

    That is the run of all tasks by the recipe. With limits it is the best of the networks of all
    tasks that keep them, else a recipe with narrower layers, else the nearest network.
    """
    plan, limits = search.plan, Limits(search.want.config)
    if not limits.any:
        return plan.trials[JOINT]
    costs = {
        name: selected.costs[name]
        for name, trial in plan.trials.items()
        if name in selected.costs
        and trial.kind in ("joint", "drawn")
        and set(trial.tasks) == set(plan.tasks)
        and FORK_MERGE not in trial.overrides
    }

    def score(name: str) -> float:
        return fmean(own.scores(selected.tasks[t])[name] for t, own in selected.valid.items())

    keeping = [name for name, own in costs.items() if limits.excess(*own) <= 1]
    if keeping:
        return plan.trials[max(keeping, key=score)]
    narrow = next(narrow_shapes(search, limits), None)
    if narrow is not None or not costs:
        return narrow or plan.trials[JOINT]
    return plan.trials[min(costs, key=lambda name: limits.excess(*costs[name]))]


def narrow_shapes(search: SearchContext, limits: Limits) -> Iterator[Trial]:
    """Yield recipes whose layers are so narrow that they keep the limits, the widest first."""
    plan = search.plan
    read = {name for one in plan.facts.tasks.values() for name in one.modalities}
    allow = search.want.config["allow_targets"]
    for name, recipe in plan.recipes.items():
        config = {**recipe_config(plan, name), "allow_targets": allow}
        data = build_datamodule(config)
        data.setup()
        batches = {
            dataset: [part.batch(np.array([r % part.size])) for r in range(WARM + TIMED)]
            for dataset, part in data.parts["valid"].items()
            if part.size
        }
        for factor in FACTORS:
            widths = narrower(reading(config, read), factor)
            own = [override(key, value) for key, value in widths.items()]
            narrow = {**recipe_config(plan, name, own), "allow_targets": allow}
            network = build_module(narrow, data, load=False).network.eval()
            parameters = sum(one.numel() for one in network.parameters())
            if limits.excess(parameters, 0.0) <= 1 and (
                limits.excess(parameters, median_ms(network, batches)) <= 1
            ):
                yield Trial("", "joint", plan.tasks, own, recipe.epochs, recipe=name)
                break


def narrower(recipe: Mapping[str, Any], factor: float) -> dict[str, int]:
    """Return {key: width} of what a recipe has that can be narrower."""
    keys = ["dim", *(f"encoder.{name}.width" for name in recipe["encoder"])]
    known = {key: known_value(recipe, key) for key in keys}
    return {
        key: max(MULTIPLE, MULTIPLE * round(value * factor / MULTIPLE))
        for key, value in known.items()
        if is_positive(value)
    }
