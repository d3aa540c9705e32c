"""Small networks built by hand, and rows for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pollinate as po
from datamodules.batch import Batch
from datamodules.modalities.text_pieces import TextPieces, text_pieces
from lightning_modules.encoders.base import Encoder
from lightning_modules.explanation.explained_rows import ExplainedRows, ExplainedTask
from lightning_modules.predictor import RowBatch
from lightning_modules.task_network import TaskNetwork
from lightning_modules.tasks.base import Task

DIM = 8
DATA = "data"


def task(**options: Any) -> po.tasks.Classification:
    return po.tasks.Classification(DATA, "label", classes=["a", "b", "c"], **options)


def network(
    encoders: Mapping[str, Encoder], kind: Task, seed: int = 0, **more: Any
) -> po.MultiTaskNetwork:
    """One task's network, its weights drawn, that answers rows of one data set."""
    torch.manual_seed(seed)
    found = po.MultiTaskNetwork(
        encoders=encoders,
        trunk=po.trunks.SharedTrunk(["kind"], DIM),
        heads={"kind": kind.head(DIM)},
        routes={"kind": [DATA]},
        views={"kind": kind.view},
        **more,
    )
    for name, parameter in found.named_parameters():
        if parameter.dim() > 1 or "token" in name or "pair" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    for layer in found.modules():
        if isinstance(layer, torch.nn.Embedding) and layer.padding_idx is not None:
            torch.nn.init.zeros_(layer.weight[layer.padding_idx])
    return found.eval()


def explained(network: TaskNetwork, kind: Task) -> ExplainedTask:
    scores = kind.answer_scores()
    assert scores is not None
    return ExplainedTask(network, "kind", kind, scores)


def given(**inputs: Tensor) -> RowBatch:
    """Rows that all have the same modalities."""
    count = len(next(iter(inputs.values())))
    batch = Batch(dict(inputs), {}, {}, torch.arange(count))
    return RowBatch([*range(count)], DATA, batch, {"kind": (DATA,)}, frozenset(inputs))


def words_of_ids(ids: Tensor) -> list[TextPieces]:
    """Texts in which each token is a word of its own; ids below 3 are no words."""
    found = []
    for row in ids.tolist():
        real = [number for number in row if number]
        names = [f"w{number}" for number in real]
        ends = np.cumsum([len(name) + 1 for name in names]) - 1
        starts = ends - [len(name) for name in names]
        spans = np.stack([starts, ends], axis=1)
        spans[np.array(real) < 3] = -1
        found.append(text_pieces(" ".join(names), spans))
    return found


def rows(network: TaskNetwork, kind: Task, **inputs: Tensor) -> ExplainedRows:
    texts = {"text": words_of_ids(inputs["text"])} if "text" in inputs else {}
    return ExplainedRows(explained(network, kind), given(**inputs), texts)


def total(pieces: Mapping[str, Sequence[Tensor]], row: int) -> float:
    return sum(float(own[row].double().sum()) for own in pieces.values())
