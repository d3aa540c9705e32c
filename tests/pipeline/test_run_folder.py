"""Run folders: one a run, and nothing of a run elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.run_folder import RUN_DIR_VARIABLE, RunFolder, new_run_folder, newest_run_folder
from pollinate.errors import PollinateError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(RUN_DIR_VARIABLE, raising=False)


def touch(path: str, age: int) -> None:
    file = Path("runs") / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.utime(file, (age, age))


def test_a_new_folder_is_named_after_time_and_run(tmp_path: Path) -> None:
    path = new_run_folder("trial", None).path
    assert path.parent == tmp_path / "runs"
    assert path.name.endswith("-trial")
    assert not path.exists()


def test_two_runs_of_one_second_get_two_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    names = []
    for _ in range(3):
        folder = new_run_folder("a", None)
        folder.create()
        names.append(folder.path.name)
    assert names == ["20260101-000000-a", "20260101-000000-a-2", "20260101-000000-a-3"]


def test_a_given_folder_is_taken(tmp_path: Path) -> None:
    assert new_run_folder("a", "here/it/is").path == tmp_path / "here/it/is"


def test_other_processes_of_a_run_take_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_DIR_VARIABLE, "/some/run")
    assert new_run_folder("a", None).path == Path("/some/run")


def test_create_makes_folders_and_leaves_nothing_else() -> None:
    folder = RunFolder(Path("one"))
    folder.create()
    folder.create()
    assert [path.name for path in folder.path.iterdir()] == ["checkpoints"]


def test_a_folder_that_cannot_be_made_is_named() -> None:
    Path("file").touch()
    with pytest.raises(PollinateError, match=r"run folder file/one can't be written: .*run_dir="):
        RunFolder(Path("file/one")).create()


def test_config_round_trip() -> None:
    config = {"name": "ä", "seed": 0, "lr": 1e-5, "nested": {"list": [1, "a: b", None]}, "no": {}}
    folder = RunFolder(Path("one"))
    folder.create()
    folder.write_config(config)
    assert folder.read_config() == config


def test_summary_is_whole_or_old() -> None:
    folder = RunFolder(Path("one"))
    folder.create()
    folder.write_summary({"status": "finished"})
    with pytest.raises(TypeError):
        folder.write_summary({"status": object()})
    assert json.loads(folder.summary.read_text()) == {"status": "finished"}


def test_newest_is_where_a_run_was_at_work_last(tmp_path: Path) -> None:
    touch("a/checkpoints/last.ckpt", 3)
    touch("b/checkpoints/last.ckpt", 2)
    touch("b/config.yaml", 1)
    touch("c/other.txt", 9)
    assert newest_run_folder().path == tmp_path / "runs" / "a"
    touch("d/config.yaml", 4)
    assert newest_run_folder().path == tmp_path / "runs" / "d"


def test_no_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PollinateError, match=f"no run below {tmp_path}/runs; start a run first"):
        newest_run_folder()


def test_the_newest_run_is_so_by_what_it_says() -> None:
    for name, said, age in (("copied", 1, 2**31), ("newer", 2, 1)):
        touch(f"{name}/config.yaml", age)
        Path("runs", name, "operations.jsonl").write_text(f'{{"op":"start","time_ms":{said}}}\n')
    assert newest_run_folder().path.name == "newer"
