"""The factor on the learning rate at every optimizer step."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from lightning_modules.optimization import schedule_optimizer
from lightning_modules.schedules.base import Schedule
from lightning_modules.schedules.one_cycle import OneCycle
from pollinate.errors import UsageError
from tests.rows.groups import rows
from tests.rows.row import Row, ids

WARMUP, STEPS = 40, 200
each = pytest.mark.parametrize("row", rows("schedule"), ids=ids)


def with_warmup(row: Row, warmup: int = WARMUP) -> Schedule:
    """The schedule as shipped, after a warm-up."""
    schedule: Schedule = Row(row.group, row.option, None, None, {"warmup": warmup}).build()
    return schedule


def factors_of(row: Row) -> list[float]:
    """Its factors at every step, the end included."""
    schedule = with_warmup(row)
    return [schedule.factor(step, STEPS) for step in range(STEPS + 1)]


@each
def test_row(row: Row) -> None:
    schedule = row.build()
    found = {step: schedule.factor(step, row.given) for step in row.expected}
    assert found == pytest.approx(row.expected)


@each
def test_warmup_rises_by_equal_steps(row: Row) -> None:
    factors = factors_of(row)[: WARMUP + 1]
    rises = [after - before for before, after in pairwise(factors)]
    assert rises == pytest.approx([rises[0]] * WARMUP)
    assert factors[0] == pytest.approx(rises[0])
    assert factors[0] > 0


@each
def test_no_jump(row: Row) -> None:
    assert max(abs(after - before) for before, after in pairwise(factors_of(row))) < 0.05


@each
def test_factor_is_between_0_and_1(row: Row) -> None:
    factors = factors_of(row)[:-1]
    assert 0 < min(factors) <= max(factors) <= 1 + 1e-12


@each
def test_after_the_end_it_stays(row: Row) -> None:
    schedule = with_warmup(row)
    assert schedule.factor(STEPS + 50, STEPS) == schedule.factor(STEPS, STEPS)


@each
def test_a_run_without_end_stays_where_the_warmup_led(row: Row) -> None:
    schedule = with_warmup(row)
    assert schedule.factor(10**6, None) == schedule.factor(WARMUP, None) == schedule.shape(0.0)


@each
def test_a_warmup_as_long_as_the_run_is_fine(row: Row) -> None:
    schedule = with_warmup(row, STEPS)
    assert schedule.factor(STEPS - 1, STEPS) < schedule.factor(STEPS, STEPS) * (1 + 1e-12)


@each
def test_optimizer_follows(row: Row) -> None:
    schedule, rate = row.build(), 0.3
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = schedule_optimizer(optimizer, schedule, row.given)
    for step in range(row.given):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(
            rate * schedule.factor(step, row.given)
        )
        optimizer.step()
        scheduler.step()


@each
def test_negative_warmup_is_refused(row: Row) -> None:
    with pytest.raises(UsageError, match="warmup must be >= 0 optimizer steps, got -1"):
        with_warmup(row, -1)


@pytest.mark.parametrize("rise", [-0.1, 1.0])
def test_one_cycle_refuses_a_wrong_rise(rise: float) -> None:
    with pytest.raises(UsageError, match=rf"rise must be in \[0, 1\), got {rise}"):
        OneCycle(rise=rise)
