"""The numbers by which each type of task is explained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import pollinate as po
from lightning_modules.tasks.answer_scores import AnswerScores
from pollinate.errors import UsageError

ABC = ["a", "b", "c"]
ROWS = [
    # task, output, scores, answers given, names
    (
        po.tasks.Classification(classes=ABC),
        torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 2.0]]),
        [[3.0, -1.5, -1.5], [-1.5, 0.0, 1.5]],
        [[0], [2]],
        ["a", "b", "c"],
    ),
    (
        po.tasks.Multilabel(classes=ABC),
        torch.tensor([[3.0, 1.0, -1.0], [-2.0, -1.0, -3.0]]),
        [[3.0, 1.0, -1.0], [-2.0, -1.0, -3.0]],
        [[0, 1], [1]],
        ["a", "b", "c"],
    ),
    (
        po.tasks.Ordinal(classes=ABC),
        torch.tensor([[3.0, 1.0], [-1.0, -2.0]]),
        [[2.0], [-1.5]],
        [[0], [0]],
        ["higher"],
    ),
    (po.tasks.Regression(), torch.tensor([7.0, -1.0]), [[7.0], [-1.0]], [[0], [0]], ["higher"]),
    (  # of quantiles, the middle one is the answer
        po.tasks.Regression(noise="quantiles"),
        torch.tensor([[1.0, 7.0, 90.0], [-9.0, -1.0, 0.0]]),
        [[7.0], [-1.0]],
        [[0], [0]],
        ["higher"],
    ),
    (
        po.tasks.Tagging(classes=["O", "B-x"]),
        torch.tensor([[[9.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [0.0, 0.0]]]),
        [[9.0, -9.0, -2.0, 2.0], [3.0, -3.0, 0.0, 0.0]],
        [[3], [0]],
        ["word 1: O", "word 1: B-x", "word 2: O", "word 2: B-x"],
    ),
    (
        po.tasks.Retrieval(),
        torch.tensor([[[1.0, 2.0], [3.0, 1.0]], [[1.0, 2.0], [0.0, 0.0]]]),
        [[5.0], [0.0]],
        [[0], []],
        ["fitting"],
    ),
]


def scores_of(task: po.tasks.Task) -> AnswerScores:
    found = task.answer_scores()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("task", "output", "scores", "given", "names"),
    ROWS,
    ids=[type(row[0]).__name__ for row in ROWS],
)
def test_scores(task: Any, output: Tensor, scores: Any, given: Any, names: list[str]) -> None:
    own = scores_of(task)
    assert own.of(output).tolist() == [pytest.approx(row) for row in scores]
    assert own.given(output) == given
    assert [own.name(number) for number in range(len(names))] == names
    assert [own.number(name) for name in names] == [*range(len(names))]
    assert own.number("nobody") is None


def test_tags_that_depend_on_each_other_are_scored_by_their_marginals() -> None:
    task = po.tasks.Tagging(classes=["O", "B-x"], transitions=True)
    torch.manual_seed(0)
    output = torch.randn(2, 4 + 3, 2)
    output[1, :4] = output[0, :4]  # the transitions are the same in all rows
    logits = task.predictive_distribution(output).logits
    wanted = (logits[..., 1] - logits[..., 0]).flatten()
    assert torch.allclose(scores_of(task).of(output)[:, 1::2].flatten(), wanted, atol=1e-5)


def test_a_wish_is_an_answer_or_a_word() -> None:
    task, tags = ROWS[0], ROWS[5]
    assert scores_of(task[0]).wanted("b", task[1]) == [[1], [1]]
    with pytest.raises(UsageError, match="answer 'd' is none of the task's"):
        scores_of(task[0]).wanted("d", task[1])
    assert scores_of(tags[0]).wanted("2", tags[1]) == [[3], []]
    with pytest.raises(UsageError, match="must be a word's number, >= 1, got first"):
        scores_of(tags[0]).wanted("first", tags[1])


@pytest.mark.parametrize("kind", [po.tasks.Segmentation, po.tasks.Depth])
def test_maps_of_pixels_are_not_explained(kind: Any) -> None:
    assert kind.answer_scores is po.tasks.Task.answer_scores
