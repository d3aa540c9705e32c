"""Weighted sums of states."""

from __future__ import annotations

import torch

from lightning_modules.state_dicts import weighted_state, weighted_sum


def test_the_sum_is_weighted() -> None:
    found = weighted_sum([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])], [0.75, 0.25])
    assert torch.equal(found, torch.tensor([1.5, 3.0]))


def test_half_floats_are_added_up_in_more_bits() -> None:
    ones = [torch.ones(1, dtype=torch.bfloat16)] * 300
    found = weighted_sum(ones, [1 / 300] * 300)  # in 16 bits the sum would stay below .6
    assert found.dtype == torch.bfloat16
    assert abs(found.item() - 1) < 0.01


def test_counts_come_from_the_heaviest() -> None:
    found = weighted_sum([torch.tensor(3), torch.tensor(8)], [0.4, 0.6])
    assert found.item() == 8


def test_one_state_with_weight_1_is_the_identity() -> None:
    state = {"b": torch.randn(3), "a": torch.randn(2, 2, dtype=torch.float64)}
    found = weighted_state([state], [1.0])
    assert list(found) == ["a", "b"]
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_tied_tensors_stay_one() -> None:
    weight = torch.randn(3)
    found = weighted_state(
        [{"in": weight, "out": weight}, {"in": weight, "out": weight}], [0.5, 0.5]
    )
    assert found["in"] is found["out"]


def test_empty_tensors_are_not_taken_for_tied_ones() -> None:
    state = {"a": torch.zeros(0, 2), "b": torch.zeros(0, 3)}
    assert weighted_state([state], [1.0])["b"].shape == (0, 3)
