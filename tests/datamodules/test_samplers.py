"""How many rows of each data set a step has, and which."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.row_order import ShuffledStream
from datamodules.samplers.adaptive import Adaptive
from datamodules.samplers.annealed import AnnealedTemperature
from datamodules.samplers.base import Sampler, apportion
from datamodules.samplers.fixed import FixedShares
from datamodules.samplers.proportional import Proportional
from datamodules.samplers.temperature import Temperature
from datamodules.samplers.uniform import Uniform
from pollinate.errors import UsageError
from tests.rows.groups import rows
from tests.rows.row import Row, ids

names = st.text("abcdefgh", min_size=1, max_size=3)
shares = st.dictionaries(names, st.floats(1e-3, 1e6), min_size=1, max_size=6)
sizes = st.dictionaries(names, st.integers(1, 10**6), min_size=1, max_size=6)
stretches = st.tuples(st.integers(1, 30), st.integers(0, 200), st.integers(0, 80))


@pytest.mark.parametrize("row", rows("sampler"), ids=ids)
def test_row(row: Row) -> None:
    assert row.build().counts(row.given) == row.expected


@given(shares, st.integers(6, 500))
def test_apportion_hands_out_all_rows_and_one_to_each(shares: dict[str, float], total: int) -> None:
    counts = apportion(shares, total)
    assert counts.keys() == shares.keys()
    assert sum(counts.values()) == total
    assert min(counts.values()) >= 1


@given(shares, st.integers(6, 500))
def test_apportion_is_off_by_less_than_one_row(shares: dict[str, float], total: int) -> None:
    spare, scale = total - len(shares), sum(shares.values())
    for name, count in apportion(shares, total).items():
        assert abs(count - 1 - spare * shares[name] / scale) < 1 + 1e-9


@given(sizes.flatmap(lambda shares: st.permutations(list(shares.items()))), st.integers(6, 500))
def test_apportion_does_not_see_the_order(shares: list[tuple[str, int]], total: int) -> None:
    assert apportion(dict(shares), total) == apportion(dict(sorted(shares)), total)


def test_apportion_needs_a_row_for_each() -> None:
    with pytest.raises(UsageError, match=r"number of data sets \(3\).*got 2"):
        apportion({"a": 1, "b": 1, "c": 1}, 2)


@given(sizes)
def test_temperature_one_is_proportional(sizes: dict[str, int]) -> None:
    assert Temperature(64, temperature=1.0).shares(sizes, 0) == Proportional(64).shares(sizes, 0)


@given(sizes)
def test_large_temperature_is_uniform(sizes: dict[str, int]) -> None:
    found = Temperature(64, temperature=1e9).shares(sizes, 0)
    assert found == pytest.approx(Uniform(64).shares(sizes, 0))


@pytest.mark.parametrize("kind", [Proportional, Temperature, Uniform])
@given(sizes)
def test_larger_data_sets_get_no_less(kind: type[Sampler], sizes: dict[str, int]) -> None:
    found = kind(64).shares(sizes, 0)
    assert [found[name] for name in sorted(sizes, key=sizes.__getitem__)] == sorted(found.values())


def test_epoch_has_every_row_once_on_average() -> None:
    assert Uniform(10).epoch_steps({"a": 90, "b": 11}) == 11
    assert Uniform(10, steps_per_epoch=3).epoch_steps({"a": 90, "b": 11}) == 3


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Uniform, {"batch_size": 0}, "batch_size must be >= 1, got 0"),
        (Uniform, {"batch_size": 8, "steps_per_epoch": 0}, "steps_per_epoch must be >= 1, got 0"),
        (Temperature, {"batch_size": 8, "temperature": 0}, "temperature must be > 0, got 0"),
        (Temperature, {"batch_size": 8, "temperature": float("nan")}, "must be > 0, got nan"),
    ],
)
def test_wrong_options_are_refused(kind: type[Sampler], options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kind(**options)


@given(st.integers(1, 30), st.integers(0, 5), st.integers(0, 2**32))
def test_every_pass_is_a_permutation(size: int, number: int, seed: int) -> None:
    found, passes = ShuffledStream(seed, "a", size).rows(number * size, size)
    assert sorted(found) == list(range(size))
    assert set(passes) == {number}


@given(stretches, st.integers(0, 80))
def test_a_stretch_is_its_parts(stretch: tuple[int, int, int], cut: int) -> None:
    size, start, count = stretch
    cut = min(cut, count)
    whole = ShuffledStream(0, "a", size).rows(start, count)
    parts = (
        ShuffledStream(0, "a", size).rows(start, cut),
        ShuffledStream(0, "a", size).rows(start + cut, count - cut),
    )
    for found, first, second in zip(whole, *parts, strict=True):
        assert np.array_equal(found, np.concatenate([first, second]))


@pytest.mark.parametrize("other", [(1, "a", 0), (0, "b", 0), (0, "a", 1)])
def test_seed_name_and_pass_change_the_order(other: tuple[int, str, int]) -> None:
    seed, name, number = other
    first = ShuffledStream(0, "a", 50).rows(0, 50)[0]
    assert not np.array_equal(first, ShuffledStream(seed, name, 50).rows(number * 50, 50)[0])


def adaptive(**options: Any) -> Adaptive:
    sampler = Adaptive(batch_size=20, rate=1.0, **options)
    sampler.bind({"a": ["x"], "b": ["y", "z"]})
    return sampler


def test_an_adaptive_factor_is_the_equation() -> None:
    sampler = adaptive(sharpness=2.0, floor=0.5)
    assert sampler.factor(0.4, 0.8) == pytest.approx(1 / (0.25 + 0.5))
    assert sampler.factor(0.9, 0.8) == pytest.approx(1 / 1.5)
    assert sampler.factor(-0.1, 0.8) == pytest.approx(2.0)


def test_a_task_that_falls_behind_its_best_gets_rows() -> None:
    sampler, sizes = adaptive(), {"a": 50, "b": 50}
    assert sampler.counts(sizes) == {"a": 10, "b": 10}
    sampler.observe({"x": 0.8, "y": 0.8, "z": 0.8})
    assert sampler.counts(sizes) == {"a": 10, "b": 10}
    sampler.observe({"x": 0.4, "y": 0.8, "z": 0.8})
    assert sampler.counts(sizes)["a"] > 10
    sampler.observe({"x": 0.8, "y": 0.8, "z": 0.8})
    assert sampler.counts(sizes) == {"a": 10, "b": 10}


def test_an_aim_counts_instead_of_the_best() -> None:
    sampler = adaptive(targets={"z": 0.9})
    sampler.observe({"x": 0.5, "y": 0.5, "z": 0.5})
    assert sampler.counts({"a": 50, "b": 50})["b"] > 10


def test_adaptive_state_round_trip() -> None:
    one, other = adaptive(), adaptive()
    one.observe({"x": 0.8})
    one.observe({"x": 0.3})
    other.load_state_dict(one.state_dict())
    assert other.counts({"a": 5, "b": 9}) == one.counts({"a": 5, "b": 9})


def test_a_score_that_is_no_number_changes_nothing() -> None:
    sampler = adaptive()
    sampler.observe({"x": float("nan")})
    assert sampler.state_dict() == {"best": {}, "factors": {}}


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (Adaptive(8, targets={"xx": 1.0}), "sampler.targets has 'xx'; did you mean x"),
        (FixedShares(8, weights={"aa": 1.0}), "sampler.weights has 'aa'; did you mean a"),
    ],
)
def test_unknown_names_are_refused(sampler: Sampler, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sampler.bind({"a": ["x"], "b": []})


def test_annealing_ends_where_it_says() -> None:
    sampler, sizes = AnnealedTemperature(100, start=1.0, end=1e6, epochs=4), {"a": 10, "b": 90}
    shares = [sampler.counts(sizes, epoch)["a"] for epoch in range(6)]
    assert shares == sorted(shares)
    assert shares[0] == Proportional(100).counts(sizes)["a"]
    assert shares[4] == shares[5] == 50
