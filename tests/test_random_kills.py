"""Commands that are killed at random lose nothing; ``python -m benchmarks.kills`` does more."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kills import main

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["fit", "predict"])
def test_random_kills_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(1, kinds=[kind]).total() >= 1
