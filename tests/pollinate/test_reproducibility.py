"""Random numbers go on where they were."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pollinate.reproducibility import random_states, restore_random_states

DRAWS: dict[str, Callable[[], list[Any]]] = {
    "python": lambda: [random.random(), random.gauss(0, 1), random.randrange(10**9)],
    "numpy": lambda: [*np.random.rand(3), *np.random.randn(3), np.random.randint(10**9)],
    "torch": lambda: [*torch.rand(3).tolist(), *torch.randn(20).tolist()],
}


@pytest.fixture(params=[0, 1, 7])
def drawn(request: pytest.FixtureRequest) -> None:
    """Some numbers were drawn: an odd one leaves half a pair of normal numbers."""
    for _ in range(request.param):
        random.gauss(0, 1)
        np.random.randn()
        torch.randn(1)


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("name", DRAWS)
def test_round_trip_is_bitwise(name: str) -> None:
    states = random_states()
    expected = DRAWS[name]()
    assert DRAWS[name]() != expected
    restore_random_states(states)
    assert DRAWS[name]() == expected


@pytest.mark.usefixtures("drawn")
def test_states_can_be_saved_with_weights_only(tmp_path: Path) -> None:
    torch.save(random_states(), tmp_path / "a.pt")
    expected = [draw() for draw in DRAWS.values()]
    restore_random_states(torch.load(tmp_path / "a.pt", weights_only=True))
    assert [draw() for draw in DRAWS.values()] == expected


def test_states_are_copies() -> None:
    states = random_states()
    expected = [draw() for draw in DRAWS.values()]
    restore_random_states(states)
    restore_random_states(states)
    assert [draw() for draw in DRAWS.values()] == expected
