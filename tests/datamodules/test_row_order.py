"""The order in which training takes a data set's rows."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datamodules.loaders import EpochPlan
from datamodules.row_order import ShuffledStream
from datamodules.samplers.adaptive import Adaptive
from datamodules.samplers.annealed import AnnealedTemperature

sizes, counts = st.integers(1, 60), st.integers(1, 12)


def lengths(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 100, size)


@given(sizes, counts, st.integers(1, 6), st.integers(0, 3))
def test_every_row_comes_once_a_pass(size: int, count: int, bucket: int, number: int) -> None:
    stream = ShuffledStream(0, "a", size, lengths(size), bucket)
    whole = np.concatenate([stream.rows(k * count, count)[0] for k in range(4 * size + 4)])
    part = whole[number * size : (number + 1) * size]
    assert sorted(part.tolist()) == list(range(size))


@given(sizes, counts, st.integers(1, 6), st.integers(0, 50))
def test_a_step_is_a_function_of_its_number(size: int, count: int, bucket: int, step: int) -> None:
    used = ShuffledStream(0, "a", size, lengths(size), bucket)
    for other in range(step):
        used.rows(other * count, count)
    fresh = pickle.loads(pickle.dumps(used))  # as a worker gets it
    for one, other in zip(
        used.rows(step * count, count), fresh.rows(step * count, count), strict=True
    ):
        assert np.array_equal(one, other)


def test_buckets_hold_rows_of_like_length() -> None:
    size, count = 4000, 20
    known = lengths(size)

    def padding(bucket: int) -> float:
        stream = ShuffledStream(0, "a", size, known, bucket)
        steps = [known[stream.rows(k * count, count)[0]] for k in range(600)]
        return float(np.mean([step.max() - step.mean() for step in steps]))

    assert padding(20) < 0.1 * padding(1)


def test_batches_of_a_bucket_are_not_sorted() -> None:
    known = lengths(4000)
    stream = ShuffledStream(0, "a", 4000, known, 20)
    means = [known[stream.rows(k * 20, 20)[0]].mean() for k in range(20)]
    assert means != sorted(means)


@given(st.integers(1, 5), st.integers(0, 30))
def test_a_plan_s_places_are_the_sum_of_all_steps_before(steps: int, step: int) -> None:
    plan = EpochPlan(AnnealedTemperature(20, steps, epochs=3), {"a": 10, "b": 900})
    for name in plan.sizes:
        before = sum(plan.stretch(name, one)[1] for one in range(step))
        assert plan.stretch(name, step)[0] == before


def test_what_a_sampler_learns_changes_later_epochs_only() -> None:
    sampler = Adaptive(20, 5, rate=1.0)
    sampler.bind({"a": ["x"], "b": ["y"]})
    plan = EpochPlan(sampler, {"a": 100, "b": 100})
    plan.begin(3)
    first = plan.stretch("a", 3)
    sampler.observe({"x": 0.9, "y": 0.9})
    sampler.observe({"x": 0.9, "y": 0.45})
    assert plan.stretch("a", 3) == first
    assert plan.counts(1)["b"] > plan.counts(0)["b"]
    again = EpochPlan(sampler, plan.sizes, plan.history)
    assert again.stretch("b", 7) == plan.stretch("b", 7)
