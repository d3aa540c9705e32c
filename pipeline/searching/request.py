"""From the command line to a search's plan: found in its folder, or made and saved there."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.command import CommandArguments
from pipeline.configuration.composition import compose_with_requirements
from pipeline.configuration.schema import PRESETS
from pipeline.configuration.space_rules import is_common, seconds_of
from pipeline.run_folder import RunFolder
from pipeline.searching.plan import PLAN, Recipe, SearchPlan, load_plan
from pipeline.searching.space import RECIPE, Space
from pipeline.studies.overrides import (
    combined,
    is_below,
    key_of,
    refuse_commands,
)
from pipeline.studies.prepare import (
    StudyRequest,
    is_empty,
    new_request,
    require_same,
    resumed_folder,
    resumed_request,
    trial_base,
)
from pipeline.terminal import say
from pollinate.errors import UsageError
from pollinate.files import refuse_links
from pollinate.overrides import override
from pollinate.requirements import check_writable, require_all

COMMAND = "search"
LEADER = ".leader.lock"
TOKENIZER = "tokenizer{}.json"  # that all models round one recipe share
# how, where and how long it is run: not what it is
FREE = (
    "run_dir", "resume", "name", "time_limit", "trials", "jobs", "launcher", "retries", "dry_run",
    "tracking", "loader", "allow_targets", "engine", "distil", "max_latency_ms", "max_parameters",
    "rungs", "space.presets", "space.transfers",  # decided when the plan is made, or a trial drawn
)  # fmt: skip
# keys of the search, which trials don't have
OWN = (
    "space", "engine", "time_limit", "trials", "jobs", "launcher", "retries", "distil",
    "max_latency_ms", "max_parameters", "rungs", "dry_run",
)  # fmt: skip


def search_request(config: Mapping[str, Any], arguments: CommandArguments) -> StudyRequest:
    """Return what is asked for; ``resume`` adds what the search's folder knows."""
    dirs = [str(folder.expanduser().resolve()) for folder in arguments.config_dirs]
    if config["resume"] is None:
        return new_request(config, arguments, dirs)
    folder = resumed_folder(str(config["resume"]), PLAN, COMMAND)
    plan = load_plan(folder)
    assert plan is not None, "looked for by resumed_folder"
    return resumed_request(COMMAND, config, arguments, dirs, folder, plan)


def find_plan(want: StudyRequest) -> SearchPlan | None:
    """Return the plan in the search's folder, None if it is new or empty.

    Raises:
        UsageError: the folder is another search's, or holds something else.
    """
    plan = load_plan(want.folder)
    if plan is None:
        check_writable(want.folder)
        if not is_empty(want.folder, PLAN, *(tokenizer_file(name) for name in (None, *PRESETS))):
            raise UsageError(
                f"run_dir must be new, empty or a search's, got {want.folder}, which holds files "
                f"but no {PLAN}; choose another run_dir"
            )
        return None
    refuse_links(want.folder)
    require_same(COMMAND, RunFolder(want.folder), want.config, FREE)
    # as checked with the configuration, whatever the file says
    for recipe in plan.recipes.values():
        refuse_commands(f"{want.folder / PLAN}", recipe.chosen)
    plan.base, plan.config_dirs = base_of(want, plan.chosen, None), want.config_dirs
    for name, other in plan.others.items():
        other.base = base_of(want, other.chosen, name)
    for name, trial in plan.trials.items():
        check_trial(f"{want.folder / PLAN}, trial {name},", trial.overrides)
    return plan


def check_trial(where: str, overrides: Sequence[str]) -> None:
    """Check that what a file, perhaps a stranger's, adds to a trial is about its training only.

    Raises:
        UsageError: it says what is started or where results go, or has it read other rows.
    """
    refuse_commands(where, overrides)
    other = next((text for text in overrides if is_common(key_of(text))), None)
    if other is not None:
        raise UsageError(f"{where} sets {other:.80}, which all models of a search have in common")


def base_of(want: StudyRequest, chosen: Sequence[str], recipe: str | None) -> list[str]:
    """Return the overrides of every trial round a recipe.

    All read their texts alike: the tokenizer is the recipe's. All keep what they answer.
    """
    base = [text for text in trial_base(want, chosen) if not is_own(key_of(text))]
    if "register" in want.config["tracking"]:  # the model that is found is registered
        base = combined(base, ["tracking.register=null"])
    tokenizer = want.folder / tokenizer_file(recipe)
    alike = [override("data.text.tokenizer", tokenizer)] if tokenizer.is_file() else []
    return combined(base, alike, ["keep_outputs=[valid,test]", "baseline=none"])


def is_own(key: str) -> bool:
    return any(is_below(key, top) for top in OWN)


def tokenizer_file(recipe: str | None) -> str:
    """Return the name of the file of a recipe's tokenizer."""
    return TOKENIZER.format("" if recipe is None else f"-{recipe}")


def make_plan(want: StudyRequest, console: Console, started: float, timed: bool) -> SearchPlan:
    """Return a new search's plan: presets choose the recipes round which is searched."""
    from pipeline.presets.apply import NONE, apply_preset  # imports torch

    config, dirs = want.config, [Path(one) for one in want.config_dirs]
    preset = apply_preset(COMMAND, config, want.overrides, dirs)
    for line in preset.lines:
        say(console, line)
    own = make_recipe(want, preset.config, preset.overrides, None, started, timed)
    others = {}
    for name in config["space"]["presets"] or ():
        other = apply_preset(COMMAND, {**config, "preset": name}, want.overrides, dirs)
        if preset.config["preset"] in (NONE, name) or other.overrides == preset.overrides:
            continue
        say(console, f"models are drawn round what preset {name} chooses, too")
        begun = time.perf_counter()
        found = make_recipe(want, other.config, other.overrides, name, begun, timed)
        facts = replace(found.facts, start=max(own.facts.start, found.facts.start))
        others[name] = replace(found, facts=facts)
    gone = ("run_dir", "resume", "dry_run")
    kept = [text for text in want.overrides if not any(is_below(key_of(text), k) for k in gone)]
    return SearchPlan(
        config["name"],
        config["seed"],
        kept,
        own.base,
        want.config_dirs,
        str(want.cwd),
        own.chosen,
        own.facts,
        own.epochs,
        others=others,
    )


def make_recipe(
    want: StudyRequest,
    config: Mapping[str, Any],
    chosen: Sequence[str],
    name: str | None,
    started: float,
    timed: bool,
) -> Recipe:
    """Return a preset's recipe, whose run of all tasks is looked at.

    Args:
        want: what is asked for; name: of the recipe.
        config: of its run of all tasks; chosen: what the preset chose of that.
        started: ``time.perf_counter()`` when it began to be; timed: whether steps are timed.
    """
    from pipeline.studies.profiling import profile_multi_task  # imports torch

    keep = None if want.config["dry_run"] else want.folder / tokenizer_file(name)
    if keep is not None:  # one of a search that was killed before it had a plan
        keep.unlink(missing_ok=True)
    facts = profile_multi_task(config, started, timed, tokenizer=keep)
    epochs = config["trainer"].get("max_epochs")
    if epochs is None:
        epochs = max(1, math.ceil(facts.steps / max(1, facts.steps_per_epoch)))
    return Recipe(base_of(want, chosen, name), list(chosen), facts, epochs)


def recipe_config(plan: SearchPlan, recipe: str | None, more: Sequence[str] = ()) -> dict[str, Any]:
    """Return the configuration of a recipe's run of all tasks; more: overrides besides."""
    dirs = [Path(one) for one in plan.config_dirs]
    base = combined(plan.recipe(recipe).base, more)
    return compose_with_requirements("fit", base, dirs).config


def check_space(space: Space, plan: SearchPlan) -> None:
    """Check that each value of the space can be composed with each recipe, before any run.

    Raises:
        UsageError: a key is unknown, or a value wrong.
    """
    dirs = [Path(one) for one in plan.config_dirs]
    tried = product(plan.recipes.items(), space.values.items())
    for (name, recipe), (key, values) in tried:
        for value in first_values(values):
            words = space.overrides({key: value, RECIPE: name})
            refuse_commands(f"space.keys.{key}", words)
            try:
                found = compose_with_requirements("fit", combined(recipe.base, words), dirs)
                require_all(found.requires)
            except UsageError as error:
                raise UsageError(f"space.keys.{key}: {error}") from error


def first_values(values: Any) -> list[Any]:
    if isinstance(values, list):
        return list(values)
    low, high = values["times"] if "times" in values else (values["low"], values["high"])
    return [low, high]


def time_limit(config: Mapping[str, Any]) -> float:
    """Return the seconds of the search."""
    found = seconds_of(config["time_limit"])
    assert found is not None, "checked with the configuration"
    return found
