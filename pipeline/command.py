"""The front of every command: flags, configuration, errors, exit code, and the door for Python.

A command is one file with a docstring, a function and its two doors::

    def run(config: dict[str, Any], arguments: CommandArguments) -> FitResult:
        from pipeline.build import build  # torch is imported only when the config is right
        ...

    call, main = entry_points("fit", run)

    if __name__ == "__main__":
        sys.exit(main())
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypedDict, TypeVar, Unpack

from pipeline.configuration.groups import FLAGS
from pipeline.text_format import relpath
from pollinate.errors import PollinateError, UsageError, crash_file_of
from pollinate.printable import printable
from pollinate.program import command_words, running_command
from pollinate.suggest import hint

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

    @property
    def given(self) -> list[str]:
        return given_keys(self.overrides)


@dataclass(kw_only=True)
class CommandResult:
    """What a command came to; each command's own has more.

    exit_code: 0, or what the shell is told though the command came to its end.
    interrupted: name of the signal that stopped it, None if it came to its end.
    """

    exit_code: int = 0
    interrupted: str | None = None


R = TypeVar("R", bound=CommandResult)
R_co = TypeVar("R_co", bound=CommandResult, covariant=True)
Run = Callable[[dict[str, Any], CommandArguments], R]


class Where(TypedDict, total=False):
    """Where a command called from Python finds configurations, and whether it tells what it does.

    data: a file or the name of an option, as in ``data=shop.yaml``; or what such a file holds.
    config_dirs: folders with configs of the user's own.
    quiet: whether nothing is printed but warnings.
    """

    data: str | Path | Mapping[str, Any] | None
    config_dirs: Sequence[str | Path]
    quiet: bool


class Call(Protocol[R_co]):
    """A command as Python calls it; see ``call_command``."""

    def __call__(self, overrides: Sequence[str] = (), **where: Unpack[Where]) -> R_co: ...


class Main(Protocol):
    """A command as a shell calls it; see ``run_command``."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def entry_points(name: str, run: Run[R]) -> tuple[Call[R], Main]:
    """Return a command's ``call``, for Python, and its ``main``, for a shell."""

    def call(overrides: Sequence[str] = (), **where: Unpack[Where]) -> R:
        return call_command(name, run, overrides, **where)

    def main(argv: Sequence[str] | None = None) -> int:
        return run_command(name, run, argv)

    return call, main


def run_command(name: str, run: Run[CommandResult], argv: Sequence[str] | None = None) -> int:
    """Compose a command's configuration, call ``run`` with it and return the exit code.

    Returns:
        0, or 2 for wrong usage, 1 for a failure, 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    running = running_command.set([*command_words(name), *argv])
    try:
        return _run(name, run, parse_arguments(argv))
    except PollinateError as error:
        return report_error(error, error.exit_code, debug)
    except KeyboardInterrupt as error:
        return report_error(error, INTERRUPTED_EXIT, debug)
    except Exception as error:  # noqa: BLE001  # the last frame: anything else is shown as one line
        return _report_crash(error, name, debug)
    finally:
        running_command.reset(running)


def call_command(
    name: str,
    run: Run[R],
    overrides: Sequence[str] = (),
    *,
    data: str | Path | Mapping[str, Any] | None = None,
    config_dirs: Sequence[str | Path] = (),
    quiet: bool = False,
) -> R:
    """Do what the command does, from Python; the process is afterwards as it was before.

    Args:
        name: of the command.
        run: as for ``run_command``.
        overrides: as on the command line: ``["balancer=upgrad", "seed=1"]``.
        data: a file or the name of an option, as in ``data=shop.yaml``; or what such a file holds,
            with paths that are relative to the current folder.
        config_dirs: folders with configs of the user's own.
        quiet: whether nothing is printed but warnings.

    Raises:
        UsageError: the configuration is wrong.
        InterruptedRunError: Ctrl-C or SIGTERM stopped it, after everything was saved.
        PollinateError: it failed in a way that the message explains. Any other error passes, with a
            note that names its crash report if there was a run folder.
    """
    from pipeline.data_override import data_override  # both take time that --help needs not
    from pollinate.console import is_quiet

    folders = [Path(folder).expanduser() for folder in config_dirs]
    silence = is_quiet.set(quiet)
    try:
        with data_override(data, for_later=name == "study") as chosen:
            words = [*chosen, *overrides]
            running = running_command.set([*command_words(name), *words])
            try:
                result = _invoke(name, run, CommandArguments(config_dirs=folders, overrides=words))
            finally:
                running_command.reset(running)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning made it of a second Ctrl-C
            raise KeyboardInterrupt from stop
        raise
    finally:
        is_quiet.reset(silence)
    if result.interrupted is not None:
        from lightning_modules.callbacks.stopping import InterruptedRunError  # imports torch

        raise InterruptedRunError(result.interrupted)
    return result


def parse_arguments(argv: Sequence[str]) -> CommandArguments:
    """Return the sorted arguments."""
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


def _run(name: str, run: Run[CommandResult], arguments: CommandArguments) -> int:
    if arguments.help:
        from pipeline.configuration.help import help_text  # each import costs every command

        sys.stdout.write(printable(help_text(name, arguments.config_dirs)))
        return 0
    if not arguments.print_config:
        return _invoke(name, run, arguments).exit_code
    from pipeline.configuration.composition import compose
    from pipeline.process_state import command_process
    from pollinate.files import as_yaml

    with command_process(own_packages(arguments.overrides)):
        composed = compose(name, arguments.overrides, arguments.config_dirs)
        sys.stdout.write(printable(as_yaml(composed)))
    return 0


def _invoke(name: str, run: Run[R], arguments: CommandArguments) -> R:
    from pipeline.configuration.composition import compose_with_requirements
    from pipeline.process_state import command_process
    from pollinate.requirements import check_run_folder, require_all

    with command_process(own_packages(arguments.overrides)):
        composed = compose_with_requirements(name, arguments.overrides, arguments.config_dirs)
        require_all(composed.requires)
        if name in FILLS_RUN_FOLDER:
            from pipeline.crash_report import is_left_by_a_crash

            check_run_folder(composed.config, is_left_by_a_crash)
        return run(composed.config, arguments)


def own_packages(overrides: Sequence[str]) -> list[str]:
    """Return the packages that ``allow_targets=[my_pkg]`` names."""
    given = [text.partition("=")[2] for text in overrides if text.startswith("allow_targets=")]
    return [name.strip("'\" ") for text in given for name in text.strip("[] ").split(",")]


def given_keys(overrides: Sequence[str]) -> list[str]:
    """Return the keys that overrides set: ``seed`` of ``seed=1``."""
    return [text.partition("=")[0].lstrip("+~") for text in overrides]


def report_error(error: BaseException, exit_code: int, debug: bool) -> int:
    """Write one line about an error that needs no more, and where the cause of one is kept."""
    if debug:
        _print_traceback(error)
    message = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    file = crash_file_of(error)
    more = "" if file is None else f"; its cause is in {relpath(file)}"
    sys.stderr.write(printable(f"error: {message}{more}\n"))
    return exit_code


def _report_crash(error: Exception, name: str, debug: bool) -> int:
    from pipeline.crash_report import hide_secrets, one_line, write_report

    file = crash_file_of(error)
    try:
        file = file or write_report(error, name=name)
    except Exception:  # noqa: BLE001  # the report's own fault must not hide the error
        file = None
    if debug or file is None:
        _print_traceback(error)
    more = "no report of it could be written" if file is None else f"all about it: {relpath(file)}"
    sys.stderr.write(printable(f"error: {hide_secrets(one_line(error), {})}; {more}\n"))
    return PollinateError.exit_code


def _print_traceback(error: BaseException) -> None:
    import traceback

    from pipeline.crash_report import hide_secrets

    sys.stderr.write(printable(hide_secrets("".join(traceback.format_exception(error)), {})))


# (message, why a user needn't see it)
HARMLESS_WARNINGS = (
    (r".*does not have many workers.*", "loader.workers is documented"),
    (r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*", "inside Lightning"),
    (r".*[Ll]ogging interval.*", "log_every_n_steps is documented"),
    (r".*Checkpoint directory .* exists and is not empty.*", "the run folder is ours"),
    (r".*`?find_unused_parameters=True`? was specified.*", "tasks come and go, so it is needed"),
    (r".*The ``?compute``? method of metric .* was called before.*", "a rank may have no rows"),
    (r".*Found \d+ module\(s\) in eval mode at the start of training.*", "frozen ones are"),
    (r".*callbacks used to create the checkpoint need to be provided.*", "early_stopping may go"),
    (r".*lr_scheduler.step\(\).*before.*optimizer.step\(\).*", "gradients may be skipped in fp16"),
)


def silence_libraries() -> None:
    """Silence what never matters to a user; errors and all other warnings stay.

    Called after Lightning is imported: that sets the level of its own logs.
    """
    import logging

    from pipeline.process_state import LIBRARY_LOGGERS

    for name in LIBRARY_LOGGERS:
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
    sys.stderr.write(printable(f"warning: {message}\n"))
