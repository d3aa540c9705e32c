"""Models that several tests merge."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_modules.checkpoints import read_checkpoint, write_checkpoint
from tests.data.make import HERE
from tests.lean_fit import fit
from tests.merged_runs import CHEAP, best, moved, only


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``start``, a run, and the models ``a`` to ``d`` that were trained on from it."""
    root = tmp_path_factory.mktemp("merging")
    assert fit([f"data={HERE / 'tasks.yaml'}", *CHEAP, f"run_dir={root / 'start'}"]) == 0
    start = read_checkpoint(best(root / "start"))
    for seed, name in enumerate("abcd"):
        write_checkpoint(moved(start, seed), root / f"{name}.ckpt")
    write_checkpoint(only(moved(start, 4), ["size"]), root / "size.ckpt")
    write_checkpoint(only(moved(start, 5), ["price", "marks"]), root / "price.ckpt")
    return root
