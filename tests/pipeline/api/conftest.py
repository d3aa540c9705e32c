"""A run that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

import pollinate as po
from tests.small_shop import SMALL, shop


@pytest.fixture(scope="package")
def run(tmp_path_factory: pytest.TempPathFactory) -> po.Run:
    """A finished run of the shop, not to be changed."""
    folder = tmp_path_factory.mktemp("shop")
    own = ["keep_outputs=[valid]", f"run_dir={folder / 'one'}"]
    return po.fit(shop(folder), [*SMALL, *own], quiet=True)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
