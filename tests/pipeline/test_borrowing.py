"""A network with sources inside outlives them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pipeline.evaluate import main as evaluate
from pipeline.fit import main
from pipeline.prediction.predictor import Predictor
from tests.conftest import fit

BASE = ("tracking=none", "schedule=constant", "trainer.log_every_n_steps=1")


@pytest.fixture(scope="module")
def source(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(tiny_run, tmp_path_factory.mktemp("sources") / "source")


def test_resuming_predicting_and_evaluating_need_no_source(source: Path, tmp_path: Path) -> None:
    options = [*BASE, "transfer=source_attention", f"transfer.sources={{first: {source}}}"]
    whole = fit(tmp_path / "whole", *options)
    stopped = fit(tmp_path / "stopped", *options, "trainer.max_steps=2")
    shutil.rmtree(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLLINATE_RUN_DIR", "")  # set by the command, and taken back here
        assert main([f"resume={stopped}", "trainer.max_steps=3"]) == 0
    one, other = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (whole, stopped)
    )
    assert one.keys() == other.keys()
    assert any("borrowing.lenders.first" in key for key in one)
    network = {key for key in one if key.startswith("network.")}
    assert all(torch.equal(one[key], other[key]) for key in network)
    assert (stopped / "plots" / "sources.png").is_file()
    best = stopped / "checkpoints" / "best.ckpt"
    found = Predictor.load(best).predict({"text": ["good", "bad"]})
    assert all(label is not None for label in found.answers["sentiment"])
    assert evaluate([f"checkpoint={best}", "split=test"]) == 0
