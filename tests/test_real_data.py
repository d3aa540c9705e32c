"""Public data sets, where they are at hand: see benchmarks/real_data.py."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from benchmarks.real_data import CASES, SETS, is_there
from pipeline.build import build_datamodule
from pipeline.configuration.composition import compose

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", CASES)
def test_a_data_file_composes_with_its_options(name: str) -> None:
    if not is_there(name):
        pytest.skip(f"{name} is not in {SETS / 'data'}")
    options = [*CASES[name].options, "tracking=none"]
    assert compose("fit", [f"data={SETS / name}.yaml", *options])["data"]["tasks"]


@pytest.mark.parametrize("name", CASES)
def test_every_task_gets_rows(name: str, tmp_path: Path) -> None:
    if not is_there(name):
        pytest.skip(f"{name} is not in {SETS / 'data'}")
    config = compose(
        "fit",
        [f"data={SETS / name}.yaml", *CASES[name].options, f"data.cache={tmp_path}"],
    )
    data = build_datamodule(config)
    data.setup()
    steps = islice(data.train_dataloader(), 20)
    seen = {task for step in steps for task, rows in step.labelled.items() if rows}
    assert seen == set(config["data"]["tasks"])
