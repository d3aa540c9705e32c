"""Several modalities of a row become one vector."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.features import Features
from lightning_modules.fusions.attention import Attention
from lightning_modules.fusions.gated import Gated
from pollinate.errors import UsageError
from tests.rows.groups import rows
from tests.rows.row import DIM, Row, ids

each = pytest.mark.parametrize("row", rows("fusion"), ids=ids)
NAMES = ("a", "b", "c")
ROWS = 5
HAS = {
    "a": torch.tensor([True] * 5),
    "b": torch.tensor([False, True, True, False, False]),
    "c": torch.tensor([False, True, False, True, False]),
}


def built(row: Row) -> Any:
    """The fusion as shipped, of three modalities, with random parameters."""
    torch.manual_seed(0)
    fusion = Row(row.group, row.option, None, None).build(modalities=NAMES)
    return drawn(fusion)


def drawn(fusion: Any) -> Any:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.normal_(std=0.5)
    return fusion


def features(dim: int = DIM) -> dict[str, Features]:
    """A vector, a sequence and a grid, of the rows that have them."""
    draws = torch.Generator().manual_seed(2)
    counts = {name: int(has.sum()) for name, has in HAS.items()}
    pooled = {name: torch.randn(n, dim, generator=draws) for name, n in counts.items()}
    sequence = torch.randn(counts["b"], 3, dim, generator=draws)
    grid = torch.randn(counts["c"], dim, 2, 2, generator=draws)
    return {
        "a": Features(pooled["a"]),
        "b": Features(pooled["b"], sequence, mask=torch.tensor([[True] * 3, [True, False, False]])),
        "c": Features(pooled["c"], grid=grid),
    }


def only(rows: list[int]) -> tuple[dict[str, Features], dict[str, Tensor]]:
    """The features of some rows, and what these have."""
    found = {}
    for name, item in features().items():
        places = HAS[name].cumsum(0) - 1
        own = places[[row for row in rows if HAS[name][row]]]
        parts = (item.pooled, item.sequence, item.grid, item.mask)
        found[name] = Features(*(None if part is None else part[own] for part in parts))  # type: ignore[arg-type]
    return found, {name: has[rows] for name, has in HAS.items()}


@each
def test_row(row: Row) -> None:
    fusion = row.build(modalities=tuple(row.given))
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.fill_(1.0 if parameter.dim() == 2 else 0.0)
    given = {name: Features(torch.tensor(rows)) for name, (rows, _) in row.given.items()}
    has = {name: torch.tensor(flags) for name, (_, flags) in row.given.items()}
    assert torch.allclose(fusion(given, has), torch.tensor(row.expected))


@each
def test_an_absent_modality_has_its_own_vector_that_learns(row: Row) -> None:
    fusion = built(row)
    fusion(features(), HAS).square().sum().backward()
    assert fusion.absent["b"].grad.abs().sum() > 0
    assert fusion.absent["a"].grad.abs().sum() == 0


@each
def test_rows_are_independent(row: Row) -> None:
    fusion = built(row)
    whole = fusion(features(), HAS)
    assert whole.shape == (ROWS, DIM)
    for place in range(ROWS):
        assert torch.allclose(fusion(*only([place]))[0], whole[place], atol=1e-5)


@each
def test_no_rows_reach_every_parameter(row: Row) -> None:
    fusion = built(row)
    fused = fusion(*only([]))
    assert fused.shape == (0, DIM)
    fused.sum().backward()
    assert all(parameter.grad is not None for parameter in fusion.parameters())


def full(fusion: Any, row: int) -> dict[str, Tensor]:
    """The row's vector of each modality, or the learnt one."""
    given, has = only([row])
    return {n: given[n].pooled[0] if has[n][0] else fusion.absent[n] for n in NAMES}


def test_gated() -> None:
    fusion = drawn(Gated(NAMES, DIM))
    found = fusion(features(), HAS)
    for row in range(ROWS):
        vectors = full(fusion, row)
        scores = fusion.gates(torch.cat(list(vectors.values()))).view(3, DIM).exp()
        values = torch.stack([fusion.values[n](v).tanh() for n, v in vectors.items()])
        assert torch.allclose(found[row], (scores / scores.sum(dim=0) * values).sum(dim=0))


def test_two_gates_are_those_of_the_paper() -> None:
    fusion = drawn(Gated(("a", "b"), DIM))
    x, y = torch.randn(2, 1, DIM)
    every = torch.ones(1, dtype=torch.bool)
    found = fusion({"a": Features(x), "b": Features(y)}, {"a": every, "b": every})
    one, other = fusion.gates(torch.cat([x, y], dim=1)).chunk(2, dim=1)
    z = torch.sigmoid(one - other)
    h = fusion.values["a"](x).tanh(), fusion.values["b"](y).tanh()
    assert torch.allclose(found, z * h[0] + (1 - z) * h[1], atol=1e-6)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention(heads: int) -> None:
    fusion = drawn(Attention(NAMES, DIM, heads=heads))
    part, width = fusion.attention, DIM // heads
    found = fusion(features(), HAS)
    for row in range(ROWS):
        given, _ = only([row])
        vectors, memory = full(fusion, row), []
        for name, item in given.items():
            memory.append(vectors[name] + fusion.kinds[name])
            if len(item.pooled) and item.sequence is not None and item.mask is not None:
                memory += list(item.sequence[0][item.mask[0]] + fusion.kinds[name])
            if len(item.pooled) and item.grid is not None:
                memory += list(item.grid[0].flatten(1).T + fusion.kinds[name])
        normed = part.norm(torch.stack(memory))
        keys, values = part.key(normed), part.value(normed)
        total = torch.zeros(DIM)
        for vector in vectors.values():
            query, parts = fusion.query(vector), []
            for h in range(heads):
                own = slice(h * width, (h + 1) * width)
                weights = (keys[:, own] @ query[own] / math.sqrt(width)).softmax(dim=0)
                parts.append(weights @ values[:, own])
            total = total + vector + part.out(torch.cat(parts))
        assert torch.allclose(found[row], total / 3, atol=1e-5)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UsageError, match="heads must divide dim = 8, got 3"):
        Attention(NAMES, DIM, heads=3)
