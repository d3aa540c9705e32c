"""Merging models that have other models' encoders inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules.predictor import Predictor
from pipeline.merge import main
from tests.conftest import fit
from tests.merged_runs import QUIET, best, uncalibrated

BASE = ("tracking=none", "schedule=constant", "trainer.max_steps=2")
TEXTS = {"text": ["good", "bad"]}


@pytest.fixture(scope="module")
def two(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("borrowers")
    tokens = f"data.text.tokenizer={tiny_run}"
    sources = f"transfer.sources={{first: {tiny_run}}}"
    return [
        fit(root / name, *BASE, tokens, f"transfer={name}", sources)
        for name in ("source_attention", "weighted_fusion")
    ]


def test_an_ensemble_s_members_keep_their_sources(
    two: list[Path], tiny_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    runs = [*two, tiny_run]
    given = f"models=[{','.join(str(run) for run in runs)}]"
    assert main([given, "method=ensemble", f"output={out}", QUIET, "evaluate=false"]) == 0
    ensemble, *members = (uncalibrated(best(run)) for run in (out, *runs))
    expected = torch.stack([probabilities(one) for one in members]).mean(dim=0)
    torch.testing.assert_close(probabilities(ensemble), expected)


def probabilities(predictor: Predictor) -> torch.Tensor:
    answers = predictor.predict(TEXTS, ["sentiment"]).answers["sentiment"]
    known = [answer["probabilities"] for answer in answers if answer is not None]
    return torch.tensor([[row[label] for label in sorted(row)] for row in known])


def test_other_sources_are_named(two: list[Path], tmp_path: Path, capsys: Any) -> None:
    given = f"models=[{two[0]},{two[1]}]"
    assert main([given, f"output={tmp_path / 'out'}", QUIET]) == 2
    error = capsys.readouterr().err
    assert "sources inside the networks of source_attention and weighted_fusion" in error
    assert "or what reads them, differ; only models of one shape" in error
