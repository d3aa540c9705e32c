"""From the command line to a plan: found in the study's folder, or made and saved there."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.command import CommandArguments, given_keys, silence_libraries
from pipeline.configuration.composition import compose, compose_with_requirements
from pipeline.configuration.schema import changed_values, dotted_items
from pipeline.configuration.study_rules import flat_keys
from pipeline.crash_report import is_left_by_a_crash
from pipeline.engines.engine import Engine
from pipeline.engines.process import ProcessLock, lock_holder
from pipeline.run_folder import RUNS, RunFolder, unused_folder
from pipeline.studies.arms import arms_of, variants_of
from pipeline.studies.overrides import (
    FIXED_KEYS,
    STUDY_KEYS,
    combined,
    is_below,
    key_of,
    refuse_commands,
    study_overrides,
    told_again,
    trial_overrides,
)
from pipeline.studies.plan import PLAN, StudyPlan, load_plan
from pipeline.studies.search import as_overrides, require_optuna
from pipeline.studies.trial_files import safe_name
from pipeline.terminal import say
from pipeline.tracking.addresses import own_addresses, require_own_address
from pipeline.tracking.redact import redact
from pollinate.errors import PollinateError, UsageError
from pollinate.files import name_without_temporary, refuse_links
from pollinate.instantiate import instantiate
from pollinate.overrides import option_text, override
from pollinate.requirements import check_writable, require_all

if TYPE_CHECKING:
    from rich.console import Console

# what may differ without making another study: how, where and how often it is run
FREE = (
    "run_dir",
    "resume",
    "name",
    "seed",
    "seeds",
    "jobs",
    "timeout",
    "retries",
    "engine",
    "launcher",
    "dry_run",
    "tracking",
    "loader",
    "allow_targets",
)
SHOWN = 6  # keys in a message


def require_same(
    command: str,
    folder: RunFolder,
    config: Mapping[str, Any],
    free: Sequence[str],
    more: Sequence[str] = (),
) -> None:
    """Check that a folder is that of this configuration.

    A key that the folder's version didn't have, and that is null, changes nothing.

    Args:
        command: study or search; config: of it.
        free: keys that may differ; more: other differences, for people.
    """
    saved, given = folder.read_config(), redact(config)
    known = dict(dotted_items(saved))
    new = {key for key, value in dotted_items(given) if value is None and key not in known}
    changed = changed_values(
        saved,
        given,
        "there",
        lambda key: key not in new and not any(is_below(key, one) for one in free),
    )
    changed += more
    if changed:
        rest = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise UsageError(
            f"run_dir {folder.path} belongs to another {command}: {'; '.join(changed[:SHOWN])}"
            f"{rest}. Choose another run_dir, or resume that one: "
            f"{option_text('resume', folder.path)}"
        )


def is_empty(folder: Path, *own: str) -> bool:
    """Say whether a folder holds nothing but what one that was killed while it was planned left.

    Args:
        own: names of files that it leaves, besides those that every study does.
    """
    known = (".leader.lock", "config.yaml", PLAN, *own)
    return not folder.exists() or all(
        name_without_temporary(path.name) in known or is_left_by_a_crash(path)
        for path in folder.iterdir()
    )


# what the arms of a study differ in, and nothing that a user gives
ARMS_OWN = ("seed", "tasks", "label_fraction")
COMMAND = "study"


@dataclass
class StudyRequest:
    """What the command line asks for.

    config: composed and checked; overrides, config_dirs: that make it.
    folder: of the study; cwd: where its command was given.
    own: what a resume's command line must say again, as the study's folder can't.
    """

    config: dict[str, Any]
    overrides: list[str]
    config_dirs: list[str]
    folder: Path
    cwd: Path

    @property
    def own(self) -> list[str]:
        return told_again(self.overrides, self.config_dirs)


def study_request(config: Mapping[str, Any], arguments: CommandArguments) -> StudyRequest:
    """Return what is asked for; ``resume`` adds what the study's folder knows."""
    dirs = [str(folder.expanduser().resolve()) for folder in arguments.config_dirs]
    for key, instead in (("seed", "seeds=[0,1,2]"), ("tracking.parent", "name=NAME")):
        if key in given_keys(arguments.overrides):
            raise UsageError(f"{key} is set for each trial by the study; use {instead}")
    if config["resume"] is None:
        return new_request(config, arguments, dirs)
    folder = resumed_folder(str(config["resume"]), PLAN, COMMAND)
    plan = load_plan(folder)
    assert plan is not None, "looked for by resumed_folder"
    seeds = override("seeds", plan.seeds)  # some may have been added since it began
    return resumed_request(COMMAND, config, arguments, dirs, folder, plan, [seeds])


def new_request(
    config: Mapping[str, Any], arguments: CommandArguments, dirs: list[str]
) -> StudyRequest:
    """Return what the command line asks for by itself; ``dirs``: its folders with configs."""
    given = config["run_dir"]
    folder = unused_folder(config["name"]) if given is None else Path(given).absolute()
    return StudyRequest(dict(config), list(arguments.overrides), dirs, folder, Path.cwd())


def resumed_request(
    command: str,
    config: Mapping[str, Any],
    arguments: CommandArguments,
    dirs: list[str],
    folder: Path,
    plan: ToldPlan,
    more: Sequence[str] = (),
) -> StudyRequest:
    """Return what the command line asks for with what a folder's plan says.

    Args:
        command: study or search; config, arguments: of its command line.
        dirs: of that, with configs.
        folder: that is resumed; plan: in it.
        more: overrides between the plan's and the command line's.
    """
    refuse_links(folder)
    given = [text for text in arguments.overrides if key_of(text) not in ("resume", "run_dir")]
    require_told_again(plan, folder, given, dirs)
    overrides = combined(plan.overrides, more, given)
    dirs = list(dict.fromkeys([*plan.config_dirs, *dirs]))
    again = compose(command, overrides, [Path(one) for one in dirs])
    require_own_address(
        again["tracking"].get("uri"),
        own_addresses(config["tracking"]),
        folder,
        "tracking.uri",
        f"to keep the {command} here, tracking=none",
    )
    cwd = Path(plan.folder)
    return StudyRequest(again, overrides, dirs, folder, cwd if cwd.is_dir() else Path.cwd())


class ToldPlan(Protocol):
    """A plan that a folder tells: its command line, and the folder where that was given."""

    overrides: list[str]
    config_dirs: list[str]
    folder: str


def require_told_again(
    plan: ToldPlan, folder: Path, given: Sequence[str], dirs: Sequence[str]
) -> None:
    """Check that the user says what a folder must not say alone.

    Args:
        plan: in the folder, which may be a stranger's.
        folder: of the study.
        given: overrides, and dirs: folders with configs, of the user's own command line.

    Raises:
        UsageError: with all that is to be added.
    """
    known = [*map(key_of, given), *(f"--config-dir={one}" for one in dirs)]
    known += ["tracking.uri"] if "tracking" in known else []
    another = "engine" in known  # whose options are none of the first one's
    lacking = [
        text
        for text in told_again(plan.overrides, plan.config_dirs)
        if text not in known
        and key_of(text) not in known
        and not (another and is_below(key_of(text), "engine"))
    ]
    if lacking:
        raise UsageError(
            f"the folder {folder} says what to start and where, which code to use or where "
            "results go; only your own command line may: look at it, and if it is what you want, "
            "add "
            f"{shlex.join(lacking)}"
        )


def resumed_folder(what: str, file: str, kind: str) -> Path:
    """Return the folder that ``resume`` names: ``last``, or a path.

    Args:
        what: ``resume``.
        file: in which such a folder has its plan; kind: what it is of, study or search.
    """
    if what == "last":
        plans = sorted(RUNS.glob(f"*/{file}"), key=lambda path: path.stat().st_mtime_ns)
        if not plans:
            raise UsageError(
                f"resume=last found no {kind} below {RUNS.absolute()}; start one, or name one with "
                "resume=FOLDER"
            )
        return plans[-1].parent.absolute()
    folder = Path(what).expanduser().absolute()
    if not (folder / file).is_file():
        raise UsageError(f"resume must be last or a {kind}'s folder; {folder} has no {file}")
    return folder


def find_plan(want: StudyRequest) -> StudyPlan | None:
    """Return the plan in the study's folder with the seeds that are asked for, None for none."""
    plan = load_plan(want.folder)
    if plan is None:
        check_writable(want.folder)
        if not is_empty(want.folder):
            raise UsageError(
                f"run_dir must be new, empty or a study's, got {want.folder}, which holds files "
                f"but no {PLAN}; choose another run_dir"
            )
        return None
    refuse_links(want.folder)
    seeds, study = want.config["seeds"], want.config["study"]
    lacking = any(seed not in seeds for seed in plan.seeds)
    fewer = [f"seeds is {seeds}, there {plan.seeds}; seeds can only be added"] if lacking else []
    require_same(COMMAND, RunFolder(want.folder), want.config, FREE, fewer)
    plan.seeds = list(want.config["seeds"])
    # as checked with the configuration, whatever the file says
    plan.base, plan.config_dirs = trial_base(want, plan.chosen), want.config_dirs
    plan.budget, plan.search = study["budget"], study["search"]
    plan.predictors = list(study["predictors"])
    refuse_commands(f"{want.folder / PLAN}", plan.chosen or ())
    for name, arm in plan.arms.items():
        refuse_commands(f"{want.folder / PLAN}, arm {name},", arm.overrides)
    return plan


def check_launcher(launcher: str) -> None:
    """Check that there is a program that can start a trial, before any is."""
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
    known: dict[str, str] = {}
    for name in arms:
        other = known.setdefault(safe_name(name), name)
        if other != name:
            raise UsageError(
                f"{other} and {name} would share the folder trials/{safe_name(name)}; give a "
                "variant or a task another name"
            )


def check_arms(want: StudyRequest) -> None:
    study, base = want.config["study"], trial_base(want)
    require_optuna(study["search"])
    for name, overrides in variants_of(study).items():
        check_arm(f"study.variants.{name}", base, overrides, want.config_dirs)
    keys = flat_keys((study["search"] or {}).get("keys", {}))
    first = {key: v[0] if isinstance(v, list) else v["low"] for key, v in keys.items()}
    if first:
        check_arm("study.search.keys", base, as_overrides(first), want.config_dirs)


def trial_base(want: StudyRequest, chosen: Sequence[str] | None = None) -> list[str]:
    """Return the overrides of every trial.

    Args:
        want: with the command line's.
        chosen: what a preset chose for all of them; None: nothing was.
    """
    base = trial_overrides(want.overrides)
    if chosen is not None:
        base = combined(chosen, base, ["preset=none"])
    tracking = want.config["tracking"]
    silent = "register" in tracking and "tracking.register" not in map(key_of, base)
    return [*base, "tracking.register=null"] if silent else base  # it would fill the registry


def check_arm(
    where: str, base: Sequence[str], overrides: Sequence[str], config_dirs: Sequence[str]
) -> None:
    for text in overrides:
        taken = [
            top for top in (*STUDY_KEYS, *FIXED_KEYS, *ARMS_OWN) if is_below(key_of(text), top)
        ]
        if taken:
            raise UsageError(f"{where} sets {key_of(text)}, which the study sets for every trial")
    refuse_commands(where, overrides)
    try:
        found = compose_with_requirements(
            "fit", combined(base, overrides), [Path(folder) for folder in config_dirs]
        )
        require_all(found.requires)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def make_plan(want: StudyRequest, console: Console, started: float, timed: bool) -> StudyPlan:
    """Return a new study's plan; a preset chooses once, for the multi-task run, and says so.

    Arms would else differ in more than what they share.
    """
    from pipeline.presets.apply import apply_preset  # imports torch
    from pipeline.studies.profiling import profile_multi_task

    silence_libraries()  # now that they are imported
    config, study = want.config, want.config["study"]
    dirs = [Path(one) for one in want.config_dirs]
    preset = apply_preset(COMMAND, config, want.overrides, dirs)
    for line in preset.lines:
        say(console, line)
    chosen = list(preset.overrides)
    facts = profile_multi_task(preset.config, started, timed)
    arms = arms_of(study, facts)
    check_folders(arms)
    return StudyPlan(
        config["name"],
        list(config["seeds"]),
        study_overrides(want.overrides),
        trial_base(want, chosen),
        want.config_dirs,
        str(want.cwd),
        facts,
        arms,
        study["budget"],
        study["search"],
        list(study["predictors"]),
        chosen,
    )


def save_plan(plan: StudyPlan, want: StudyRequest) -> None:
    """Write configuration and plan into the study's folder; with the plan it is a study's."""
    want.folder.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(want.folder)
    if not (want.folder / PLAN).exists():  # a config.yaml alone is of one killed before it had any
        folder.write_config(redact({**want.config, "run_dir": None, "resume": None}))
    plan.save(want.folder)


def lead(command: str, folder: Path, leader: ProcessLock) -> None:
    """Take the lock of a study's or a search's folder.

    Raises:
        PollinateError: another process runs it, and where.
    """
    if not leader.acquire():
        holder = lock_holder(leader.path) or "another process"
        raise PollinateError(
            f"the {command} in {folder} runs already: {holder}; wait until it ends, or stop it "
            "there; for several machines, use engine=ray or engine=slurm"
        )
    leader.sign()


def make_engine(config: Mapping[str, Any]) -> Engine:
    """Return what trials run on, once it has said that it can be used."""
    engine: Engine = instantiate(config["engine"], config["allow_targets"], "engine")
    engine.check()
    return engine
