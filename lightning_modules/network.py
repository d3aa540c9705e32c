"""Encoders, fusion, trunk and heads: rows in, every task's output out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import nan

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.batch import Batch
from lightning_modules.encoders.base import Encoder
from lightning_modules.features import Features, PooledOnly, together
from lightning_modules.fusions.base import Fusion
from lightning_modules.trunks.base import Routes, Trunk
from lightning_modules.tuning.base import Tuning
from lightning_modules.views.base import Seen, View
from lightning_modules.views.rows import RowView

ROWS = RowView()
PLUS = "+"  # between the names of modalities
Tap = Callable[[str, Tensor], Tensor]


def untouched(task: str, rows: Tensor) -> Tensor:
    """Let a head read the shared rows."""
    return rows


class MultiTaskNetwork(nn.Module):
    """One model for all tasks.

    Args:
        encoders: {modality: its encoder}.
        trunk: how the tasks share.
        heads: {task: output layer}.
        routes: {task: data sets whose rows it is predicted from}.
        fusions: {``combination`` of modalities: how they become one vector a row}.
        views: {task: as what it sees the rows}; default: one vector a row.
        tunings: {modality: how much of its encoder trains}; they were applied.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        routes: Routes,
        fusions: Mapping[str, Fusion] | None = None,
        views: Mapping[str, View] | None = None,
        tunings: Mapping[str, Tuning] | None = None,
    ) -> None:
        super().__init__()
        self.tunings = dict(tunings or {})
        self.encoders = nn.ModuleDict(dict(encoders))
        self.fusions = nn.ModuleDict(dict(fusions or {}))
        self.trunk = trunk
        self.heads = nn.ModuleDict(dict(heads))
        self.routes = {task: tuple(names) for task, names in routes.items()}
        self.views = {task: (views or {}).get(task, ROWS) for task in heads}

    def forward(
        self,
        batches: Mapping[str, Batch],
        tasks: Sequence[str] | None = None,
        tap: Tap = untouched,
        apart: bool = False,
    ) -> dict[str, Tensor]:
        """Predict.

        Args:
            batches: {data set: rows}.
            tasks: the tasks wanted; None: every task that a data set in ``batches`` is for.
            tap: what each head reads in place of its shared rows: (task, rows) -> rows.
            apart: whether tasks that have no data set in common go through graphs of their own.

        Returns:
            {task: (N, ...)}, rows of the task's data sets in the order of its route.
        """
        wanted = self.heads if tasks is None else tasks
        routes = {task: self.routes[task] for task in wanted}
        outputs: dict[str, Tensor] = {}
        for names in separate(routes) if apart else [list(batches)]:
            own = {name: batches[name] for name in names if name in batches}
            if own:
                outputs |= self.predict(self.encode(own), routes, tap)
        return outputs

    def predict(
        self, seen: Mapping[str, Seen], routes: Routes, tap: Tap = untouched
    ) -> dict[str, Tensor]:
        """Send encoded rows through trunk and heads.

        Args:
            seen: {data set: its rows}.
            routes: {task: data sets}; those that are not in ``seen`` are left out.
            tap: as for ``forward``.
        """
        # all rows go through, wanted or not: which parameters a step reaches must not depend on it
        groups = {name: one.fused for name, one in seen.items()}
        paths: dict[str, list[str]] = {}
        for task, names in routes.items():
            for name in names:
                if name in seen:
                    for group, own in self.views[task].groups(seen[name]).items():
                        key = f"{name}:{group}" if group else name
                        groups.setdefault(key, own)
                        paths.setdefault(task, []).append(key)
        outputs = {}
        for task, parts in self.trunk(groups, paths).items():
            read = [tap(task, rows) for rows in parts]
            rows = torch.cat(read) if len(read) > 1 else read[0]
            read_from = [seen[name] for name in routes[task] if name in seen]
            outputs[task] = self.views[task].output(self.heads[task], rows, read_from)
        return outputs

    def encode(self, batches: Mapping[str, Batch]) -> dict[str, Seen]:
        """Encode all rows of a modality in one call, part them by data set again, and fuse."""
        features: dict[str, dict[str, Features]] = {name: {} for name in batches}
        for modality in self.encoders:
            names = [n for n, b in batches.items() if modality in b.inputs or modality in b.kept]
            if names:
                encoded = encode(self.encoder(modality), modality, [batches[n] for n in names])
                for name, own in zip(names, encoded, strict=True):
                    features[name][modality] = own
        return {
            n: Seen(self._fuse(own, batches[n]), own, batches[n]) for n, own in features.items()
        }

    def encoder(self, modality: str) -> Encoder:
        """Return a modality's encoder."""
        found = self.encoders[modality]
        assert isinstance(found, Encoder)
        return found

    def _fuse(self, features: Mapping[str, Features], batch: Batch) -> Features:
        if len(features) == 1:
            return next(iter(features.values()))
        all_rows = torch.ones_like(batch.index, dtype=torch.bool)
        has = {name: batch.has.get(name, all_rows) for name in features}
        return Features(self.fusions[combination(features)](features, has))

    def reads_tokens(self, modality: str) -> bool:
        """Say whether any part looks at more of a modality's features than the pooled vectors."""
        fusions = [part for name, part in self.fusions.items() if modality in name.split(PLUS)]
        found = [part.reads_tokens for part in (self.trunk, *fusions)]
        return any(found) or any(modality in view.reads_tokens_of for view in self.views.values())

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that several tasks' gradients reach."""
        yield from self.encoders.parameters()
        yield from self.fusions.parameters()
        yield from self.trunk.shared_parameters()

    def tasks_share_rows(self) -> bool:
        """Say whether all tasks read the same features of the same data sets."""
        return len({(self.routes[t], type(self.views[t])) for t in self.routes}) == 1

    def tasks_share_features(self) -> bool:
        """Say whether all tasks' heads read the same tensors."""
        return self.trunk.same_for_all and self.tasks_share_rows()


def separate(routes: Routes) -> list[list[str]]:
    """Part data sets so that no task has some in two parts: the fewest data sets in each."""
    parts: list[list[str]] = []
    for names in routes.values():
        touched = [part for part in parts if set(part) & set(names)]
        merged = dict.fromkeys(name for part in [*touched, list(names)] for name in part)
        parts = [part for part in parts if part not in touched] + [list(merged)]
    return parts


def combination(modalities: Iterable[str]) -> str:
    """Return the name of several modalities together: ``image+text``."""
    return PLUS.join(sorted(modalities))


def encode(encoder: Encoder, modality: str, batches: Sequence[Batch]) -> list[Features]:
    """Return each batch's features, from its inputs or from what was kept of a frozen backbone."""
    kept = [batch.kept[modality] for batch in batches if modality in batch.kept]
    if not kept:
        inputs = [batch.inputs[modality] for batch in batches]
        return part(encoder(join(inputs)), [len(rows) for rows in inputs])
    finished = encoder.finish(together([one.features for one in kept]))
    found = part(finished, [len(one.features.pooled) for one in kept])
    pairs = zip(found, kept, strict=True)
    return [own if one.whole else PooledOnly(own.pooled) for own, one in pairs]


def join(inputs: Sequence[Tensor]) -> Tensor:
    """Concatenate the rows of several data sets: (N_i, ...) -> (sum N_i, ...).

    Token ids (N_i, L_i) are padded with 0, frames (N_i, L_i, F) with NaN, to the longest.
    """
    if len(inputs) == 1:
        return inputs[0]
    longest = max(rows.shape[1] for rows in inputs)
    if inputs[0].dim() == 2:
        inputs = [functional.pad(rows, (0, longest - rows.shape[1])) for rows in inputs]
    elif inputs[0].dim() == 3:
        inputs = [
            functional.pad(rows, (0, 0, 0, longest - rows.shape[1]), value=nan) for rows in inputs
        ]
    return torch.cat(list(inputs))


def part(features: Features, sizes: Sequence[int]) -> list[Features]:
    """Undo ``join``: features of sum(sizes) rows -> one Features a size."""

    def split(rows: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * len(sizes) if rows is None else torch.split(rows, list(sizes))

    pooled = torch.split(features.pooled, list(sizes))
    rest = map(split, (features.sequence, features.grid, features.mask))
    return [Features(*parts) for parts in zip(pooled, *rest, strict=True)]
