"""Which models answer together: hand-made answers, and what selection promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import pollinate as po
from pipeline.searching.selection import FEWEST, Judge, greedy, select, together

TASK = po.tasks.Classification("rows", "label", classes=3)


def noisy(target: Tensor, right: float, seed: int) -> Tensor:
    """Logits that are right for a share of the rows, each model for its own ones."""
    generator = torch.Generator().manual_seed(seed)
    hit = torch.rand(len(target), generator=generator) < right
    wrong = (target + torch.randint(1, 3, target.shape, generator=generator)) % 3
    answer = torch.where(hit, target, wrong)
    return 2.0 * torch.nn.functional.one_hot(answer, 3)


@pytest.fixture
def target() -> Tensor:
    return torch.randint(0, 3, (600,), generator=torch.Generator().manual_seed(9))


def test_models_that_err_differently_answer_together(target: Tensor) -> None:
    outputs = {str(seed): noisy(target, 0.7, seed) for seed in range(5)}
    found = select(TASK, outputs, target)
    best = max(Judge(TASK, target)(output)[0] for output in outputs.values())

    assert len(found.weights) >= 4
    assert sum(found.weights.values()) == pytest.approx(1)
    assert found.score > best + 0.08  # they vote
    assert best < found.estimate <= found.score


def test_a_bad_model_is_left_out(target: Tensor) -> None:
    outputs = {"good": noisy(target, 0.9, 0), "chance": noisy(target, 1 / 3, 1)}
    found = select(TASK, outputs, target)

    assert found.weights.get("chance", 0.0) < 0.2
    assert found.score >= Judge(TASK, target)(outputs["good"])[0]


@pytest.mark.parametrize("seed", range(5))
def test_it_is_never_worse_than_any_model(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 3, (60,), generator=generator)
    outputs = {str(n): torch.randn(60, 3, generator=generator) for n in range(6)}
    found = select(TASK, outputs, target, seed)

    assert found.score >= max(Judge(TASK, target)(output)[0] for output in outputs.values())
    # what was chosen on noise is no better than chance on rows that it wasn't chosen on
    assert found.estimate < found.score


def test_greedy_takes_what_improves_most_and_counts_repeats() -> None:
    target = torch.tensor([0, 0, 0, 0, 1, 1])
    sure = 4.0 * torch.eye(3)
    right_but_last = sure[torch.tensor([0, 0, 0, 0, 1, 0])]
    right_for_last = sure[torch.tensor([1, 1, 1, 1, 0, 1])] / 4
    found = greedy(TASK, {"a": right_but_last, "b": right_for_last}, target, lambda _: True)

    assert max(found, key=lambda name: found[name]) == "a"
    answer = together(TASK, {"a": right_but_last, "b": right_for_last}, found)
    assert Judge(TASK, target)(answer) >= Judge(TASK, target)(right_but_last)


def test_equal_scores_are_decided_by_the_loss(target: Tensor) -> None:
    outputs = {"unsure": 0.1 * noisy(target, 0.8, 3), "sure": noisy(target, 0.8, 3)}
    assert greedy(TASK, outputs, target, lambda _: True) == {"sure": 1.0}


def test_few_rows_choose_one_model() -> None:
    target = torch.arange(FEWEST - 1) % 3
    outputs = {str(seed): noisy(target, 0.6, seed) for seed in range(4)}
    assert len(select(TASK, outputs, target).weights) == 1


def test_what_may_not_answer_together_does_not(target: Tensor) -> None:
    outputs = {str(seed): noisy(target, 0.7, seed) for seed in range(4)}

    def small(models: object) -> bool:
        return "0" not in list(models) and len(list(models)) <= 2  # type: ignore[call-overload]

    found = select(TASK, outputs, target, allowed=small)
    assert len(found.weights) <= 2 and "0" not in found.weights
    with pytest.raises(ValueError, match="no model is allowed"):
        select(TASK, outputs, target, allowed=lambda _: False)


def test_numbers_are_averaged() -> None:
    task = po.tasks.Regression("rows", "number")
    task.learn([0.0, 1.0, 2.0, 3.0])
    target = torch.linspace(0, 3, 50)
    outputs = {"high": target + 0.5, "low": target - 0.5}
    found = select(task, outputs, target)

    assert found.weights == pytest.approx({"high": 0.5, "low": 0.5}, abs=0.1)
    assert found.score > 0.98
