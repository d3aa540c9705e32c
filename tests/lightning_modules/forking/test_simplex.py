"""Which coefficients are tried."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lightning_modules.forking.simplex import (
    Coefficients,
    Coordinate,
    Grid,
    Random,
    Search,
    alone,
    compositions,
)
from pipeline.errors import UsageError

SEARCHES = (Grid(4), Random(20), Coordinate(4))


def near(aim: Coefficients) -> Callable[[Coefficients], float]:
    """A value that is largest at a point."""
    return lambda point: -sum((a - b) ** 2 for a, b in zip(aim, point, strict=True))


@pytest.mark.parametrize("search", SEARCHES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("branches", [1, 2, 3])
def test_all_points_are_of_the_simplex(search: Search, branches: int) -> None:
    tried: list[Coefficients] = []
    search.run(branches, lambda point: tried.append(point) or 0.0, seed=0)  # type: ignore[func-returns-value]  # a note
    assert set(alone(branches)) <= set(tried)
    assert all(abs(sum(point) - 1) < 1e-12 and min(point) >= 0 for point in tried)


@pytest.mark.parametrize("search", SEARCHES, ids=lambda one: type(one).__name__)
def test_a_corner_is_found(search: Search) -> None:
    assert search.run(3, near((0.0, 1.0, 0.0)), seed=0) == (0.0, 1.0, 0.0)


def test_the_grid_has_the_point_between() -> None:
    assert Grid(4).run(2, near((0.25, 0.75)), seed=0) == (0.25, 0.75)
    assert Coordinate(4).run(2, near((0.25, 0.75)), seed=0) == (0.25, 0.75)


def test_the_grid_is_all_ways_to_deal_out_the_parts() -> None:
    assert list(compositions(2, 2)) == [(2, 0), (1, 1), (0, 2)]
    assert len(list(compositions(5, 3))) == 21


def test_draws_depend_on_the_seed_alone() -> None:
    aim = near((0.1, 0.2, 0.7))
    first, again, other = (Random(5).run(3, aim, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_the_first_of_equals_wins() -> None:
    assert Grid(2).run(2, lambda point: 0.0, seed=0) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid(0), "parts must be >= 1, got 0"),
        (lambda: Random(-1), "draws must be >= 0, got -1"),
        (lambda: Coordinate(0), "parts must be >= 1, got 0"),
    ],
)
def test_values_out_of_range(make: Callable[[], Search], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
