"""Operations against hand-computed numbers and torch's counter, bytes against shapes."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from pipeline.planning.counter import LOSSES_PART, FlopMemoryCounter

ROWS = 5


def attention(rows: Tensor) -> Tensor:
    """Two heads of width 4 over 6 places."""
    parts = rows.view(ROWS, 3, 2, 6, 4)
    return functional.scaled_dot_product_attention(*parts.unbind(1))


@pytest.mark.parametrize(
    ("layer", "shape", "forward", "backward"),
    [
        (nn.Linear(7, 3), (7,), 2 * ROWS * 7 * 3, 4 * ROWS * 7 * 3),
        # 2 numbers in, 4 out, 9 weights each, 6 x 6 places out of 8 x 8
        (nn.Conv2d(2, 4, 3), (2, 8, 8), 2 * ROWS * 4 * 36 * 2 * 9, 4 * ROWS * 4 * 36 * 2 * 9),
        # a group for each of 4 numbers
        (nn.Conv2d(4, 4, 3, groups=4), (4, 8, 8), 2 * ROWS * 4 * 36 * 9, 4 * ROWS * 4 * 36 * 9),
    ],
)
def test_operations_by_hand(
    layer: nn.Module, shape: tuple[int, ...], forward: int, backward: int
) -> None:
    rows = torch.randn(ROWS, *shape, requires_grad=True)
    flop_counter = FlopMemoryCounter()
    with flop_counter, flop_counter.parts({"layer": layer}):
        layer(rows).sum().backward()
    assert flop_counter.forward == {"layer": forward}
    assert flop_counter.backward == {"layer": backward}


def test_attention_by_hand() -> None:
    rows = torch.randn(ROWS, 3 * 2 * 6 * 4, requires_grad=True)
    flop_counter = FlopMemoryCounter()
    with flop_counter:
        attention(rows).sum().backward()
    one = 2 * ROWS * 2 * 6 * 6 * 4  # a product of queries and keys
    assert flop_counter.forward[LOSSES_PART] == 2 * one
    assert flop_counter.backward[LOSSES_PART] == 5 * one  # scores once more, and four gradients


def test_a_backward_belongs_to_the_part_that_made_its_graph() -> None:
    first, second = nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    rows = torch.randn(ROWS, 4)
    flop_counter = FlopMemoryCounter()
    with flop_counter, flop_counter.parts({"first": first, "second": second}):
        second(first(rows)).sum().backward()
    with FlopCounterMode(display=False) as counter:
        second(first(rows)).sum().backward()
    assert flop_counter.forward == {"first": 2 * ROWS * 32, "second": 2 * ROWS * (128 + 32)}
    assert flop_counter.backward == {"first": 2 * ROWS * 32, "second": 4 * ROWS * (128 + 32)}
    total = sum(flop_counter.forward.values()) + sum(flop_counter.backward.values())
    assert total == counter.get_total_flops()


def test_bytes_are_those_of_live_storages() -> None:
    flop_counter = FlopMemoryCounter()
    with flop_counter:
        first = torch.zeros(100)
        view = first.view(10, 10)
        second = torch.zeros(50, dtype=torch.float64)
        assert flop_counter.live == 800
        del second
        gc.collect()
        assert (flop_counter.live, flop_counter.peak) == (400, 800)
        del first
        gc.collect()
        assert flop_counter.live == 400  # the view still has it
        del view
        gc.collect()
        assert flop_counter.live == 0
        assert flop_counter.restart() == 0
    assert flop_counter.peak == 0
