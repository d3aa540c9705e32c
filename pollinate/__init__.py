"""Pollinate: multi-task learning with measured knowledge transfer, on PyTorch Lightning.

What this module and its namespaces (``po.balancers``, ``po.trunks``, ...) export is the public API.
Everything else, also in ``pipeline``, ``lightning_modules`` and ``datamodules``, is private: it may
change without notice. Names are imported when they are used first, so that ``import pollinate``
takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pollinate.errors import PollinateError, UsageError
from pollinate.namespaces import FAMILIES
from pollinate.suggest import hint
from pollinate.version import VERSION as __version__  # noqa: N811  # the name that Python expects

# {public name: where it is defined}
_HOMES = {
    "Batch": "datamodules.batch",
    "MixedBatch": "datamodules.batch",
    "MixedDataModule": "datamodules.mixed_datamodule",
    "DataErrorPolicy": "datamodules.data_errors",
    "Dataset": "datamodules.dataset",
    "MultiTaskModule": "lightning_modules.module",
    "MultiTaskNetwork": "lightning_modules.network",
    "Features": "datamodules.features",
    "Evidence": "lightning_modules.transferability.base",
    "Recipe": "pollinate.recipes",
    "SourceOpener": "pipeline.transfer_sources",
    "fit": "pipeline.api.runs",
    "Run": "pipeline.api.runs",
    "load": "pipeline.api.runs",
    "Model": "pipeline.api.runs",
    "merge": "pipeline.api.runs",
    "evaluate": "pipeline.api.runs",
    "calibrate": "pipeline.api.runs",
    "export": "pipeline.api.runs",
    "explain": "pipeline.api.runs",
    "Explanations": "pipeline.api.explanations",
    "study": "pipeline.api.studies",
    "Study": "pipeline.api.studies",
    "search": "pipeline.api.searches",
    "Search": "pipeline.api.searches",
    "inspect": "pipeline.api.looks",
    "Inspection": "pipeline.api.looks",
    "rank_sources": "pipeline.api.looks",
    "plan": "pipeline.api.looks",
}

__all__ = ["PollinateError", "UsageError", "__version__", *_HOMES, *FAMILIES]


def __getattr__(name: str) -> Any:
    if name in FAMILIES:
        return import_module(f"pollinate.{name}")
    if name not in _HOMES:
        raise AttributeError(f"pollinate has no {name!r}{hint(name, __all__, 'names')}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
