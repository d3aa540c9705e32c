"""What each type of task makes of cells, and what it answers."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from lightning_modules.tasks.base import Task
from lightning_modules.tasks.classification import Classification
from lightning_modules.tasks.depth import Depth
from lightning_modules.tasks.multilabel import Multilabel
from lightning_modules.tasks.ordinal import Ordinal
from lightning_modules.tasks.regression import Regression
from lightning_modules.tasks.retrieval import Recall, Retrieval, partner_ranks
from lightning_modules.tasks.segmentation import Segmentation
from lightning_modules.tasks.tagging import Tagging, entity_spans
from pollinate.errors import PollinateError, UsageError


def learnt(task: Any, values: list[Any]) -> Any:
    task.learn(values)
    return task


EXAMPLES: dict[str, tuple[Task, list[Any]]] = {
    "classification": (Classification(), ["a", "b", None]),
    "multilabel": (Multilabel(none="-"), ["a|b", "-", None, "b"]),
    "regression": (Regression(), ["1", 2.5, None]),
    "ordinal": (Ordinal(), [1, 3, None, 2]),
    "tagging": (Tagging(), ["O B-x", None, "O"]),
    "retrieval": (Retrieval(), [True, None, True]),
    "segmentation": (Segmentation(), [np.array([[1, 4]]), None, np.array([[0, 1]])]),
    "depth": (Depth(), [np.array([[0.0, 2.0]]), None, np.array([[3.0, 0.5]])]),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_state_is_plain_and_comes_back(name: str) -> None:
    task, values = EXAMPLES[name]
    task.learn(values)
    other = type(task)()
    other.load_state_dict(task.state_dict())
    assert other.state_dict() == task.state_dict()
    one, two = task.encode(values), other.encode([None if str(v) == "-" else v for v in values])
    kept = [row for row, value in enumerate(values) if not isinstance(value, str) or value != "-"]
    assert torch.equal(one.targets[kept], two.targets[kept])
    assert one.present.tolist() == [value is not None for value in values]


@pytest.mark.parametrize("name", EXAMPLES)
def test_cells_have_the_types_they_say(name: str) -> None:
    task, values = EXAMPLES[name]
    task.learn(values)
    assert task.cells(None).keys() == task.cell_types().keys()
    assert all(cell is None for cell in task.cells(None).values())


@pytest.mark.parametrize("name", ["classification", "multilabel", "regression", "ordinal"])
def test_head_loss_and_metrics_fit_together(name: str) -> None:
    task, values = EXAMPLES[name]
    task.learn(values)
    encoded = task.encode(values)
    output = task.head(4)(torch.randn(len(values), 4))
    assert task.loss(output, encoded.targets).shape == (len(values),)
    metrics = task.metrics()
    labelled = encoded.present
    target = encoded.targets[labelled]
    metrics.update(
        task.metric_input(output[labelled]), target.int() if name == "multilabel" else target
    )
    assert task.score in metrics.compute()
    assert len(task.decode(output)) == len(values)


def test_balanced_weights_make_classes_count_alike() -> None:
    labels = ["a"] * 9 + ["b"]
    task = learnt(Classification(class_weights="balanced"), labels)
    encoded = task.encode(labels)
    loss = task.loss(torch.zeros(10, 2), encoded.targets)
    assert loss.mean().item() == pytest.approx(math.log(2))  # the mean weight is 1
    assert loss[:9].sum().item() == pytest.approx(loss[9].item())


def test_given_weights_are_relative() -> None:
    labels = ["a"] * 5 + ["b"] * 5
    task = learnt(Classification(class_weights={"b": 3}), labels)
    loss = task.loss(torch.zeros(10, 2), task.encode(labels).targets) / math.log(2)
    assert loss[0].item() == pytest.approx(0.5)
    assert loss[9].item() == pytest.approx(1.5)


def test_unknown_weights_are_named() -> None:
    task = learnt(Classification(class_weights={"grate": 3}), ["great", "other"])
    with pytest.raises(PollinateError, match="names 'grate'; did you mean great"):
        task.loss(torch.zeros(1, 2), torch.tensor([0]))


def test_focal_loss_is_the_equation() -> None:
    logits, target = torch.randn(6, 3, requires_grad=True), torch.tensor([0, 1, 2, 0, 1, 2])
    task = learnt(Classification(focal=2.0), list("abc"))
    right = logits.softmax(dim=1)[range(6), target]
    expected = -((1 - right) ** 2) * right.log()
    found = task.loss(logits, target)
    assert torch.allclose(found, expected, atol=1e-6)
    found.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_focal_loss_of_a_sure_answer_has_a_finite_gradient() -> None:
    logits = torch.tensor([[60.0, 0.0]], requires_grad=True)
    learnt(Classification(focal=0.5), ["a", "b"]).loss(logits, torch.tensor([0])).sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    "options", [{"focal": -1.0}, {"class_weights": "some"}, {"class_weights": {"a": 0}}]
)
def test_wrong_options_are_refused(options: Any) -> None:
    with pytest.raises(UsageError):
        Classification(**options)


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("a|b", ["a", "b"]),
        (" a | ", ["a"]),
        ("-", []),
        ([], []),
        (["a", None, 3.0], ["a", "3"]),
        (None, None),
        ("", None),
        ({"a": 1, "b": "0"}, ["a"]),
        ({"a": None, "b": ""}, None),
    ],
)
def test_labels_of_a_cell(cell: Any, labels: Any) -> None:
    assert Multilabel(none="-").labels(cell) == labels


def test_columns_must_be_zero_or_one() -> None:
    cells = [{"a": 1, "b": 2}, {"a": None, "b": 1}, {"a": "x", "b": 0}, {"a": 1, "b": 0}]
    found = Multilabel().problems(cells, {})
    assert found.keys() == {0, 1, 2}
    assert found[0] == "b must be 0 or 1, got 2"


def test_a_row_of_flags_is_no_list_of_labels() -> None:
    found = Multilabel().problems([[0, 1, 1], np.array([0, 0]), [1, 0], ["0", "2", "2"], None], {})
    assert found.keys() == {0, 1}
    assert found[0] == "must list the labels that apply, got a 0 or 1 for each: [0, 1, 1]"


@pytest.mark.parametrize("cell", [["a"], ("a", "b"), {"x": "0", "y": "1"}, np.array([0, 1])])
def test_several_labels_are_no_class(cell: Any) -> None:
    found = Classification().problems(["a", cell, None], {})
    assert found.keys() == {1}
    assert found[1].startswith("must be one label, got ")
    assert found[1].endswith("; for several use type: multilabel")


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("abc", "must be a number, got 'abc'; for words use type: classification"),
        ("3,5", "must be a number, got '3,5'; write 3.5, not 3,5"),
        ("nan", "must be finite, got nan; leave the cell empty if the row has no label"),
        (float("nan"), None),
        ("inf", "must be finite, got inf"),
        (" 3.5 ", None),
        (None, None),
        (np.float32(2), None),
        (Decimal("9.90"), None),
        (Decimal("NaN"), "must be finite, got nan"),
    ],
)
def test_numbers(cell: Any, problem: str | None) -> None:
    found = Regression().problems([1.0, cell], {})
    assert (found == {}) if problem is None else found[1].startswith(problem)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_the_scale_is_that_of_the_training_rows(values: list[float]) -> None:
    if np.std(values) < 1e-9 * (1 + abs(np.mean(values))):
        return
    task = learnt(Regression(), [str(value) for value in values])
    assert task.mean == pytest.approx(np.mean(values), rel=1e-6, abs=1e-6)
    assert task.std == pytest.approx(np.std(values), rel=1e-6, abs=1e-9)


def test_equal_targets_are_refused() -> None:
    with pytest.raises(PollinateError, match="the targets must differ, all 3 training rows have 2"):
        Regression().learn([2, 2.0, "2"])


def test_regression_does_not_depend_on_the_unit() -> None:
    values = [1.0, 2.0, 4.0]
    small, large = learnt(Regression(), values), learnt(Regression(), [1000 * v for v in values])
    one = small.loss(torch.tensor([1.5]), torch.tensor([2.0]))
    other = large.loss(torch.tensor([1500.0]), torch.tensor([2000.0]))
    assert torch.allclose(one, other)
    assert small.baseline(torch.tensor(values))["r2"] == pytest.approx(0.0, abs=1e-6)


def test_the_order_is_numeric_or_given() -> None:
    assert learnt(Ordinal(), ["10", "9", "2"]).classes == ["2", "9", "10"]
    graded = Ordinal(classes=["poor", "fair", "good"])
    assert learnt(graded, ["good", "poor"]).classes == ["poor", "fair", "good"]
    assert graded.problems(["bad"], {}) == {
        0: "must be one of the classes, got 'bad'; classes: poor, fair, good"
    }
    assert "must be a number" in Ordinal().problems(["bad"], {})[0]


def test_ordinal_answers_agree_with_their_probabilities() -> None:
    task = learnt(Ordinal(), [1, 2, 3])
    for answer in task.decode(torch.randn(20, 1) + torch.tensor([[1.0, -1.0]])):
        assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
        assert min(answer["probabilities"].values()) >= 0
    far = task.loss(torch.tensor([[5.0, 5.0]]), torch.tensor([0]))
    near = task.loss(torch.tensor([[5.0, -5.0]]), torch.tensor([0]))
    assert far > near


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-a I-a O", {("a", 1, 3)}),
        ("B-a B-a", {("a", 0, 1), ("a", 1, 2)}),
        ("I-a I-b", {("a", 0, 1), ("b", 1, 2)}),
        ("B-a I-b I-b", {("a", 0, 1), ("b", 1, 3)}),
        ("a a O b", {("a", 0, 2), ("b", 3, 4)}),
        ("O O", set()),
        ("B-a-b I-a-b", {("a-b", 0, 2)}),
    ],
)
def test_spans(tags: str, expected: set[Any]) -> None:
    assert set(entity_spans(tags.split())) == expected


def test_span_f1_by_hand() -> None:
    task = learnt(Tagging(), ["O B-a I-a B-b"])
    wanted = task.encode(["B-a I-a O", "B-b O"]).targets
    answers = task.encode(["B-a O O", "B-b O O"]).targets  # one end wrong, one entity right
    metrics = task.metrics()
    metrics.update(answers, wanted)
    found = metrics.compute()
    assert found["f1"].item() == pytest.approx(2 * 1 / (2 + 2))
    assert found["accuracy"].item() == pytest.approx(4 / 5)


def test_tags_must_be_as_many_as_words() -> None:
    found = Tagging().problems(["O O", "O", None], {"text": ["a b", "a b", "a b"]})
    assert found == {
        1: "must have one tag per word, got 1 tags for 2 words; words are separated by white space"
    }


def test_tagging_loss_is_the_mean_over_a_row_s_words() -> None:
    task = learnt(Tagging(), ["O x y"])
    logits, target = torch.randn(2, 3, 3), torch.tensor([[0, 1, 2], [2, -1, -1]])
    by_word = functional.cross_entropy(
        logits.flatten(0, 1), target.flatten().clamp(min=0), reduction="none"
    )
    found = task.loss(logits, target)
    assert found[0].item() == pytest.approx(by_word[:3].mean().item())
    assert found[1].item() == pytest.approx(by_word[3].item())


def test_ranks_by_hand_and_ties_in_the_middle() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert partner_ranks(first, first).tolist() == [0.0, 0.0]
    assert partner_ranks(first, first.flip(0)).tolist() == [1.0, 1.0]
    same = torch.ones(11, 4)
    assert partner_ranks(same, same).tolist() == [5.0] * 11  # constant vectors know nothing


def test_recall_over_chunks_is_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, whole, parts = torch.randn(50, 2, 4), Recall(5, 4), Recall(5, 4)
    whole.update(pairs, torch.zeros(50))
    monkeypatch.setattr("lightning_modules.tasks.retrieval.CHUNK", 7)
    for part in pairs.split(9):
        parts.update(part, torch.zeros(len(part)))
    assert parts.compute() == whole.compute()


def test_a_row_without_its_partner_is_no_wrong_answer() -> None:
    task = learnt(Retrieval(width=3), [True, True])
    pairs = torch.randn(4, 2, 3)
    lacking = torch.cat([pairs, torch.stack([torch.randn(3), torch.zeros(3)])[None]])
    target = torch.zeros(5)
    assert torch.allclose(task.loss(lacking, target)[:4], task.loss(pairs, target[:4]))


@pytest.mark.parametrize(
    ("task", "width", "targets"),
    [
        (Classification(classes=3), 3, torch.tensor([0, 2])),
        (Classification(classes=["a", "b"], class_weights={"a": 2.0}), 2, torch.tensor([0, 1])),
        (Multilabel(classes=3), 3, torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])),
        (Ordinal(classes=["low", "mid", "high"]), 2, torch.tensor([0, 2])),
        (Tagging(classes=["O", "B-x"]), 2, torch.tensor([[0, 1], [1, -1]])),
        (Regression(scale=[10.0, 2.0]), None, torch.tensor([10.0, 12.0])),
        (Regression(), None, torch.tensor([10.0, 12.0])),
    ],
    ids=lambda value: type(value).__name__.lower() if isinstance(value, Task) else "",
)
def test_tasks_need_no_data_module(task: Task, width: int | None, targets: torch.Tensor) -> None:
    words = (2,) if isinstance(task, Tagging) else ()
    output = task.head(4)(torch.randn(2, *words, 4))
    assert output.shape == (2, *words, *([] if width is None else [width]))
    loss = task.loss(output, targets)
    assert loss.shape == (2,)
    assert loss.isfinite().all()
    metrics = task.metrics()
    metrics.update(task.metric_input(output.detach()), targets.long() if width else targets)
    assert all(value.isfinite().all() for value in metrics.compute().values())
    assert task.baseline(targets).keys() <= metrics.keys()
    assert len(task.decode(output.detach())) == 2
    again = type(task)()
    again.load_state_dict(task.state_dict())
    assert again.decode(output.detach()) == task.decode(output.detach())


def test_maps_need_no_data_module() -> None:
    parts, depth = Segmentation(classes=3, size=(4, 6)), Depth(size=(4, 6))
    cells = torch.randn(2, 8, 2, 3)
    for task, targets in ((parts, torch.ones(2, 4, 6).int()), (depth, torch.ones(2, 4, 6))):
        output = task.head(8)(cells)
        assert task.loss(output, targets).isfinite().all()
        metrics = task.metrics()
        metrics.update(task.metric_input(output.detach()), targets)
        assert set(task.baseline(targets)) <= set(metrics.compute())
    with pytest.raises(UsageError, match=r"size must be \[height, width\], both >= 1, got \[4\]"):
        Depth(size=[4])


def test_a_given_scale_is_kept() -> None:
    task = learnt(Regression(scale=[10.0, 2.0]), [1, 2, 3])
    assert (task.mean, task.std) == (10.0, 2.0)
    assert task.loss(torch.tensor([10.0]), torch.tensor([12.0])).tolist() == [0.5]
    for wrong in ([1.0], [0.0, 0.0], [float("nan"), 1.0]):
        with pytest.raises(UsageError, match="scale must be"):
            Regression(scale=wrong)


@pytest.mark.parametrize("kind", [Classification, Multilabel, Ordinal])
def test_given_classes_are_kept(kind: type[Task]) -> None:
    task = kind(classes=["1", "2", "3", "4"])
    values = ["2", "4", None, "4"]
    assert task.problems(values, {}) == {}
    task.learn(values)
    assert list(task.classes) == ["1", "2", "3", "4"]
    assert task.state_dict()["counts"] == [0, 1, 0, 2]
    found = task.problems(["2", "5"], {})
    assert found == {1: "must be one of the classes, got '5'; classes: 1, 2, 3, 4"}


def test_a_class_without_training_rows_can_be_weighted() -> None:
    task = Classification(classes=3, class_weights="balanced")
    task.learn(["0", "0", "1", "1"])
    assert task.loss(torch.zeros(3, 3), torch.arange(3)).isfinite().all()


@pytest.mark.parametrize("kind", [Classification, Multilabel, Ordinal, Tagging, Segmentation])
def test_classes_are_checked(kind: type[Task]) -> None:
    for wrong in (1, ["a"], ["a", "a"], ["a", ""], "ab", True):
        with pytest.raises(UsageError, match="classes must be"):
            kind(classes=wrong)
    with pytest.raises(UsageError, match="the classes are not known yet: set up the data module"):
        kind().head(4)


@pytest.mark.parametrize(
    "task",
    [Classification(classes=2, class_weights="balanced"), Multilabel(classes=2, balanced=True)],
)
def test_balance_needs_counts(task: Task) -> None:
    target = torch.zeros(1, 2) if isinstance(task, Multilabel) else torch.zeros(1).long()
    with pytest.raises(UsageError, match="balanced needs to know how"):
        task.loss(torch.zeros(1, 2), target)


def test_rows_without_words_have_no_tags() -> None:
    task = learnt(Tagging(), ["O x y"])
    assert task.decode(torch.zeros(2, 0, 3)) == [{"label": ""}] * 2
    assert task.decode(torch.tensor([[[0, 0, 0], [0.0, 1, 0], [0, 0, 0]]])) == [{"label": "O x"}]
