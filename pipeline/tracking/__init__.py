"""A run's history: journals in the run folder, sent to MLflow by a process of their own.

The training process only appends lines to files. Importing this package imports neither
MLflow nor Lightning; the sender process stays small that way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.tracking.loggers import LocalRunLogger, MLflowRunLogger

__all__ = ["LocalRunLogger", "MLflowRunLogger"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline.tracking import loggers

    return getattr(loggers, name)
