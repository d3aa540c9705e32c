import json
import shutil
from pathlib import Path

import pytest
import torch

from lightning_modules.checkpoints import read_checkpoint, write_checkpoint
from pipeline.evaluate import main


def test_equals_the_fits_own_test(tiny_run: Path, tmp_path: Path) -> None:
    assert main([f"checkpoint={tiny_run}", f"run_dir={tmp_path}"]) == 0
    found = json.loads((tmp_path / "evaluation-test.json").read_text())
    summary = json.loads((tiny_run / "summary.json").read_text())
    assert found["scores"] == summary["test"]
    assert found["baseline"] == summary["baseline"]
    assert found["rows"]["digit"] == 24


@pytest.mark.parametrize("split", ["train", "valid"])
def test_measures_every_split(tiny_run: Path, tmp_path: Path, split: str) -> None:
    best = tiny_run / "checkpoints" / "best.ckpt"
    assert main([f"checkpoint={best}", f"split={split}", f"run_dir={tmp_path}"]) == 0
    found = json.loads((tmp_path / f"evaluation-{split}.json").read_text())
    summary = json.loads((tiny_run / "summary.json").read_text())
    assert split == "train" or found["scores"] == summary["valid"]
    assert found["split"] == split


def test_says_that_it_replaces(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("wrote", "replaced the earlier"):
        main([f"checkpoint={tiny_run}", f"run_dir={tmp_path}"])
        assert f"{word} {tmp_path}/evaluation-test.json" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation-test.json"]


def test_results_go_to_the_checkpoints_run(tiny_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    assert main([f"checkpoint={copy / 'checkpoints' / 'last.ckpt'}"]) == 0
    assert (copy / "evaluation-test.json").exists()


def test_changed_data_are_an_error(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = read_checkpoint(tiny_run / "checkpoints" / "best.ckpt")
    saved["pollinate"]["config"]["data"]["datasets"]["mnist"]["source"]["rows"] = 110
    write_checkpoint(saved, tmp_path / "other.ckpt")
    assert main([f"checkpoint={tmp_path / 'other.ckpt'}", f"run_dir={tmp_path}"]) == 1
    assert "the data of mnist changed since the run was started" in capsys.readouterr().err


def test_bad_arguments(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loose = tmp_path / "loose.ckpt"
    shutil.copy(tiny_run / "checkpoints" / "best.ckpt", loose)
    empty = tmp_path / "empty"
    empty.mkdir()
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    cases = [
        ([f"checkpoint={loose}"], "say where results go: run_dir=PATH"),
        (["checkpoint=nowhere"], "must be a file, a run folder, an MLflow run id or models:/"),
        ([f"checkpoint={empty}"], "has no checkpoint: name a file"),
        ([f"checkpoint={tiny_run}", "split=dev"], "split must be one of train, valid, test"),
        ([f"checkpoint={tiny_run}", "batch_size=0"], "batch_size must be >= 1, got 0"),
        ([f"checkpoint={tiny_run}", f"run_dir={loose}"], "can't be made"),
        ([f"checkpoint={foreign}", f"run_dir={tmp_path}"], "was not written by pipeline.fit"),
        (
            [f"checkpoint={'0' * 32}", f"uri=sqlite:///{tmp_path}/none.db"],
            "no database at",
        ),
    ]
    for arguments, message in cases:
        assert main(arguments) in (1, 2), arguments
        assert message in capsys.readouterr().err
