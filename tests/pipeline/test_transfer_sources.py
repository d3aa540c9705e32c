"""Sources are opened by what a user calls them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lightning_modules.checkpoints import SPEC_FORMAT, write_checkpoint
from lightning_modules.predictor import Predictor
from pipeline.evaluate import main as evaluate
from pipeline.fit import main
from pipeline.plots import run_plots
from pipeline.transfer_sources import SourceOpener, absolute_paths
from pollinate.errors import PollinateError, UsageError
from tests.conftest import fit

NOWHERE = "sqlite:///none.db"


def write_run(folder: Path, value: float = 1.0) -> Path:
    state: dict[str, Any] = {"network.trunk.a": torch.tensor(value), "balancer.b": torch.ones(1)}
    spec = {"format": SPEC_FORMAT, "config": {}, "learnt": {"tasks": {}}}
    write_checkpoint({"state_dict": state, "pollinate": spec}, folder / "checkpoints/best.ckpt")
    return folder


def test_a_run_folder(tmp_path: Path) -> None:
    sources = SourceOpener(NOWHERE)
    source = sources.open(str(write_run(tmp_path)))
    assert {name: value.item() for name, value in source.weights.items()} == {"trunk.a": 1.0}
    assert source.learnt == {"tasks": {}}
    assert sources.digests == {str(tmp_path): source.digest}


def test_a_run_folder_that_keeps_outputs_is_one_still(tmp_path: Path) -> None:
    torch.save({"mood": {"output": torch.ones(2)}}, write_run(tmp_path) / "outputs-valid.pt")
    assert list(SourceOpener(NOWHERE).open(str(tmp_path)).weights) == ["trunk.a"]


def test_another_library_s_folder_and_file(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    torch.save({"a": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    folder = SourceOpener(NOWHERE).open(str(tmp_path))
    assert folder.weights["a"].sum() == 2  # the safe one of the two
    assert SourceOpener(NOWHERE).open(str(tmp_path / "pytorch_model.bin")).weights["a"].sum() == 0
    with pytest.raises(UsageError, match="must be a run of this project"):
        folder.predictor()


def test_a_language_model_of_the_format_gguf(tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    source = SourceOpener(NOWHERE).open(str(tmp_path / "small.gguf"))
    assert (source.spec, dict(source.weights)) == (None, {})  # transformers reads them
    assert len(source.digest) == 64


def test_a_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PollinateError, match="hub:us/writer can't be had from the hub, nor was it"):
        SourceOpener(NOWHERE).open("hub:us/writer")
    folder, revision = tmp_path / "models--us--writer", "0" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(revision)
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True)
    with pytest.raises(PollinateError, match="hub:us/writer has no file of weights"):
        SourceOpener(NOWHERE).open("hub:us/writer")
    save_file({"a": torch.ones(2)}, snapshot / "model.safetensors")
    sources = SourceOpener(NOWHERE)
    source = sources.open("hub:us/writer")
    assert (source.name, source.weights["a"].sum().item()) == ("us/writer", 2.0)
    assert sources.digests == {"hub:us/writer": source.digest}


def test_a_source_that_changed_stops_a_resumed_run(tmp_path: Path) -> None:
    first = SourceOpener(NOWHERE)
    first.open(str(write_run(tmp_path)))
    SourceOpener(NOWHERE, expected=first.digests).open(str(tmp_path))
    write_run(tmp_path, 2.0)
    with pytest.raises(PollinateError, match="changed since the run was started"):
        SourceOpener(NOWHERE, expected=first.digests).open(str(tmp_path))


def test_what_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(PollinateError, match="a run folder, an MLflow run id or models:/NAME"):
        SourceOpener(NOWHERE).open(str(tmp_path / "none"))


def test_places_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    node = {"name": "a", "source": "a", "methods": [{"teachers": {"x": ["a", "models:/b/1"]}}]}
    place = str(tmp_path / "a")
    assert absolute_paths(node) == {
        "name": "a",
        "source": place,
        "methods": [{"teachers": {"x": [place, "models:/b/1"]}}],
    }


BASE = ("tracking=none", "schedule=constant", "trainer.log_every_n_steps=1")


@pytest.fixture(scope="module")
def source(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(tiny_run, tmp_path_factory.mktemp("sources") / "source")


def test_resuming_predicting_and_evaluating_need_no_source(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*BASE, "transfer=source_attention", f"transfer.sources={{first: {source}}}"]
    whole = fit(tmp_path / "whole", *options)
    stopped = fit(tmp_path / "stopped", *options, "trainer.max_steps=2")
    shutil.rmtree(source)
    monkeypatch.setattr("pipeline.training_run.cost_line", lambda _: "no estimate")
    monkeypatch.setattr(run_plots, "PLOTS", {"sources": run_plots.PLOTS["sources"]})
    monkeypatch.setattr(run_plots, "draw_confusions", lambda *_: [])
    assert main([f"resume={stopped}", "trainer.max_steps=3"]) == 0
    one, other = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (whole, stopped)
    )
    assert one.keys() == other.keys()
    assert any("head_input.source_encoders.first" in key for key in one)
    network = {key for key in one if key.startswith("network.")}
    assert all(torch.equal(one[key], other[key]) for key in network)
    assert (stopped / "plots" / "sources.png").is_file()
    best = stopped / "checkpoints" / "best.ckpt"
    found = Predictor.load(best).predict({"text": ["good", "bad"]})
    assert all(label is not None for label in found.answers["sentiment"])
    assert evaluate([f"checkpoint={best}", "split=test"]) == 0
