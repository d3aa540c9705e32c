"""Sources are opened by what a user calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.checkpoints import write_checkpoint
from pipeline.errors import PollinateError, UsageError
from pipeline.sources import Sources, absolute
from pipeline.spec import FORMAT

NOWHERE = "sqlite:///none.db"


def write_run(folder: Path, value: float = 1.0) -> Path:
    state: dict[str, Any] = {"network.trunk.a": torch.tensor(value), "balancer.b": torch.ones(1)}
    spec = {"format": FORMAT, "config": {}, "learnt": {"tasks": {}}}
    write_checkpoint({"state_dict": state, "pollinate": spec}, folder / "checkpoints/best.ckpt")
    return folder


def test_a_run_folder(tmp_path: Path) -> None:
    sources = Sources(NOWHERE)
    source = sources.open(str(write_run(tmp_path)))
    assert {name: value.item() for name, value in source.weights.items()} == {"trunk.a": 1.0}
    assert source.learnt == {"tasks": {}}
    assert sources.digests == {str(tmp_path): source.digest}


def test_another_library_s_folder_and_file(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    torch.save({"a": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    folder = Sources(NOWHERE).open(str(tmp_path))
    assert folder.weights["a"].sum() == 2  # the safe one of the two
    assert Sources(NOWHERE).open(str(tmp_path / "pytorch_model.bin")).weights["a"].sum() == 0
    with pytest.raises(UsageError, match="must be a run of this project"):
        folder.predictor()


def test_a_source_that_changed_stops_a_resumed_run(tmp_path: Path) -> None:
    first = Sources(NOWHERE)
    first.open(str(write_run(tmp_path)))
    Sources(NOWHERE, expected=first.digests).open(str(tmp_path))
    write_run(tmp_path, 2.0)
    with pytest.raises(PollinateError, match="changed since the run was started"):
        Sources(NOWHERE, expected=first.digests).open(str(tmp_path))


def test_what_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(PollinateError, match="a run folder, an MLflow run id or models:/NAME"):
        Sources(NOWHERE).open(str(tmp_path / "none"))


def test_places_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    node = {"name": "a", "source": "a", "methods": [{"teachers": {"x": ["a", "models:/b/1"]}}]}
    place = str(tmp_path / "a")
    assert absolute(node) == {
        "name": "a",
        "source": place,
        "methods": [{"teachers": {"x": [place, "models:/b/1"]}}],
    }
