"""One door for the shell: ``pollinate COMMAND`` is ``python -m pipeline.COMMAND``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from pipeline.command import report_error
from pipeline.configuration.groups import FLAGS
from pipeline.configuration.help import commands, section, table
from pipeline.fit import exit_process
from pollinate.errors import UsageError
from pollinate.program import PROGRAM, PROGRAM_VARIABLE
from pollinate.suggest import hint
from pollinate.version import VERSION

OWN_FLAGS = {"--help": "this page", "--version": "print the version"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("--help", "-h"):
        sys.stdout.write(help_page())
        return 0 if words else UsageError.exit_code
    if words[0] == "--version":
        sys.stdout.write(f"{PROGRAM} {VERSION}\n")
        return 0
    name = words[0]
    if name not in commands():
        return report_error(unknown(name), UsageError.exit_code, debug=False)
    before = os.environ.get(PROGRAM_VARIABLE)
    os.environ[PROGRAM_VARIABLE] = PROGRAM
    try:
        code: int = import_module(f"pipeline.{name}").main(words[1:])
    finally:
        del os.environ[PROGRAM_VARIABLE]
        if before is not None:
            os.environ[PROGRAM_VARIABLE] = before
    return code


def unknown(name: str) -> UsageError:
    if name.partition("=")[0] in FLAGS:
        return UsageError(f"{name} comes after the command: {PROGRAM} COMMAND {name}")
    if name.startswith("-"):
        return UsageError(f"unknown flag {name}{hint(name, OWN_FLAGS, 'flags')}")
    found = commands()
    if "=" in name:
        return UsageError(
            f"{name} comes after the command: {PROGRAM} fit {name}; commands: {', '.join(found)}"
        )
    return UsageError(f"unknown command {name}{hint(name, found, 'commands')}")


def help_page() -> str:
    parts = [
        f"{PROGRAM} COMMAND [group=option] [group=file.yaml] [key=value] [flags]\n\n"
        "Multi-task learning with measured knowledge transfer, on PyTorch Lightning.",
        section("Commands", table(commands())),
        section("Flags", table(OWN_FLAGS)),
        f"{PROGRAM} COMMAND --help lists the groups, options and keys of a command.",
    ]
    return "\n\n".join(parts) + "\n"


def start() -> NoReturn:
    exit_process(main())


if __name__ == "__main__":
    start()
