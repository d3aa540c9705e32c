"""A teacher that looks at the rows of a step as they come, augmented say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datamodules.batch import Batch
from datamodules.modalities.base import Modality

if TYPE_CHECKING:
    from pipeline.prediction.predictor import Predictor

Routes = Mapping[str, Sequence[str]]  # {data set of the teacher: its tasks}


def routes_of(
    predictor: Predictor,
    tasks: Sequence[str],
    modalities: Collection[str],
    here: Mapping[str, Modality],
) -> Routes | None:
    """Return as rows of which of its data sets a teacher can take a run's prepared rows.

    Args:
        predictor: the teacher.
        tasks: of the teacher, those wanted.
        modalities: of the rows.
        here: {modality: how the run prepares raw values}.

    Returns:
        None if it prepares them otherwise, or needs more modalities than there are.
    """
    routes = predictor.routes(modalities, tasks)
    needed = {m for name in routes for m in predictor.inputs[name]}
    if not needed <= set(modalities):
        return None
    same = all(prepared_alike(predictor.modalities[m], here[m]) for m in needed)
    return routes if same else None


def prepared_alike(first: Modality, second: Modality) -> bool:
    """Say whether two modalities make the same inputs of the same raw values."""
    return type(first) is type(second) and what_it_does(first) == what_it_does(second)


def what_it_does(modality: Modality) -> tuple[Mapping[str, Any], ...]:
    """Return all that prepared inputs depend on besides the raw values."""
    return modality.options(), modality.state_dict(), modality.encoder_arguments()


class LiveOutputs:
    """Runs a teacher on a step's rows.

    It is no module, so it has no part in the run's weights, modes and checkpoints.

    Args:
        predictor: the teacher, in evaluation mode.
        routes: {data set of the teacher: its tasks}.
    """

    def __init__(self, predictor: Predictor, routes: Routes) -> None:
        self.predictor = predictor
        self.routes = routes
        self._last: tuple[Batch, dict[str, tuple[Tensor, Tensor]]] | None = None

    def rows(self, task: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return a task's outputs (n, ...) for rows, and which have some, (n,) bool."""
        if self._last is None or self._last[0] is not batch:
            self._last = batch, self._run(batch)
        return self._last[1][task]

    @torch.no_grad()
    def _run(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        network = self.predictor.network.to(batch.index.device)
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for name, tasks in self.routes.items():
            names = list(self.predictor.inputs[name])
            own = only(batch, names)
            routes = dict.fromkeys(tasks, (name,))
            outputs = network.predict(network.encode({name: own}, routes), routes)
            every = torch.ones_like(batch.index, dtype=torch.bool)
            has = torch.stack([batch.has.get(m, every) for m in names]).any(dim=0)
            found |= {task: (output, has) for task, output in outputs.items()}
        return found


def only(batch: Batch, modalities: Sequence[str]) -> Batch:
    """Return a batch with some of its modalities, and without labels."""
    return Batch(
        {m: batch.inputs[m] for m in modalities},
        {},
        {},
        batch.index,
        {m: has for m, has in batch.has.items() if m in modalities},
    )
