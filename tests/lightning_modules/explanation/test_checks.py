"""Explanations that can't be trusted are found out; planted words and patches are found."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import pollinate as po
from lightning_modules.explanation.checks import (
    Check,
    check_explanations,
    curve_gains,
    shuffled_network,
)
from lightning_modules.explanation.explained_rows import ExplainedRows
from lightning_modules.explanation.explainer import ExplainedBatch, Explanation
from lightning_modules.explanation.ranks import parted, rank_correlation
from lightning_modules.explanation.shapley import shapley_values
from pollinate.errors import UsageError
from tests.extras import needs
from tests.lightning_modules.explanation.hand_built import DATA, DIM, network, rows, task

PLANTED, LENGTH, VOCABULARY = 19, 40, 20


def two() -> po.tasks.Classification:
    return po.tasks.Classification(DATA, "label", classes=["plain", "planted"])


def texts(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Texts of words without meaning; every second one has the planted word, at one place."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, PLANTED, (count, LENGTH), generator=draw)
    places = torch.randint(0, LENGTH, (count,), generator=draw)
    label = torch.arange(count) % 2
    ids[label == 1, places[label == 1]] = PLANTED
    return ids, label, places


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures of noise; every second one has a bright patch of 2 x 2 pixels at one place."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 12, 12, generator=draw) * 0.5
    places = torch.randint(0, 11, (count, 2), generator=draw)
    label = torch.arange(count) % 2
    for row in (label == 1).nonzero()[:, 0].tolist():
        top, left = places[row].tolist()
        images[row, 0, top : top + 2, left : left + 2] = 1.0
    return images, label, places


def train(
    net: po.MultiTaskNetwork, modality: str, inputs: Tensor, label: Tensor, lr: float
) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    net.train()
    for _ in range(60):
        batch = po.MixedBatch.of({DATA: {"inputs": {modality: inputs}}}).batches
        loss = functional.cross_entropy(net(batch)["kind"], label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()


@pytest.fixture(scope="module")
def reader() -> po.MultiTaskNetwork:
    """A network that has learnt the planted word."""
    torch.manual_seed(0)
    net = network({"text": po.encoders.Bag(VOCABULARY, DIM, width=8, pairs=64, dropout=0.1)}, two())
    train(net, "text", *texts(128, seed=0)[:2], lr=0.03)
    return net


@pytest.fixture(scope="module")
def viewer() -> po.MultiTaskNetwork:
    """A network that has learnt the planted patch."""
    torch.manual_seed(0)
    encoder = po.encoders.CNN(1, DIM, width=16, stages=1, stride=1, dropout=0.0)
    net = network({"image": encoder}, two())
    train(net, "image", *pictures(128, seed=0)[:2], lr=0.02)
    return net


def explained(own: ExplainedRows, answers: list[int], steps: int = 24) -> ExplainedBatch:
    places = [*range(len(own))]
    pieces = own.attribute(answers, places, steps)
    whole, nothing = own.score_of(answers, places, {}), own.score_of(answers, places)
    found = [
        Explanation(
            row, "kind", answers[row], "planted", {}, float(whole[row]), float(nothing[row]),
            {modality: one[row] for modality, one in pieces.items()},
            own.texts[row] if own.texts else None,
        )
        for row in places
    ]  # fmt: skip
    return ExplainedBatch(own, places, found)


@needs("captum")
def test_a_planted_word_is_among_the_first_in_nearly_all_rows(reader: Any) -> None:
    ids, label, places = (one[1::2] for one in texts(160, seed=1))
    own = rows(reader, two(), text=ids)
    assert (own.answers(own.batch).argmax(dim=1) == label).double().mean() > 0.95
    found = own.attribute([1] * len(ids), [*range(len(ids))], 16)["text"]
    ranks = [
        int((one > one[place]).sum()) for one, place in zip(found, places.tolist(), strict=True)
    ]
    assert np.mean(np.array(ranks) < 0.05 * LENGTH) >= 0.95


@needs("captum")
def test_a_planted_patch_is_among_the_first_in_nearly_all_rows(viewer: Any) -> None:
    images, label, places = (one[1::2] for one in pictures(120, seed=1))
    own = rows(viewer, two(), image=images)
    assert (own.answers(own.batch).argmax(dim=1) == label).double().mean() > 0.95
    found = own.attribute([1] * len(images), [*range(len(images))], 16)["image"]
    hits = []
    for one, (top, left) in zip(found, places.tolist(), strict=True):
        threshold = one.flatten().topk(round(0.05 * one.numel())).values[-1]
        hits.append(bool((one[top : top + 2, left : left + 2] >= threshold).any()))
    assert np.mean(hits) >= 0.95


@needs("captum")
def test_explanations_of_what_was_learnt_pass(reader: Any) -> None:
    own = rows(reader, two(), text=texts(24, seed=2)[0][1::2])
    draw = torch.Generator().manual_seed(0)
    again = own.answered_by(shuffled_network(reader, draw))
    (check,) = check_explanations(explained(own, [1] * 12), again, 24, draw)

    assert (check.task, check.modality, len(check.shuffled)) == ("kind", "text", 12)
    assert check.depends_on_weights
    assert check.beats_random


@needs("captum")
def test_explanations_of_the_input_alone_fail(reader: Any) -> None:
    """They are the same whatever the weights are, and no better than random order."""
    own = rows(reader, two(), text=texts(24, seed=2)[0][1::2])
    batch = explained(own, [1] * 12)
    for one in batch.explanations:
        one.pieces["text"] = torch.arange(float(LENGTH)) + 1e-3 * one.pieces["text"]
    gains = curve_gains(batch, "text", torch.Generator().manual_seed(0))
    alike = [rank_correlation(batch.explanations[0].pieces["text"], one.pieces["text"])
             for one in batch.explanations]  # fmt: skip
    check = Check("kind", "text", [one for one in alike if one is not None], *gains)

    assert check.depends_on_weights is False
    assert check.beats_random is False


def test_shuffling_keeps_sizes_and_leaves_the_model_alone(reader: Any) -> None:
    before = {name: value.clone() for name, value in reader.state_dict().items()}
    found = shuffled_network(reader, torch.Generator().manual_seed(0))

    for name, value in found.state_dict().items():
        assert torch.equal(value.flatten().sort().values, before[name].flatten().sort().values)
    assert not torch.equal(found.state_dict()["encoders.text.token.weight"],
                           before["encoders.text.token.weight"])  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in reader.state_dict().items())


def test_few_pieces_are_not_checked() -> None:
    check = Check("kind", "text")
    assert check.depends_on_weights is None
    assert check.beats_random is None


def by_orders(value: Mapping[frozenset[str], float], players: list[str]) -> dict[str, float]:
    """Shapley values as the mean over all orders in which the players come."""
    found = dict.fromkeys(players, 0.0)
    orders = [*permutations(players)]
    for order in orders:
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            found[player] += (value[before | {player}] - value[before]) / len(orders)
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_shapley_values_are_the_means_over_all_orders(count: int) -> None:
    players = ["audio", "image", "text", "video"][:count]
    draw = np.random.default_rng(count)
    subsets = [frozenset(c) for size in range(count + 1) for c in combinations(players, size)]
    worth = {own: float(draw.normal()) for own in subsets}
    found = shapley_values(lambda own: torch.tensor([worth[own]], dtype=torch.float64), players)
    wanted = by_orders(worth, players)

    assert {name: float(own[0]) for name, own in found.items()} == pytest.approx(wanted)
    change = worth[frozenset(players)] - worth[frozenset()]
    assert sum(wanted.values()) == pytest.approx(change)


def test_too_many_players_are_refused() -> None:
    with pytest.raises(UsageError, match="are for <= 4 players, got 5"):
        shapley_values(lambda _: torch.zeros(1), list("abcde"))


def test_a_missing_modality_is_what_the_network_knows_of_it() -> None:
    torch.manual_seed(0)
    encoders = {
        "text": po.encoders.Bag(VOCABULARY, DIM, width=6, pairs=32),
        "image": po.encoders.CNN(1, DIM, width=8, stages=1),
    }
    kind = task()
    net = network(encoders, kind, fusions={"image+text": po.fusions.Concat(["image", "text"], DIM)})
    ids = texts(2, seed=0)[0]
    own = rows(net, kind, text=ids, image=torch.rand(2, 1, 8, 8))
    batch = po.MixedBatch.of(
        {
            DATA: {
                "inputs": {"text": ids, "image": torch.rand(0, 1, 8, 8)},
                "has": {"image": torch.zeros(2, dtype=torch.bool)},
            }
        }
    ).batches
    wanted = own.explained.scores.of(net(batch)["kind"])[:, 1]
    found = own.score_without(frozenset({"image"}), [1, 1], [0, 1])
    assert torch.allclose(found, wanted.detach(), atol=1e-6)
    both = own.score_without(frozenset(), [1, 1], [0, 1])
    assert torch.allclose(both, own.score_of([1, 1], [0, 1], {}), atol=1e-6)


def test_ranks_are_compared_and_maps_of_two_sizes_too() -> None:
    first = torch.tensor([3.0, 1.0, 2.0])
    assert rank_correlation(first, 10 * first) == pytest.approx(1)
    assert rank_correlation(first, -first) == pytest.approx(-1)
    assert rank_correlation(first, torch.zeros(3)) is None
    fine = torch.arange(64.0).view(8, 8)
    coarse = fine.view(4, 2, 4, 2).mean(dim=(1, 3))
    assert rank_correlation(fine, coarse) == pytest.approx(1)
    assert parted(first, torch.tensor([0.0, 0.0, 6.0])).tolist() == pytest.approx(
        [1 / 2, 1 / 6, -2 / 3]
    )
