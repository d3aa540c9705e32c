"""Where a run comes from: code, command, versions, machine."""

from __future__ import annotations

import getpass
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.tracking.journals import RUN_DIR_TAG
from pipeline.tracking.redact import redact_arguments
from pollinate.program import command_words, running_command

_PACKAGES = ("torch", "lightning", "pollinate")
_LONGEST_DIFF = 1_000_000  # bytes
_GIT_SECONDS = 5.0


def provenance_tags(run_dir: Path) -> dict[str, str]:
    """Give a run's tags, under MLflow's own names where it has one."""
    return {
        RUN_DIR_TAG: str(run_dir.absolute()),
        "mlflow.user": user_name(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": _program(),
        "pollinate.command": shlex.join(redact_arguments(sys.orig_argv)),
        "pollinate.host": socket.gethostname(),
        "version.python": platform.python_version(),
        **{f"version.{name}": found for name in _PACKAGES if (found := _version(name))},
        **git_tags(Path.cwd()),
    }


def user_name() -> str:
    """Give the user's name; containers may run under a number without one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _program() -> str:
    words = running_command.get()
    if words is not None:
        return shlex.join(words[: len(command_words(""))])
    main = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {main.name}" if main is not None else Path(sys.argv[0]).name


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree
        return None


def git_tags(folder: Path) -> dict[str, str]:
    """Give commit, branch and whether tracked files differ from it; {} outside a repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {
        "mlflow.source.git.commit": commit.strip(),
        "mlflow.source.git.branch": (_git(folder, "branch", "--show-current") or "").strip(),
        "mlflow.source.git.dirty": str(bool(changes)),
    }


def git_diff(folder: Path) -> str | None:
    """Give the changes of tracked files; None if there are none or more than 1 MB."""
    diff = _git(folder, "diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color")
    return diff if diff and len(diff.encode()) < _LONGEST_DIFF else None


# a repository's own settings can name programs; of a stranger's none is started, and an
# empty name is none
_NO_PROGRAMS = (
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
    *("-c", "diff.external=", "-c", "core.pager=cat", "-c", "core.sshCommand=false"),
)
_NAMES_PROGRAM = re.compile(
    r"(filter|diff|merge)\..*\.(clean|smudge|process|textconv|command|driver)"
)


def _without_filters(folder: Path) -> list[str]:
    """Return options that switch off what a repository's own settings would start."""
    listed = _run_git(folder, "config", "--local", "--includes", "--name-only", "--list")
    names = [] if listed is None else [n for n in listed.split() if _NAMES_PROGRAM.fullmatch(n)]
    return [word for name in names for word in ("-c", f"{name}=")]


def _git(folder: Path, *arguments: str) -> str | None:
    return _run_git(folder, *_NO_PROGRAMS, *_without_filters(folder), *arguments)


def _run_git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or too slow
        return None
    return done.stdout.decode(errors="replace")
