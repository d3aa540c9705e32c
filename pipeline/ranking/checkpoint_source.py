"""A checkpoint of this project as a source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_modules.copies import readable
from lightning_modules.features import Features
from lightning_modules.transfer.source import refuse_ensemble
from lightning_modules.transferability.base import Absent
from pipeline.prediction.predictor import EncodedRows, Predictor
from pipeline.ranking.source import Block, Represented, Source
from pipeline.ranking.target import Cells
from pipeline.spec import read_spec


class CheckpointSource(Source):
    """Features are what the trunk makes of the rows for each head, as the heads read them.

    Args:
        name: as the user wrote it.
        checkpoint: written by ``pipeline.fit``.
        allow_targets: packages, besides our own, whose classes it may name.

    Raises:
        UsageError: it is an ensemble.
    """

    def __init__(self, name: str, checkpoint: Path, allow_targets: Sequence[str] = ()) -> None:
        self.name = name
        self.checkpoint = checkpoint
        spec = read_spec(checkpoint)
        refuse_ensemble(name, spec)
        self.predictor = Predictor.load(checkpoint, allow_targets)
        self.modalities = tuple(self.predictor.modalities)
        labelled = spec["learnt"].get("labelled")
        self.rows = (
            Absent("its checkpoint is of a version that didn't count them")
            if labelled is None
            else sum(labelled.values())
        )

    def reads(self, modalities: Sequence[str]) -> bool:
        """Say whether one of its tasks can be answered from such rows."""
        return bool(self.predictor.answerable(modalities))

    def parameters(self, modalities: Sequence[str]) -> int:
        """Count the encoders of the modalities, the fusions and the trunk."""
        network = self.predictor.network
        own = [network.encoder(name) for name in self.modalities if name in modalities]
        parts = torch.nn.ModuleList([*own, network.fusions, network.trunk])
        return sum(weight.numel() for weight in parts.parameters())

    def represent(self, columns: Cells, batch_size: int) -> Represented:
        """Encode rows; those that can't be read are left out."""
        tasks = self.predictor.answerable(list(columns))
        features: dict[str, dict[int, Tensor]] = defaultdict(dict)
        said: dict[str, dict[int, Tensor]] = defaultdict(dict)
        for encoded in self.predictor.encoded(columns, tasks, batch_size, {}):
            for part, rows in self._features(encoded).items():
                features[part].update(zip(encoded.rows, rows, strict=True))
            for head, rows in self._probabilities(encoded).items():
                said[head].update(zip(encoded.rows, rows, strict=True))
        return Represented(
            {part: block(rows) for part, rows in features.items()},
            {
                task: block(said[task])
                if task in said
                else Absent(f"its task {task} has no classes of which a row has one")
                for task in tasks
            },
        )

    def _features(self, encoded: EncodedRows) -> dict[str, Tensor]:
        """Return {part: (n, D)}, of whole rows also for heads that look at words or cells."""
        network = self.predictor.network
        groups: dict[str, Features] = {}
        paths = {}
        for task, names in encoded.routes.items():
            keys = readable(encoded.seen, task, names)
            groups |= {key: encoded.seen[key].fused for key in keys}
            paths[task] = list(keys)
        with torch.inference_mode():
            found = {task: torch.cat(list(r)) for task, r in network.trunk(groups, paths).items()}
        if network.trunk.same_for_all and not network.adapted():
            (name,) = encoded.seen
            return {name: next(iter(found.values()))}
        return found

    def _probabilities(self, encoded: EncodedRows) -> dict[str, Tensor]:
        """Return {head with classes: (n, S)}."""
        with torch.inference_mode():
            outputs = self.predictor.network.predict(encoded.seen, encoded.routes)
            found = {
                task: self.predictor.tasks[task].class_probabilities(output)
                for task, output in outputs.items()
            }
        return {task: rows for task, rows in found.items() if rows is not None}


def block(rows: Mapping[int, Tensor]) -> Block:
    """Return {row: (D,)} as a block."""
    order = sorted(rows)
    values = torch.stack([rows[row] for row in order]).double()
    return Block(np.array(order, dtype=np.int64), values)
