"""Train one model on many tasks, track the run, and stop and resume it exactly."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.command import CommandArguments, CommandResult, entry_points
from pollinate.locks import FolderLock
from pollinate.parents import FIRST_PROCESS, end_with_parent
from pollinate.requirements import is_other_process

if TYPE_CHECKING:  # they import torch
    from pipeline.run_folder import RunFolder
    from pipeline.run_summary import RunSummary

TAKES_SOURCES = ("encoder", "transfer")  # where a configuration may name other models


@dataclass(kw_only=True)
class FitResult(CommandResult):
    """folder: of the run; summary: how it ended, with its scores."""

    folder: RunFolder
    summary: RunSummary


def run(config: dict[str, Any], arguments: CommandArguments) -> FitResult:
    """Train."""
    if is_other_process():
        end_with_parent()
    else:
        os.environ[FIRST_PROCESS] = str(os.getpid())
    # imported here: torch and Lightning take seconds, and a wrong config needs neither
    from pipeline.command import silence_libraries
    from pipeline.crash_report import crash_evidence
    from pipeline.resume import find_resume_point
    from pipeline.run_folder import (
        RUN_DIR_VARIABLE,
        RUN_LOCK,
        clear_previous_run,
        new_run_folder,
    )
    from pipeline.training_run import TrainingRun, prepare

    silence_libraries()
    started, given = time.perf_counter(), arguments.given
    resumed = None if config["resume"] is None else find_resume_point(config, given)
    if resumed is None:
        folder = new_run_folder(config["name"], config["run_dir"])
    else:
        folder, config = resumed.folder, with_one_limit(resumed.config, given)
    os.environ[RUN_DIR_VARIABLE] = str(folder.path)
    lock = FolderLock(folder.path, RUN_LOCK)
    try:
        if resumed is not None and not is_other_process():
            lock.acquire()  # before anything of the other one's is touched
        with crash_evidence(config, folder.path, resume=resumed is not None):
            if config.get("model") == "linear":
                if resumed is not None:
                    clear_previous_run(folder)  # what is fitted at once has nothing to go on from
                return fit_linear(config, folder, started, lock)
            if resumed is None:
                config = with_preset(config, arguments)
            training = TrainingRun(prepare(config, folder, resumed), started, lock)
            code = training.run()
    finally:
        lock.release()
    return FitResult(
        exit_code=code, interrupted=training.interrupted, folder=folder, summary=training.summary
    )


def fit_linear(
    config: Mapping[str, Any], folder: RunFolder, started: float, lock: FolderLock
) -> FitResult:
    """Fit a linear model, in the first process alone."""
    from pipeline.linear_run import run_linear
    from pipeline.run_summary import RunSummary

    if is_other_process():
        return FitResult(folder=folder, summary=RunSummary("finished"))
    placed = with_absolute_sources(with_absolute_uri(config))
    return FitResult(folder=folder, summary=run_linear(placed, folder, started, lock))


def with_preset(config: dict[str, Any], arguments: CommandArguments) -> dict[str, Any]:
    """Return the configuration of a new run, with what a preset chooses, which is said."""
    from pipeline.presets.apply import apply_preset
    from pipeline.terminal import say
    from pollinate.console import new_console

    chosen = apply_preset("fit", config, arguments.overrides, arguments.config_dirs)
    for line in () if is_other_process() else chosen.lines:
        say(new_console(), line)
    limited = with_one_limit(chosen.config, arguments.given)
    return with_absolute_sources(with_absolute_uri(limited))


def with_one_limit(config: Mapping[str, Any], given: Sequence[str]) -> dict[str, Any]:
    """Let max_steps on the command line replace a max_epochs that isn't on it."""
    trainer = dict(config["trainer"])
    if "trainer.max_steps" in given and "trainer.max_epochs" not in given:
        trainer["max_epochs"] = None
    return {**config, "trainer": trainer}


def with_absolute_uri(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with a tracking address that holds from every folder."""
    from pipeline.tracking.mlflow_settings import resolve_uri

    tracking = dict(config["tracking"])
    if tracking.get("uri"):
        tracking["uri"] = resolve_uri(tracking["uri"])
    return {**config, "tracking": tracking}


def with_absolute_sources(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with places of other models that hold from every folder."""
    from pipeline.transfer_sources import absolute_paths

    data = {
        **config["data"],
        **{key: absolute_paths(config["data"][key]) for key in ("tasks", "text")},
    }
    return {**config, "data": data, **{key: absolute_paths(config[key]) for key in TAKES_SOURCES}}


def exit_process(code: int) -> NoReturn:
    """End the process; one of several does so without taking the interpreter apart.

    Threads of the process group may still be at work then. One that asks for the interpreter while
    it goes away is unwound, which its C++ frames answer with std::terminate: a run that is complete
    would end as a crash.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_initialized():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


call, main = entry_points("fit", run)

if __name__ == "__main__":
    exit_process(main())
