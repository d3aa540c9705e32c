"""What can't be compared is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lightning_modules.transfer.adaptors import Adaptors
from lightning_modules.transfer.attention_transfer import AttentionTransfer
from lightning_modules.transfer.base import Transfer
from lightning_modules.transfer.cka import CKA
from lightning_modules.transfer.hints import Hints
from lightning_modules.transfer.pairs import Pair
from lightning_modules.transfer.relational import Relational
from lightning_modules.trunks.mmoe import MMoE
from lightning_modules.tuning.frozen import Frozen
from pipeline.errors import UsageError
from tests.lightning_modules.transfer.features.runs import BOTH, Run, run
from tests.lightning_modules.transfer.sources import One, source_of
from tests.tiny import DIM, texts

BAD: dict[str, tuple[Callable[[], Transfer], Callable[[], Run], str]] = {
    "weight": (lambda: Hints("a", weight=-1.0), lambda: run(2), "weight must be >= 0, got -1.0"),
    "until": (lambda: Hints("a", until=0), lambda: run(2), "until must be >= 1 optimizer step"),
    "at": (
        lambda: Hints("a", "pool"),
        lambda: run(2),
        "at must be pooled or sequence or grid or representation, got pool",
    ),
    "at of a task": (lambda: CKA("task:a", "pooled"), lambda: run(2), "for task:a, got pooled"),
    "attention of a task": (
        lambda: AttentionTransfer("task:a"),
        lambda: run(2),
        "source must be another model, got task:a",
    ),
    "modalities of heads": (
        lambda: Hints("a", "representation", ["text"]),
        lambda: run(2),
        "name transfer.tasks, or set at=pooled",
    ),
    "tasks of encoders": (
        lambda: Hints("a", tasks=["notes"]),
        lambda: run(2),
        "name transfer.modalities, or set at=representation",
    ),
    "modality": (
        lambda: Hints("a", modalities=["texts"]),
        lambda: run(2),
        "this run reads no texts; did you mean text?",
    ),
    "own task": (
        lambda: Hints("a", "representation", tasks=["note"]),
        lambda: run(2),
        "this run has no task 'note'; did you mean notes?",
    ),
    "no task": (
        lambda: Hints("a", "representation"),
        lambda: run(2, datasets={"memo": texts()}),
        "it has notes, shapes: say which teaches which, transfer.tasks={memo: ",
    ),
    "teacher's task": (
        lambda: Adaptors({"memo": "a"}),
        lambda: run(2, datasets={"memo": texts()}),
        "runs/a has no task 'memo'",
    ),
    "no teachers": (lambda: Adaptors({}), lambda: run(2), "transfer.teachers={TASK: RUN, ...}"),
    "grid of texts": (
        lambda: Hints("a", "grid", ["text"]),
        lambda: run(2),
        "encoder.text gives no grid; set transfer.at=pooled or sequence",
    ),
    "same trunk": (lambda: Hints("task:mood"), lambda: run(2, **BOTH), "choose trunk=mmoe, say"),
    "no such sibling": (lambda: Hints("task:moon"), lambda: run(2, **BOTH), "did you mean mood?"),
    "angles": (lambda: Relational("a", angles=-1.0), lambda: run(2), "angles must be >= 0"),
    "rows": (lambda: Relational("a", rows=2), lambda: run(2), "rows must be >= 3, got 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_named(name: str, source: One) -> None:
    make, runs, message = BAD[name]
    module, data = runs()
    with pytest.raises(UsageError) as error:
        make().setup(module, data, source)
    assert message in str(error.value)


@pytest.mark.parametrize("single", ["own", "other"])
def test_attention_of_one_cell_says_nothing(single: str) -> None:
    sides = {"own": (4, 4), "other": (4, 4)} | {single: (1, 1)}
    features = {whose: torch.randn(2, 3, *side) for whose, side in sides.items()}
    with pytest.raises(UsageError, match=r"image: .* grid must have 2 cells or more, got 1"):
        AttentionTransfer("a").fit_to("image", Pair(**features, rows=2))


def test_siblings_need_the_same_rows() -> None:
    module, data = run(2)
    module.network.trunk = MMoE(["notes", "shapes"], DIM)
    with pytest.raises(UsageError, match=r"another task must read the same data sets as notes"):
        Hints("task:notes").setup(module, data, One(source_of(module, data)))
    with pytest.raises(UsageError, match=r"task shapes must read the same data sets as notes"):
        Hints("task:notes", tasks=["shapes"]).setup(module, data, One(source_of(module, data)))


def test_features_that_are_kept_are_refused(source: One) -> None:
    module, data = run(2)
    module.network.tunings["text"] = Frozen()
    with pytest.raises(UsageError, match=r"set encoder\.text\.tune\.cache=false"):
        Hints("a").setup(module, data, source)
