"""From the command line to a search's plan: found in its folder, or made and saved there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.command import CommandArguments
from pipeline.configuration.composition import compose_with_requirements
from pipeline.configuration.space_rules import is_common, seconds_of
from pipeline.run_folder import RunFolder
from pipeline.searching.plan import PLAN, SearchPlan, load_plan
from pipeline.searching.space import Space
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
TOKENIZER = "tokenizer.json"  # that all models of a search share
# how, where and how long it is run: not what it is
FREE = (
    "run_dir", "resume", "name", "time_limit", "trials", "jobs", "launcher", "retries", "dry_run",
    "tracking", "loader", "allow_targets", "engine", "distil", "max_latency_ms", "max_parameters",
)  # fmt: skip
# keys of the search, which trials don't have
OWN = (
    "space", "engine", "time_limit", "trials", "jobs", "launcher", "retries", "distil",
    "max_latency_ms", "max_parameters", "dry_run",
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
        if not is_empty(want.folder, PLAN, TOKENIZER):
            raise UsageError(
                f"run_dir must be new, empty or a search's, got {want.folder}, which holds files "
                f"but no {PLAN}; choose another run_dir"
            )
        return None
    refuse_links(want.folder)
    require_same(COMMAND, RunFolder(want.folder), want.config, FREE)
    # as checked with the configuration, whatever the file says
    refuse_commands(f"{want.folder / PLAN}", plan.chosen)
    plan.base, plan.config_dirs = base_of(want, plan.chosen, want.folder), want.config_dirs
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


def base_of(want: StudyRequest, chosen: Sequence[str], folder: Path) -> list[str]:
    """Return the overrides of every trial.

    All read their texts alike: the tokenizer is the search's. All keep what they answer.
    """
    base = [text for text in trial_base(want, chosen) if not is_own(key_of(text))]
    tokenizer = folder / TOKENIZER
    alike = [override("data.text.tokenizer", tokenizer)] if tokenizer.is_file() else []
    return combined(base, alike, ["keep_outputs=[valid,test]", "baseline=none"])


def is_own(key: str) -> bool:
    return any(is_below(key, top) for top in OWN)


def make_plan(want: StudyRequest, console: Console, started: float, timed: bool) -> SearchPlan:
    """Return a new search's plan: the preset chooses the recipe round which is searched."""
    from pipeline.presets.apply import apply_preset  # imports torch
    from pipeline.studies.profiling import profile_multi_task

    config = want.config
    preset = apply_preset(COMMAND, config, want.overrides, [Path(d) for d in want.config_dirs])
    for line in preset.lines:
        say(console, line)
    keep = None if config["dry_run"] else want.folder
    if keep is not None:  # one of a search that was killed before it had a plan
        (keep / TOKENIZER).unlink(missing_ok=True)
    facts = profile_multi_task(preset.config, started, timed, tokenizer=keep)
    chosen = list(preset.overrides)
    epochs = preset.config["trainer"].get("max_epochs")
    if epochs is None:
        epochs = max(1, math.ceil(facts.steps / max(1, facts.steps_per_epoch)))
    gone = ("run_dir", "resume", "dry_run")
    kept = [text for text in want.overrides if not any(is_below(key_of(text), k) for k in gone)]
    return SearchPlan(
        config["name"],
        config["seed"],
        kept,
        base_of(want, chosen, want.folder),
        want.config_dirs,
        str(want.cwd),
        chosen,
        facts,
        epochs,
    )


def recipe_of(want: StudyRequest, plan: SearchPlan) -> dict[str, Any]:
    """Return the configuration of the run of all tasks."""
    dirs = [Path(one) for one in plan.config_dirs]
    return compose_with_requirements("fit", plan.base, dirs).config


def check_space(space: Space, plan: SearchPlan) -> None:
    """Check that each value of the space can be composed with the recipe, before any run.

    Raises:
        UsageError: a key is unknown, or a value wrong.
    """
    dirs = [Path(one) for one in plan.config_dirs]
    for key, values in space.values.items():
        for value in first_values(values):
            words = space.overrides({key: value})
            refuse_commands(f"space.keys.{key}", words)
            try:
                found = compose_with_requirements("fit", combined(plan.base, words), dirs)
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
