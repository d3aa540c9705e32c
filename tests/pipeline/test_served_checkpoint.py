"""The weights of a served or registered model, where a training is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.evaluate import main as evaluate
from pipeline.merge import main as merge
from pipeline.serving.model_folder import DATA_FOLDER, WEIGHTS
from tests.lean_fit import fit

ASKED: dict[str, Callable[[Path, Path], int]] = {
    "evaluate": lambda served, out: evaluate([f"checkpoint={served}", f"run_dir={out}"]),
    "merge": lambda served, out: merge([f"models=[{served}]", f"output={out}", "tracking=none"]),
    "resume": lambda served, out: fit([f"resume={served}", "tracking=none"]),
}


@pytest.mark.parametrize("command", ASKED)
def test_it_is_told_from_a_run(
    command: str,
    tiny_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert ASKED[command](tiny_run / "model" / DATA_FOLDER / WEIGHTS, out) == 1
    assert "is a model as it is served" in capsys.readouterr().err
