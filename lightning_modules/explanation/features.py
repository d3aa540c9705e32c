"""What a task reads of rows, by which rows are alike to it, and what it takes from where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.batch import Batch
from lightning_modules.explanation.explained_rows import leaves
from lightning_modules.network import ForwardTrace, MultiTaskNetwork
from lightning_modules.task_network import TaskNetwork
from lightning_modules.views import RowView

Taken = dict[str, dict[str, float]]  # {kind of weight: {source: weight}}


@torch.no_grad()
def row_features(network: TaskNetwork, task: str, dataset: str, batch: Batch) -> Tensor | None:
    """Return vectors of length 1 whose products say how alike rows are to a task: (N, D).

    They are what the task's head reads, or what the trunk reads where the head reads words or
    pairs; of an ensemble those of all members. None: the model is linear and has none.
    """
    routes = {task: (dataset,)}
    found = []
    for leaf in leaves(network, task):
        if isinstance(one := leaf.network, MultiTaskNetwork):
            trace = ForwardTrace()
            encoded = one.encode({dataset: leaf.given(batch)}, routes)
            one.predict(encoded, routes, trace=trace)
            rows = (
                trace.representations[task]
                if isinstance(one.views[task], RowView)
                else next(iter(encoded.values())).fused.pooled
            )
            found.append(functional.normalize(rows.float(), dim=1))
    return torch.cat(found, dim=1) / len(found) ** 0.5 if found else None


def taken_from(network: TaskNetwork, task: str, batches: Iterable[tuple[str, Batch]]) -> Taken:
    """Return the weights that a task gives to experts, other tasks and sources on rows.

    Those are the gauges of the trunk, and of what stands between trunk and head; the mean over the
    rows, of an ensemble over its members.

    Args:
        network: of the model.
        task: its name.
        batches: (data set, rows).
    """
    totals: dict[str, float] = {}
    count = 0
    for dataset, batch in batches:
        with torch.enable_grad():  # gauges take note of what training sees
            network.predict(
                network.encode({dataset: batch}, {task: (dataset,)}), {task: (dataset,)}
            )
        for leaf in leaves(network, task):
            if isinstance(one := leaf.network, MultiTaskNetwork):
                own = one.trunk.gauges([task])
                if one.head_input is not None:
                    own |= one.head_input.gauges()
                if not own:
                    return {}
                for name, value in own.items():
                    totals[name] = totals.get(name, 0.0) + value * len(batch.index)
                count += len(batch.index)
    return by_kind(task, {name: value / count for name, value in totals.items()})


def by_kind(task: str, gauges: Mapping[str, float]) -> Taken:
    """Sort a task's gauges ``<kind>/<task>/<source>``: {kind: {source: value}}."""
    found: Taken = {}
    for name, value in gauges.items():
        kind, _, rest = name.partition("/")
        if rest.startswith(f"{task}/"):
            found.setdefault(kind, {})[rest.removeprefix(f"{task}/")] = value
    return found
