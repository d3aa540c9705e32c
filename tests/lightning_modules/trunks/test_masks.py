"""Trunks with one stack, which each task reads in its own way, as their papers have them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu

from datamodules.features import Features
from lightning_modules.trunks.film import FiLM
from lightning_modules.trunks.mtan import MTAN
from lightning_modules.trunks.task_queries import TaskQueries
from tests.lightning_modules.trunks.equations import DIM, TASKS, check, drawn, number, weighted


@pytest.mark.parametrize("depth", [1, 3])
def test_mtan(depth: int) -> None:
    trunk = drawn(MTAN(TASKS, DIM, depth=depth))

    def expected(t: str, x: Tensor) -> Tensor:
        u, masked = x, x
        for j, block in enumerate(trunk.blocks):
            p = block(u)
            norm, g, _, h, _ = trunk.masks[t][j]
            if j:
                f = trunk.between[j - 1]
                u = torch.cat([u, gelu(f[1](f[0](masked)))])
            masked = torch.sigmoid(h(gelu(g(norm(u))))) * p
            u = p
        return trunk.norms[t](masked)  # type: ignore[no-any-return]

    check(trunk, expected)


def test_film() -> None:
    trunk = drawn(FiLM(TASKS, DIM, depth=2))

    def expected(t: str, x: Tensor) -> Tensor:
        for j, block in enumerate(trunk.blocks):
            x = (1 + trunk.scales[t][j]) * block(x) + trunk.shifts[t][j]
        return trunk.norm(x)  # type: ignore[no-any-return]

    check(trunk, expected)


def attended(trunk: Any, task: str, pooled: Tensor, memory: Tensor) -> Tensor:
    """A task's representation of one row: pooled (D,), memory (L, D)."""
    part, width = trunk.attention, DIM // trunk.attention.heads
    keys, values = part.key(part.norm(memory)), part.value(part.norm(memory))
    heads = []
    for h in range(part.heads):
        own = slice(h * width, (h + 1) * width)
        scores = [
            math.exp(number(trunk.queries[task][own] @ key[own]) / math.sqrt(width)) for key in keys
        ]
        heads.append(weighted([score / sum(scores) for score in scores], values[:, own]))
    return trunk.tower(pooled + part.out(torch.cat(heads)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("heads", [1, 2])
def test_task_queries(heads: int) -> None:
    trunk = drawn(TaskQueries(TASKS, DIM, heads=heads))
    check(trunk, lambda t, x: attended(trunk, t, x, x[None]))
    pooled, sequence = torch.randn(3, DIM), torch.randn(3, 4, DIM)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    grid = torch.randn(2, DIM, 2, 2)
    given = {
        "text": Features(pooled, sequence, mask=mask),
        "image": Features(pooled[:2], grid=grid),
    }
    found = trunk(given, {"a": ("text", "image")})["a"]
    for row, own in enumerate(found[0]):
        memory = torch.cat([pooled[row][None], sequence[row][mask[row]]])
        assert torch.allclose(own, attended(trunk, "a", pooled[row], memory), atol=1e-5)
    for row, own in enumerate(found[1]):
        memory = torch.cat([pooled[row][None], grid[row].flatten(1).T])
        assert torch.allclose(own, attended(trunk, "a", pooled[row], memory), atol=1e-5)
