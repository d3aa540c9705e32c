"""Training rows that are like the explained ones to a task, from the data that a run knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.checkpoints import read_spec, require_training_config
from lightning_modules.explanation.features import row_features
from lightning_modules.predictor import Predictor
from lightning_modules.rebuilding import rebuilding
from pipeline.build import build_datamodule
from pipeline.explanation.findings import TrainingExample
from pipeline.pages.pictures import map_picture, pixel_picture, text_of
from pollinate.errors import PollinateError

MOST = 2000  # training rows of a task that are looked at, evenly spaced
LONGEST = 240  # characters of a text
PICTURES: Mapping[str, Callable[[Tensor], str]] = {"image": pixel_picture, "audio": map_picture}


class TrainingRows:
    """The training split of a checkpoint's run.

    Args:
        checkpoint: written by ``pipeline.fit``.
        predictor: of it.
        allow_targets: packages, besides our own, whose classes the checkpoint may name.
        batch_size: rows at a time.

    Raises:
        PollinateError: the data are gone or changed, or the checkpoint doesn't know them.
    """

    def __init__(
        self,
        checkpoint: Path,
        predictor: Predictor,
        allow_targets: Sequence[str],
        batch_size: int,
    ) -> None:
        spec = read_spec(checkpoint)
        require_training_config(spec, checkpoint)
        config = {**spec["config"], "allow_targets": list(allow_targets)}
        with rebuilding(checkpoint):
            datamodule = build_datamodule(config, spec["learnt"])
        try:
            datamodule.setup()
        except OSError as error:
            raise PollinateError(str(error)) from error
        self.data: MixedDataModule = datamodule
        self.predictor = predictor
        self.batch_size = batch_size
        self._known: dict[str, tuple[list[tuple[str, int]], Tensor]] = {}

    def nearest(self, task: str, features: Tensor, count: int) -> list[list[TrainingExample]]:
        """Return the training rows most like some rows, the most alike first.

        Args:
            task: to which they are alike.
            features: (n, D) of the rows, as of ``row_features``.
            count: of training rows.
        """
        rows, known = self._features(task)
        if not rows:
            return [[] for _ in features]
        values, places = (features @ known.T).topk(min(count, len(rows)), dim=1)
        return [
            [
                self._example(task, rows[place], value)
                for value, place in zip(own, where, strict=True)
            ]
            for own, where in zip(values.tolist(), places.tolist(), strict=True)
        ]

    def seen(self, task: str) -> tuple[int, int]:
        """Return how many labelled training rows of a task were looked at, and how many are."""
        return len(self._features(task)[0]), len(self._labelled(task))

    def _labelled(self, task: str) -> list[tuple[str, int]]:
        parts = self.data.parts["train"]
        return [
            (name, int(row))
            for name in self.data.tasks[task].datasets
            if name in parts and task in parts[name].present
            for row in np.flatnonzero(parts[name].present[task].numpy())
        ]

    def _features(self, task: str) -> tuple[list[tuple[str, int]], Tensor]:
        if task not in self._known:
            every = self._labelled(task)
            step = max(1, -(-len(every) // MOST))
            rows, found = every[::step], []
            by_dataset: dict[str, list[int]] = {}
            for name, row in rows:
                by_dataset.setdefault(name, []).append(row)
            ordered = []
            for name, own in by_dataset.items():
                part = self.data.parts["train"][name]
                lengths = part.lengths()
                if lengths is not None:  # little padding
                    own = [own[n] for n in np.argsort(lengths[own], kind="stable")]
                ordered += [(name, row) for row in own]
                for start in range(0, len(own), self.batch_size):
                    batch = part.batch(np.array(own[start : start + self.batch_size]))
                    features = row_features(self.predictor.network, task, name, batch)
                    assert features is not None
                    found.append(features.cpu())
            self._known[task] = ordered, torch.cat(found) if found else torch.zeros(0, 0)
        return self._known[task]

    def _example(self, task: str, where: tuple[str, int], similarity: float) -> TrainingExample:
        dataset, row = where
        loaded = self.data.loaded[dataset]
        part = self.data.parts["train"][dataset]
        place = int(part.rows[row])
        known = self.data.tasks[task].modalities  # pairs have no label
        label = "" if known else text_of(loaded.targets[task], place)
        shown: list[dict[str, Any]] = []
        for modality, store in part.stores.items():
            if modality == "text" and store.has[place]:
                shown.append({"text": text_of(loaded.inputs[modality], place)[:LONGEST]})
            elif modality in PICTURES and store.has[place]:
                values = store.rows(np.array([place]))[0]
                shown.append({"picture": PICTURES[modality](values)})
        return TrainingExample(dataset, loaded.table.place(place), similarity, label, tuple(shown))
