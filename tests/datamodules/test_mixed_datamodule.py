"""Several data sets become one mixed batch a step."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch

from datamodules.dataset import Dataset
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.text import TextModality
from pollinate.errors import PollinateError
from tests.tiny import TinySource, datamodule, images, labels, ready, task, texts, words

BY_COLUMN = {"column": "part"}


def parted(label: list[Any], part: list[str]) -> Dataset:
    """Texts with the given labels in the given splits."""
    source = TinySource(text=words(len(label)), label=label, part=part)
    return Dataset(source, inputs={"text": "text"}, split=BY_COLUMN)


def refusal(module: MixedDataModule) -> str:
    with pytest.raises(PollinateError) as caught:
        module.setup()
    return str(caught.value)


@pytest.mark.parametrize(
    ("spec", "target", "message"),
    [
        (
            Dataset(texts().source, inputs={"text": "body"}, split=BY_COLUMN),
            "label",
            "data set notes: inputs.text names the column 'body', "
            "which is not in memory; columns: text, label",
        ),
        (
            texts(),
            "stars",
            "data set notes: target of task tone names the column 'stars', "
            "which is not in memory; columns: text, label",
        ),
        (
            parted(["a", "b", "a"], ["train", "train", "test"]),
            "text",
            "task tone: data set notes has labels in test that the training split lacks: "
            "word word n2 (first in row 3); add training rows of them, or don't count them: "
            "unseen=drop (data.tasks.tone.unseen=drop)",
        ),
        (
            parted(["a", "b"], ["test", "valid"]),
            "label",
            "data set notes has no training rows (rows: train 0, valid 1, test 1); check its "
            "split, or leave the data set out",
        ),
        (
            parted(["a", "a", "b"], ["train", "train", "test"]),
            "label",
            "task tone: classes must be >= 2 in the training split, got 1 (a); "
            "check target and split",
        ),
        (
            parted([None, None], ["train", "train"]),
            "label",
            "task tone: classes must be >= 2 in the training split, got 0 (no labels at all); "
            "check target and split",
        ),
    ],
)
def test_unusable_data_are_named(spec: Dataset, target: str, message: str) -> None:
    assert refusal(datamodule({"notes": spec}, {"tone": task("notes", target=target)})) == message


def test_empty_labels_are_not_present() -> None:
    label = ["no", "yes", None, float("nan"), "", "  ", "no", "yes"]
    part = ["train"] * 6 + ["valid", "test"]
    found = ready({"notes": parted(label, part)}, {"tone": task("notes")}).parts["train"]["notes"]
    assert found.present["tone"].tolist() == [True, True, False, False, False, False]
    assert found.targets["tone"][:2].tolist() == [0, 1]


def test_sizes_are_those_of_the_training_split() -> None:
    module = ready()
    assert module.sizes == {"notes": 20, "shapes": 12}
    assert module.epoch_steps == 4  # 32 rows, 8 a step


def test_a_task_of_two_data_sets_has_one_vocabulary() -> None:
    one = texts(label=labels(40, ("no", "yes")))
    other = texts(label=labels(40, ("yes", "maybe")))
    module = ready({"one": one, "other": other}, {"tone": task("one", "other")})
    assert module.tasks["tone"].classes == ["maybe", "no", "yes"]
    first = {
        name: part.targets["tone"].unique().tolist() for name, part in module.parts["train"].items()
    }
    assert first == {"one": [1, 2], "other": [0, 2]}


def test_the_tokenizer_sees_training_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    fit = TextModality.fit
    monkeypatch.setattr(
        TextModality,
        "fit",
        lambda self, c: (seen.extend(v for part in c for v in part), fit(self, c)),
    )
    module = ready({"notes": texts(), "shapes": images()})
    loaded = module.loaded["notes"]
    assert sorted(seen) == sorted(loaded.input("text", "train"))
    assert not set(seen) & set(loaded.input("text", "test"))


def test_the_vocabulary_does_not_depend_on_test_rows() -> None:
    part = ["train"] * 10 + ["valid", "test"]
    specs = [parted(labels(12), part) for _ in range(2)]
    specs[1].source = TinySource(
        text=[*words(10), "zzz zzz", "zzz zzz"], label=labels(12), part=part
    )
    states = [ready({"notes": s}, {"t": task("notes")}).learnt_state()["modalities"] for s in specs]
    assert states[0] == states[1]


def test_what_was_learnt_is_taken_over() -> None:
    first = ready()
    again = ready(learnt=first.learnt_state())
    assert again.learnt_state() == first.learnt_state()
    for name, part in first.parts["test"].items():
        assert torch.equal(part.targets[name], again.parts["test"][name].targets[name])


def test_changed_data_are_not_resumed() -> None:
    learnt = ready().learnt_state()
    changed = {"notes": texts(label=labels(40, ("yes", "no"))), "shapes": images()}
    assert refusal(datamodule(changed, learnt=learnt)).startswith(
        "the data of notes changed since the run was started"
    )


def test_setup_loads_once() -> None:
    module = ready()
    before = module.parts
    module.setup("fit")
    assert module.parts is before


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_made_later_goes_on(workers: int) -> None:
    module, second = ready(workers=workers), ready(workers=workers)
    expected = [batch.batches["notes"].index.tolist() for batch in ready().train_dataloader()]
    list(islice(module.train_dataloader(), 2))
    assert module.state_dict()["position"] == 2
    second.load_state_dict(module.state_dict())
    found = [batch.batches["notes"].index.tolist() for batch in second.train_dataloader()]
    assert found[:2] == expected[2:]
    assert len(found) == module.epoch_steps


def test_workers_do_not_change_the_data() -> None:
    for one, other in zip(*(ready(workers=w).train_dataloader() for w in (0, 2)), strict=True):
        for name, batch in one.batches.items():
            for modality, values in batch.inputs.items():
                assert torch.equal(values, other.batches[name].inputs[modality])


@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluation_has_every_row_once(split: str) -> None:
    module = ready()
    loader = {"valid": module.val_dataloader, "test": module.test_dataloader}[split]()
    seen = [
        (name, row)
        for step in loader
        for name, batch in step.batches.items()
        for row in batch.index.tolist()
    ]
    assert len(seen) == len(set(seen)) == 10 + 6
    assert len(list(loader)) == len(loader) == 2


def test_a_data_set_without_task_is_loaded() -> None:
    module = ready({"notes": texts(), "extra": texts()}, {"tone": task("notes")})
    assert module.parts["train"]["extra"].targets == {}
    assert module.sizes["extra"] == 20
