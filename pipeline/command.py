"""The front of every command: flags, configuration, errors, exit code, warnings.

A command is one file with a docstring, ``run`` and ``main``::

    def run(config: dict[str, Any], given: list[str]) -> None:
        from pipeline.build import build  # torch is imported only when the config is right
        ...

    def main(argv: Sequence[str] | None = None) -> int:
        return run_command("fit", run, argv)

    if __name__ == "__main__":
        sys.exit(main())
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.configuration.flags import FLAGS
from pollinate.errors import PollinateError, UsageError
from pollinate.suggest import hint

Run = Callable[[dict[str, Any], list[str]], int | None]
FILLS_RUN_FOLDER = ("fit",)  # commands that fill a run folder
INTERRUPTED_EXIT = 130  # what a shell reports for a program stopped by Ctrl-C


@dataclass
class CommandArguments:
    """The command line: flags, and overrides in their order."""

    help: bool = False
    print_config: bool = False
    debug: bool = False
    config_dirs: list[Path] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)


def run_command(name: str, run: Run, argv: Sequence[str] | None = None) -> int:
    """Compose a command's configuration, call ``run`` with it and return the exit code.

    Args:
        name: of the command: its schema and its YAML file have the same name.
        run: gets the checked configuration and the keys that the command line sets; its return
            value is the exit code, None means 0.
        argv: the arguments; default: of this process.

    Returns:
        0, or 2 for wrong usage, 1 for a failure, 130 after Ctrl-C.

    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    try:
        return _run(name, run, parse_arguments(argv))
    except PollinateError as error:
        return _report(str(error), error.exit_code, debug)
    except KeyboardInterrupt:
        return _report("interrupted", INTERRUPTED_EXIT, debug)
    except Exception as error:  # noqa: BLE001  # the last frame: anything else is shown as one line
        hint = "" if debug else "\nrun again with --debug to see the traceback"
        return _report(f"{type(error).__name__}: {error}{hint}", PollinateError.exit_code, debug)


def parse_arguments(argv: Sequence[str]) -> CommandArguments:
    """Return the sorted arguments.

    Raises:
        UsageError: a flag that doesn't exist, or ``--config-dir`` without a folder.

    """
    arguments, rest = CommandArguments(), iter(argv)
    for text in rest:
        flag, _, value = text.partition("=")
        if text in ("--help", "-h"):
            arguments.help = True
        elif text == "--print-config":
            arguments.print_config = True
        elif text == "--debug":
            arguments.debug = True
        elif flag == "--config-dir":
            arguments.config_dirs.append(_folder(value or next(rest, "")))
        elif text.startswith("-"):
            raise UsageError(_unknown_flag(text))
        else:
            arguments.overrides.append(text)
    return arguments


def _folder(value: str) -> Path:
    if not value:
        raise UsageError("--config-dir must be followed by a folder: --config-dir DIR")
    return Path(value).expanduser()


def _unknown_flag(text: str) -> str:
    flag, equals, value = text.partition("=")
    key = f"; keys have no dashes: {flag.lstrip('-')}={value}" if equals else ""
    return f"unknown flag {flag}{hint(flag, FLAGS, 'flags')}{key}"


def _run(name: str, run: Run, arguments: CommandArguments) -> int:
    if arguments.help:
        from pipeline.configuration.help import help_text  # each import costs every command

        sys.stdout.write(help_text(name, arguments.config_dirs))
        return 0
    from pipeline.configuration.composition import compose_with_requirements
    from pollinate.requirements import check_run_folder, require_all

    composed = compose_with_requirements(name, arguments.overrides, arguments.config_dirs)
    if arguments.print_config:
        sys.stdout.write(_as_yaml(composed.config))
        return 0
    require_all(composed.requires)
    if name in FILLS_RUN_FOLDER:
        check_run_folder(composed.config)
    return run(composed.config, given_keys(arguments.overrides)) or 0


def given_keys(overrides: Sequence[str]) -> list[str]:
    """Return the keys that overrides set: ``seed`` of ``seed=1``."""
    return [text.partition("=")[0].lstrip("+~") for text in overrides]


def _as_yaml(config: dict[str, Any]) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(config))


def _report(message: str, exit_code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"error: {message}\n")
    return exit_code


# (message, why a user needn't see it)
HARMLESS_WARNINGS = (
    (r".*does not have many workers.*", "loader.workers is documented"),
    (r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*", "inside Lightning"),
    (r".*[Ll]ogging interval.*", "log_every_n_steps is documented"),
    (r".*Checkpoint directory .* exists and is not empty.*", "the run folder is ours"),
    (r".*`?find_unused_parameters=True`? was specified.*", "tasks come and go, so it is needed"),
    (r".*The ``?compute``? method of metric .* was called before.*", "a rank may have no rows"),
    (r".*Found \d+ module\(s\) in eval mode at the start of training.*", "frozen ones are"),
    (r".*lr_scheduler.step\(\).*before.*optimizer.step\(\).*", "gradients may be skipped in fp16"),
)


def silence_libraries() -> None:
    """Silence what never matters to a user; errors and all other warnings stay.

    Called after Lightning is imported: that sets the level of its own logs.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message, _ in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    warnings.showwarning = show_warning


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """Write a warning as one line, without the source line that raised it."""
    sys.stderr.write(f"warning: {message}\n")
