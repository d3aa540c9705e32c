"""Commands that are killed at random lose nothing; ``python -m benchmarks.kills`` does more."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

import pytest

from benchmarks.kills import Machine, main
from tests.pipeline.studies.warm_server import kill_all


@pytest.mark.slow
def test_random_kills_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    monkeypatch.chdir(tmp_path)
    python = shlex.split(launcher)
    forks = Machine(python, partial(kill_all, python[-1]))
    assert min(main(2, kinds=["fit", "predict"], machine=forks).values()) >= 1
