"""From the command line to a plan: found in the study's folder, or made and kept there."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.checks import check_before_run, check_writable
from pipeline.command import Arguments, given_keys
from pipeline.config import compose, compose_with_requirements
from pipeline.configuration.study_rules import flat_keys
from pipeline.configuration.suggest import shown
from pipeline.errors import PollinateError, UsageError
from pipeline.runs import RUNS, RunFolder
from pipeline.studying.arms import arms_of, variants_of
from pipeline.studying.overrides import OWN, SET, combined, is_below, key_of, of_study, of_trials
from pipeline.studying.place import safe_name
from pipeline.studying.plan import PLAN, Plan, load_plan
from pipeline.studying.same import is_empty, require_same
from pipeline.studying.search import as_overrides, require_optuna
from pipeline.tracking.redact import redact

# what the arms of a study differ in, and nothing that a user gives
ARMS_OWN = ("seed", "tasks", "labels")
COMMAND = "study"
WAIT = 900.0  # seconds for a study that another process is just planning


@dataclass
class Wanted:
    """What the command line asks for.

    config: composed and checked; overrides, config_dirs: that make it.
    folder: of the study; cwd: where its command was given.
    """

    config: dict[str, Any]
    overrides: list[str]
    config_dirs: list[str]
    folder: Path
    cwd: Path


def wanted(config: Mapping[str, Any], arguments: Arguments) -> Wanted:
    """Return what is asked for; ``resume`` adds what the study's folder knows.

    Raises:
        UsageError: a key that has no place here, or nothing to resume.
    """
    dirs = [str(folder.expanduser().resolve()) for folder in arguments.config_dirs]
    refuse_seed(given_keys(arguments.overrides))
    if config["resume"] is None:
        folder = new_folder(config["name"], config["run_dir"])
        return Wanted(dict(config), list(arguments.overrides), dirs, folder, Path.cwd())
    folder = resumed_folder(str(config["resume"]))
    plan = load_plan(folder)
    assert plan is not None, "looked for by resumed_folder"
    given = [text for text in arguments.overrides if key_of(text) not in ("resume", "run_dir")]
    seeds = f"seeds={shown(plan.seeds)}"  # some may have been added since it began
    overrides = combined(plan.overrides, [seeds], given)
    dirs = list(dict.fromkeys([*plan.config_dirs, *dirs]))
    again = compose(COMMAND, overrides, [Path(one) for one in dirs])
    cwd = Path(plan.folder)
    return Wanted(again, overrides, dirs, folder, cwd if cwd.is_dir() else Path.cwd())


def refuse_seed(given: Sequence[str]) -> None:
    """Check that the study's seeds are given as such."""
    for key, instead in (("seed", "seeds=[0,1,2]"), ("tracking.parent", "name=NAME")):
        if key in given:
            raise UsageError(f"{key} is set for each trial by the study; use {instead}")


def new_folder(name: str, run_dir: str | None) -> Path:
    """Return the folder of a study: ``run_dir``, or runs/<time>-<name> with a free number."""
    if run_dir is not None:
        return Path(run_dir).absolute()
    stem = RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    path, number = stem, 1
    while path.exists():
        number += 1
        path = stem.with_name(f"{stem.name}-{number}")
    return path.absolute()


def resumed_folder(what: str) -> Path:
    """Return the folder that ``resume`` names: ``last``, or a study's.

    Raises:
        UsageError: there is no study.
    """
    if what == "last":
        plans = sorted(RUNS.glob(f"*/{PLAN}"), key=lambda path: path.stat().st_mtime_ns)
        if not plans:
            raise UsageError(
                f"resume=last found no study below {RUNS.absolute()}; start one, or name one with "
                "resume=FOLDER"
            )
        return plans[-1].parent.absolute()
    folder = Path(what).expanduser().absolute()
    if not (folder / PLAN).is_file():
        raise UsageError(f"resume must be last or a study's folder; {folder} has no {PLAN}")
    return folder


def find_plan(want: Wanted) -> Plan | None:
    """Return the plan in the study's folder with the seeds that are asked for, None for none.

    Raises:
        UsageError: the folder is another study's, or holds something else.
        PollinateError: it can't be written to.
    """
    plan = load_plan(want.folder)
    if plan is None:
        check_writable(want.folder)
        if not is_empty(want.folder):
            raise UsageError(
                f"run_dir must be new, empty or a study's, got {want.folder}, which holds files "
                f"but no {PLAN}; choose another run_dir"
            )
        return None
    require_same(RunFolder(want.folder), want.config, plan.seeds)
    plan.seeds = list(want.config["seeds"])
    return plan


def check_launcher(launcher: str) -> None:
    """Check that there is a program that can start a trial, before any is.

    Raises:
        UsageError: there is none.
    """
    try:
        words = shlex.split(launcher)
    except ValueError as error:
        raise UsageError(
            f"launcher must be a command as a shell takes it, got {launcher}: {error}"
        ) from error
    if words != ["python"] and shutil.which(words[0]) is None:
        raise UsageError(
            f"launcher must begin with a program that can be started, got {launcher!r}: there is "
            f"no {words[0]} on this machine"
        )


def check_folders(arms: Iterable[str]) -> None:
    """Check that each arm has a folder of its own.

    Raises:
        UsageError: two have the same.
    """
    known: dict[str, str] = {}
    for name in arms:
        other = known.setdefault(safe_name(name), name)
        if other != name:
            raise UsageError(
                f"{other} and {name} would share the folder trials/{safe_name(name)}; give a "
                "variant or a task another name"
            )


def check_arms(want: Wanted) -> list[str]:
    """Return the overrides of every trial, of which each arm's configuration composes.

    Raises:
        UsageError: one doesn't; names the arm.
    """
    config, study = want.config, want.config["study"]
    require_optuna(study["search"])
    base = of_trials(want.overrides)
    silent = "register" in config["tracking"] and "tracking.register" not in map(key_of, base)
    base += ["tracking.register=null"] if silent else []  # a study would fill the registry
    for name, overrides in variants_of(study).items():
        check_arm(f"study.variants.{name}", base, overrides, want.config_dirs)
    keys = flat_keys((study["search"] or {}).get("keys", {}))
    first = {key: v[0] if isinstance(v, list) else v["low"] for key, v in keys.items()}
    if first:
        check_arm("study.search.keys", base, as_overrides(first), want.config_dirs)
    return base


def check_arm(
    where: str, base: Sequence[str], overrides: Sequence[str], config_dirs: Sequence[str]
) -> None:
    """Check that an arm's overrides make a run.

    Raises:
        UsageError: they don't.
    """
    for text in overrides:
        taken = [top for top in (*OWN, *SET, *ARMS_OWN) if is_below(key_of(text), top)]
        if taken:
            raise UsageError(f"{where} sets {key_of(text)}, which the study sets for every trial")
    try:
        found = compose_with_requirements(
            "fit", combined(base, overrides), [Path(folder) for folder in config_dirs]
        )
        check_before_run(found.requires)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def make_plan(want: Wanted, base: list[str], started: float, timed: bool) -> Plan:
    """Build the joint run once, and plan the study.

    Raises:
        PollinateError: the data can't be used.
    """
    from pipeline.studying.measure import measure  # imports torch

    config, study = want.config, want.config["study"]
    facts = measure(config, started, timed)
    arms = arms_of(study, facts)
    check_folders(arms)
    return Plan(
        config["name"],
        list(config["seeds"]),
        of_study(want.overrides),
        base,
        want.config_dirs,
        str(want.cwd),
        facts,
        arms,
        study["budget"],
        study["search"],
        list(study["predictors"]),
    )


def keep_plan(plan: Plan, want: Wanted) -> None:
    """Write configuration and plan into the study's folder; with the plan it is a study's."""
    want.folder.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(want.folder)
    if not folder.config.exists():
        folder.write_config(redact({**want.config, "run_dir": None, "resume": None}))
    plan.save(want.folder)


def await_plan(want: Wanted) -> Plan:
    """Return the plan that another process is making.

    Raises:
        PollinateError: it doesn't come.
    """
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        if load_plan(want.folder) is not None:
            plan = find_plan(want)
            assert plan is not None, "just seen"
            return plan
        time.sleep(1.0)
    raise PollinateError(f"no plan has come into {want.folder} in {WAIT:.0f} s; start again")
