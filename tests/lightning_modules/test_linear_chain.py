"""Chains of tags against the sum over all rows of tags."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from lightning_modules.tasks.linear_chain import (
    best_tags,
    log_marginals,
    log_partition,
    mean_score,
)
from lightning_modules.tasks.tagging import Tagging
from lightning_modules.views import FAINT, with_transitions

TAGS = 3
LENGTHS = torch.tensor([4, 1, 3, 0])


@pytest.fixture
def chain() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    scores = torch.randn(4, 4, TAGS, dtype=torch.float64)
    return scores, 2 * torch.randn(TAGS + 2, TAGS, dtype=torch.float64)


def all_scores(scores: Tensor, transitions: Tensor) -> dict[tuple[int, ...], Tensor]:
    """s(y) of each row of tags y, of scores (L, C)."""
    found = {}
    for tags in product(range(TAGS), repeat=len(scores)):
        total = transitions[TAGS, tags[0]] + transitions[TAGS + 1, tags[-1]]
        total = total + sum(scores[place, tag] for place, tag in enumerate(tags))
        total = total + sum(transitions[a, b] for a, b in pairwise(tags))
        found[tags] = total
    return found


def test_all_is_that_of_all_rows_of_tags(chain: tuple[Tensor, Tensor]) -> None:
    scores, transitions = chain
    partition = log_partition(scores, transitions, LENGTHS)
    marginals = log_marginals(scores, transitions, LENGTHS).exp()
    best = best_tags(scores, transitions, LENGTHS).tolist()
    assert partition[3] == 0
    assert torch.allclose(marginals[3], torch.full((4, TAGS), 1 / TAGS).double())
    for row, length in enumerate(LENGTHS.tolist()[:3]):
        every = all_scores(scores[row, :length], transitions)
        total = torch.stack([*every.values()]).logsumexp(0)
        assert torch.allclose(partition[row], total)
        assert tuple(best[row][:length]) == max(every, key=lambda tags: every[tags])
        expected = torch.zeros(length, TAGS, dtype=torch.float64)
        for tags, score in every.items():
            expected[torch.arange(length), list(tags)] += (score - total).exp()
        assert torch.allclose(marginals[row, :length], expected)


def test_the_gradient_of_the_partition_are_the_marginals(chain: tuple[Tensor, Tensor]) -> None:
    scores, transitions = chain
    scores.requires_grad_()
    (found,) = torch.autograd.grad(log_partition(scores, transitions, LENGTHS).sum(), scores)
    real = torch.arange(4) < LENGTHS[:, None]
    marginals = log_marginals(scores, transitions, LENGTHS).exp()
    assert torch.allclose(found, marginals * real[..., None])


def test_mean_score_is_the_mean_over_tags_drawn_by_word(chain: tuple[Tensor, Tensor]) -> None:
    scores, transitions = chain
    shares = torch.rand(1, 4, TAGS, dtype=torch.float64).softmax(-1)
    expected = sum(
        shares[0, torch.arange(4), list(tags)].prod() * score
        for tags, score in all_scores(scores[0], transitions).items()
    )
    found = mean_score(scores[:1], transitions, LENGTHS[:1], shares)
    assert torch.allclose(found[0], torch.as_tensor(expected))


def test_scores_beyond_the_exponential_stay_finite() -> None:
    scores = torch.tensor([[[0.0, 900.0], [900.0, 0.0]]], requires_grad=True)
    transitions = torch.tensor([[0.0, 500.0], [-500.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    found = log_partition(scores, transitions, torch.tensor([2]))
    found.backward()
    assert found.item() == pytest.approx(1300, rel=1e-5)
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_without_transitions_it_is_word_by_word(smoothing: float) -> None:
    classes = ["O", "B-x", "I-x"]
    alone = Tagging(classes=classes, label_smoothing=smoothing)
    task = Tagging(classes=classes, label_smoothing=smoothing, transitions=True)
    scores = torch.randn(2, 4, TAGS)
    scores[1, 2:] = 0  # no words
    target = torch.tensor([[0, 1, 2, 0], [2, 2, -1, -1]])
    output = with_transitions(scores, torch.zeros(TAGS + 2, TAGS))
    assert torch.allclose(task.loss(output, target), alone.loss(scores, target), atol=1e-6)
    assert torch.equal(task.metric_input(output), alone.metric_input(scores))
    assert task.decode(output) == alone.decode(scores)
    assert torch.allclose(
        task.predictive_distribution(output).probs, alone.predictive_distribution(scores).probs
    )


def test_loss_of_a_row_of_tags(chain: tuple[Tensor, Tensor]) -> None:
    scores, transitions = chain
    task = Tagging(classes=TAGS, transitions=True)
    tags = (2, 0, 1, 1)
    every = all_scores(scores[0], transitions)
    expected = torch.stack([*every.values()]).logsumexp(0) - every[tags]
    output = with_transitions(scores[:1], transitions)
    assert torch.allclose(task.loss(output, torch.tensor([tags])), expected / 4)


def test_sums_are_exact_in_mixed_precision() -> None:
    task = Tagging(classes=TAGS, transitions=True)
    torch.manual_seed(0)
    output = with_transitions(torch.randn(4, 9, TAGS), torch.randn(TAGS + 2, TAGS))
    target = torch.randint(TAGS, (4, 9))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = task.loss(output, target)
        probabilities = task.predictive_distribution(output).probs
    assert torch.equal(mixed, task.loss(output, target))
    assert torch.equal(probabilities, task.predictive_distribution(output).probs)
    assert task.loss(output.bfloat16(), target).dtype == torch.float32


def test_words_that_were_cut_off_are_no_part_of_the_chain(chain: tuple[Tensor, Tensor]) -> None:
    """A word without a token, in the middle, and words beyond the kept tokens."""
    scores, transitions = chain
    task = Tagging(classes=TAGS, transitions=True)
    faint = torch.zeros(1, 1, TAGS).double()
    faint[..., 0] = FAINT
    parts = [scores[:1, :2], faint, scores[:1, 2:3], faint]
    output = with_transitions(torch.cat(parts, dim=1), transitions)
    short = with_transitions(scores[:1, :3], transitions)
    found, expected = task.metric_input(output), task.metric_input(short)
    assert found[0, [0, 1, 3]].tolist() == expected[0].tolist()
    assert found[0, [2, 4]].tolist() == [0, 0]
    assert len(task.decode(output)[0]["label"].split()) == 5
    loss = task.loss(output, torch.tensor([[2, 1, 1, 0, 1]]))
    assert torch.allclose(loss, task.loss(short, torch.tensor([[2, 1, 0]])))
    probabilities = task.predictive_distribution(output).probs
    assert torch.allclose(probabilities[0, [0, 1, 3]], task.predictive_distribution(short).probs[0])


def test_the_head_learns_which_tag_follows_which() -> None:
    task = Tagging(classes=["O", "B-x", "I-x"], transitions=True)
    torch.manual_seed(0)
    head, rows = task.head(2), torch.ones(1, 4, 2)  # all words alike
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    target = torch.tensor([[0, 1, 2, 0]])
    for _ in range(200):
        optimizer.zero_grad()
        task.loss(with_transitions(*head(rows)), target).sum().backward()
        optimizer.step()
    assert task.decode(with_transitions(*head(rows))) == [{"label": "O B-x I-x O"}]


def test_nothing_to_tag() -> None:
    task = Tagging(classes=TAGS, transitions=True)
    for rows, words in ((0, 2), (2, 0), (0, 0)):
        output = with_transitions(torch.zeros(rows, words, TAGS), torch.randn(TAGS + 2, TAGS))
        target = torch.full((rows, words), -1)
        assert task.loss(output, target).tolist() == [0.0] * rows
        assert task.decode(output) == [{"label": ""}] * rows


def test_an_ensemble_is_the_product_of_its_members(chain: tuple[Tensor, Tensor]) -> None:
    scores, transitions = chain
    task = Tagging(classes=TAGS, transitions=True)
    outputs = torch.stack([with_transitions(scores, s * transitions) for s in (1, -1)])
    expected = with_transitions(scores, torch.zeros_like(transitions))
    assert torch.allclose(task.ensemble_output(outputs), expected)
