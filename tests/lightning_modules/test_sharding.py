"""Clipping of whole gradients, by hand and against torch; pieces are in test_sharded.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_modules.sharding import clip_norm, clip_value


def parameters(*gradients: list[float] | None) -> list[nn.Parameter]:
    made = [nn.Parameter(torch.zeros(2)) for _ in gradients]
    for parameter, gradient in zip(made, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor(gradient)
    return made


@pytest.mark.parametrize("limit", [0.5, 2.0, 100.0])
def test_the_norm_is_clipped_as_torch_does(limit: float) -> None:
    given = ([3.0, 0.0], None, [0.0, -4.0])
    ours, theirs = parameters(*given), parameters(*given)
    assert clip_norm(ours, limit).item() == 5.0
    nn.utils.clip_grad_norm_(theirs, limit)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or torch.allclose(one.grad, other.grad, rtol=1e-6)


def test_entries_are_cut() -> None:
    given = parameters([3.0, -0.5], None, [0.0, -4.0])
    clip_value(given, 1.0)
    found = [None if p.grad is None else p.grad.tolist() for p in given]
    assert found == [[1.0, -0.5], None, [0.0, -1.0]]
