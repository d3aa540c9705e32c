"""What a command changes of its process, and takes back at its end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pollinate.program import (
    SAFE_PATH_VARIABLE,
    UserPackages,
    current_folder,
    searches_current_folder,
)

# Variables that a command, or a library that it calls, sets. Those that libraries set when they are
# imported stay, as do those by which Lightning's launcher tells the processes of a run of each
# other: taken away, a later run would start all processes once more.
OWN_VARIABLES = ("POLLINATE_", "PL_", "MLFLOW_", SAFE_PATH_VARIABLE, "TORCH_CPP_LOG_LEVEL")

LIBRARY_LOGGERS = ("lightning.pytorch", "lightning.fabric")  # whose level a command sets


@contextmanager
def command_process(packages: Sequence[str] = ()) -> Iterator[None]:
    """Make the process fit for a command, and as it was before when the command ends.

    Taken back are environment variables, signal handlers, warning filters, levels of Lightning's
    logs, the current folder and the states of random number generators; so a script or a notebook
    may run one command after the other. Works in any thread.

    Args:
        packages: that ``allow_targets`` names; they are also looked for in the current folder.
    """
    folder = current_folder()
    variables = dict(os.environ)
    levels = {
        name: logging.getLogger(name).level
        for name in LIBRARY_LOGGERS
        if name in logging.root.manager.loggerDict
    }
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    states = _random_states()
    finder = UserPackages(packages, folder) if folder else None
    if not searches_current_folder():
        os.environ[SAFE_PATH_VARIABLE] = "1"  # nor shall the processes that are started
        if finder is not None and packages:
            sys.meta_path.append(finder)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch reads it when it is imported
    try:
        with warnings.catch_warnings():
            yield
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
        _restore_variables(variables)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
        for name in LIBRARY_LOGGERS:
            # INFO is what Lightning sets when it is imported
            logging.getLogger(name).setLevel(levels.get(name, logging.INFO))
        if folder is not None and current_folder() != folder:
            os.chdir(folder)
        if states is not None:
            from pollinate.reproducibility import restore_random_states

            restore_random_states(states)


def _random_states() -> dict[str, object] | None:
    """Return the generators' states, None as long as nobody can have used torch."""
    if "torch" not in sys.modules:
        return None
    from pollinate.reproducibility import random_states

    return random_states()


def _restore_variables(before: dict[str, str]) -> None:
    for name in os.environ.keys() | before.keys():
        if not name.startswith(OWN_VARIABLES):
            continue
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]
