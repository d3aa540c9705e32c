"""Keeps the libraries' chatter from hiding what matters."""

from __future__ import annotations

import logging
import sys
import warnings

# (message, why a user needn't see it)
HARMLESS = (
    (r".*does not have many workers.*", "loader.workers is documented"),
    (r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*", "inside Lightning"),
    (r".*[Ll]ogging interval.*", "log_every_n_steps is documented"),
    (r".*Checkpoint directory .* exists and is not empty.*", "the run folder is ours"),
    (r".*`?find_unused_parameters=True`? was specified.*", "tasks come and go, so it is needed"),
    (r".*The ``?compute``? method of metric .* was called before.*", "a rank may have no rows"),
    (r"Found \d+ module\(s\) in eval mode.*", "norms that are frozen are held on purpose"),
    (r".*lr_scheduler.step\(\).*before.*optimizer.step\(\).*", "gradients may be skipped in fp16"),
)


def quiet() -> None:
    """Silence what never matters to a user; errors and all other warnings stay.

    Called after Lightning is imported: that sets the level of its own logs.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message, _ in HARMLESS:
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
