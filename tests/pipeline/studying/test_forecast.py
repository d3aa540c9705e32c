"""How long the rest will take."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.studying.forecast import duration, remaining
from pipeline.studying.scheduler import Work
from tests.pipeline.studying.plans import jobs_of, plan


def works(tmp_path: Path, predictors: list[str]) -> list[Work]:
    return [Work(job) for job in jobs_of(plan(seeds=[0], predictors=predictors), tmp_path)]


def test_before_anything_is_done_the_guesses_count(tmp_path: Path) -> None:
    found = works(tmp_path, [])
    expected = sum(work.job.expected or 0.0 for work in found)
    assert remaining(found, 1) == pytest.approx(expected)
    assert remaining(found, 2) == pytest.approx(expected / 2)


def test_what_has_no_guess_takes_as_long_as_others(tmp_path: Path) -> None:
    found = works(tmp_path, ["tag"])
    known = [work.job.expected for work in found if work.job.expected is not None]
    assert len(known) == len(found) - 1
    assert remaining(found, 1) == pytest.approx(sum(known) * 4 / 3)


def test_finished_trials_correct_the_guesses(tmp_path: Path) -> None:
    found = works(tmp_path, [])
    first, *rest = found
    assert first.job.expected is not None
    first.state, first.seconds = "done", 3 * first.job.expected
    assert remaining(found, 1) == pytest.approx(3 * sum(w.job.expected or 0.0 for w in rest))


def test_nothing_is_known_without_guesses(tmp_path: Path) -> None:
    found = works(tmp_path, [])
    for work in found:
        work.job.expected = None
    assert remaining(found, 1) is None


def test_durations() -> None:
    assert [duration(s) for s in (4.2, 600, 12_000)] == ["4 s", "10 min", "3 h 20 min"]
