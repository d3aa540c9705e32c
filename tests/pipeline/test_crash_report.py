"""What a crash leaves: a report in the run folder, the run in MLflow, a line in the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_modules.module import MultiTaskModule
from pipeline import cli, training_run
from pipeline.command import CommandArguments, CommandResult, run_command
from pipeline.crash_report import (
    crash_evidence,
    has_crashed_before,
    hide_secrets,
    is_crash,
    write_report,
)
from pipeline.fit import main as fit
from pipeline.inspect import main as inspect
from pipeline.run_folder import RunFolder
from pipeline.tracking.sender import record_crash
from pipeline.training_run import TrainingRun
from pollinate.errors import PollinateError, UsageError, crash_file_of
from tests.pipeline.studies.text_shop import SMALL, write_shop

FIT = [*SMALL, "trainer.max_epochs=1", "run_dir=run"]
# a server that isn't there; nothing may wait for it
DOWN = ["tracking=mlflow", "tracking.uri=http://someone:hunter2hunter2@127.0.0.1:9"]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def caused(kind: type[Exception], message: str, cause: Exception) -> Exception:
    error = kind(message)
    error.__cause__ = cause
    return error


def operations(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "operations.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_tracked(folder: Path) -> None:
    """The run's journal, which is sent when a server answers, has the report and the end."""
    found = operations(folder)
    assert "crash.txt" in [one["path"] for one in found if one["op"] == "artifact"]
    assert [one["status"] for one in found if one["op"] == "status"] == ["FAILED"]


@pytest.mark.parametrize(
    ("error", "before", "begun"),
    [
        (KeyError("a"), True, True),
        (PollinateError("loss is NaN"), False, False),
        (caused(UsageError, "lr must be", ValueError("a")), False, True),
        (KeyboardInterrupt(), False, False),
        (SystemExit(143), False, False),
    ],
)
def test_what_is_a_crash(error: BaseException, before: bool, begun: bool) -> None:
    assert (is_crash(error, begun=False), is_crash(error, begun=True)) == (before, begun)


def test_a_command_without_a_folder_says_where_the_report_is(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(config: dict[str, Any], arguments: CommandArguments) -> CommandResult:
        raise KeyError("the reason\nof it")

    assert run_command("evaluate", run, ["checkpoint=a", "uri=http://u:secret7@h"]) == 1
    (report,) = (shop / "runs/crashes").iterdir()
    shown = capsys.readouterr().err
    where = report.relative_to(shop)
    assert shown == f"error: KeyError: 'the reason\\nof it'; all about it: {where}\n"
    text = report.read_text()
    assert "in run\n    raise KeyError" in text
    assert "python -m pipeline.evaluate checkpoint=a 'uri=http://***@h'" in text
    for package in ("python 3.", "torch 2.", "lightning 2.", "pollinate 0.1.0"):
        assert package in text


@pytest.mark.usefixtures("shop")
def test_debug_shows_the_traceback_at_once_without_secrets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(config: dict[str, Any], arguments: CommandArguments) -> CommandResult:
        raise KeyError("http://u:secret7@h")

    assert run_command("evaluate", run, ["checkpoint=a", "--debug"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown and "secret7" not in shown


def test_a_crash_in_training(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, calls = MultiTaskModule.training_step, iter(range(10))

    def crash(self: MultiTaskModule, *given: Any) -> Any:
        if next(calls) == 3:
            raise ZeroDivisionError("by http://u:secret7@h")
        return original(self, *given)

    monkeypatch.setattr(MultiTaskModule, "training_step", crash)
    assert cli.main(["fit", *FIT, *DOWN]) == 1
    report = shop / "run/crash.txt"
    *_, last = capsys.readouterr().err.strip().splitlines()
    told = "error: ZeroDivisionError: by http://***@h; all about it: run/crash.txt"
    assert last == told
    text = report.read_text()
    assert "training batch 3 of epoch 0, after 3 optimizer steps" in text
    assert "  rows of notes: [" in text and "  rows of trips: [" in text
    assert "in crash\n    raise ZeroDivisionError" in text
    assert "command:   pollinate fit data=shop.yaml" in text
    assert "hunter2" not in text and "secret7" not in text
    assert_tracked(shop / "run")
    summary = json.loads((shop / "run/summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("failed", 3)


def test_the_cause_of_an_explained_failure_is_kept(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(self: MultiTaskModule, *_: Any) -> None:
        raise MemoryError("can't allocate memory")

    monkeypatch.setattr(MultiTaskModule, "training_step", crash)
    assert fit(FIT) == 1
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith("error: memory ran out in batches of 16 rows")
    assert last.endswith("; its cause is in run/crash.txt")
    assert "MemoryError: can't allocate memory" in (shop / "run/crash.txt").read_text()
    assert_tracked(shop / "run")


def test_a_failure_that_its_message_explains_leaves_no_report(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: MultiTaskModule, *_: Any) -> None:
        raise PollinateError("no")

    monkeypatch.setattr(MultiTaskModule, "training_step", refuse)
    assert fit(FIT) == 1
    assert not (shop / "run/crash.txt").exists()
    assert json.loads((shop / "run/summary.json").read_text())["status"] == "failed"


def test_a_crash_before_the_run_begins_leaves_its_folder_free(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_run, "build_module", lambda *_: {}["gone"])
        assert fit(FIT) == 1
    assert capsys.readouterr().err == "error: KeyError: 'gone'; all about it: run/crash.txt\n"
    text = (shop / "run/crash.txt").read_text()
    assert "configuration\n" in text and "path: " in text.partition("configuration\n")[2]
    assert_tracked(shop / "run")
    assert has_crashed_before(shop / "run")
    key = operations(shop / "run")[0]["key"]

    assert fit(FIT) == 0
    assert json.loads((shop / "run/summary.json").read_text())["status"] == "finished"
    starts = [one["key"] for one in operations(shop / "run") if one["op"] == "start"]
    assert starts == [key, key]
    assert (shop / "run/crash.txt").read_text() == text
    assert fit(FIT) == 2  # now there is a run


@pytest.mark.parametrize("killed", ["write_config", "create"])
def test_a_kill_before_the_run_begins_leaves_its_folder_free(
    killed: str, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        """Nothing is done after it."""

    def kill(*_: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_crashed", lambda *_: None)
        patch.setattr("pipeline.crash_report.keep_evidence", lambda *_, **__: None)
        if killed == "create":
            patch.setattr(training_run, "open_tracker", kill)
        else:
            patch.setattr(RunFolder, "write_config", kill)
        with pytest.raises(KilledError):
            fit(FIT)
    (shop / "run" / ".config.yaml.00aa.999999999.tmp").touch()
    assert (shop / "run" / "checkpoints").is_dir()
    assert fit(FIT) == 0
    assert not list((shop / "run").glob(".*.tmp"))


def test_a_mistake_leaves_nothing(shop: Path) -> None:
    assert fit([*FIT, "trainer.devices=99", "trainer.accelerator=cuda"]) == 2
    assert not (shop / "run").exists() and not (shop / "runs").exists()


def test_what_fails_after_training_costs_only_itself(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training_run, "print_table", lambda *_: {}["table"])
    monkeypatch.setattr(training_run, "draw_plots", lambda *_: {}["plot"])
    monkeypatch.setattr(training_run, "export_model", lambda *_: {}["model"])
    assert fit(FIT) == 0  # each costs only itself
    summary = json.loads((shop / "run/summary.json").read_text())
    assert (summary["status"], bool(summary["test"])) == ("finished", True)
    shown = capsys.readouterr().out
    for what, cause in (("table", "table"), ("plots", "plot"), ("model", "model")):
        assert f"warning: the {what} couldn't be made: KeyError: '{cause}'" in shown
        assert f"KeyError: '{cause}'" in (shop / "run/crash.txt").read_text()


def test_a_full_disk_hides_nothing(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training_run, "record_start", full)
    monkeypatch.setattr("pipeline.run_folder.RunFolder.write_summary", full)
    monkeypatch.setattr("pipeline.crash_report._append", lambda *_: False)
    assert fit(FIT) == 1
    shown = capsys.readouterr().err
    assert "in full\n    raise OSError" in shown
    told = "error: OSError: [Errno 28] No space left on device; no report of it could be written"
    assert shown.strip().splitlines()[-1] == told


def test_a_folder_that_takes_no_report(shop: Path) -> None:
    (shop / "run").touch()  # a file
    error = KeyError("a")
    found = write_report(error, {}, shop / "run", name="fit")
    assert found is not None and found.parent == shop / "runs/crashes"
    assert crash_file_of(error) == found and error.__notes__ == [f"crash report: {found}"]


def test_a_second_report_is_added(shop: Path) -> None:
    write_report(KeyError("first"), {}, shop / "run")
    write_report(KeyError("second"), {}, shop / "run")
    text = (shop / "run/crash.txt").read_text()
    assert text.index("KeyError: 'first'") < text.index("KeyError: 'second'")


def test_every_process_has_a_report_of_its_own(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    found = write_report(KeyError("a"), {}, shop / "run")
    assert found == shop / "run/crash-rank1.txt" and "rank 1, on" in found.read_text()


def test_secrets_are_hidden_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    monkeypatch.setenv("PWD", "/home/me/shop")
    config = {"data": {"api_key": "k-1234567"}, "text": {"tokenizer": "words.json"}}
    text = "hf_abcdefgh k-1234567 words.json /home/me/shop http://me:pw@host"
    assert hide_secrets(text, config) == "*** *** words.json /home/me/shop http://***@host"


def test_evidence_never_replaces_the_error(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError, match="first"), crash_evidence({"tracking": 3}, shop / "run"):
        raise KeyError("first")
    assert "warning: the crash isn't tracked" in capsys.readouterr().err
    assert (shop / "run/crash.txt").exists()


def test_inspect_leaves_evidence_too(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.inspection.inspection_run.inspect_dataset", lambda *_: {}["a"])
    assert inspect(["data=shop.yaml", "run_dir=look", "tracking=none"]) == 1
    assert_tracked(shop / "look")
    monkeypatch.undo()
    monkeypatch.chdir(shop)
    assert inspect(["data=shop.yaml", "run_dir=look", "tracking=none"]) == 0
    assert operations(shop / "look")[-1]["status"] == "FINISHED"


def test_the_sender_records_the_crash_of_a_run_that_was_killed(tmp_path: Path) -> None:
    journal = tmp_path / "operations.jsonl"
    start = {"op": "start", "key": "k", "time_ms": 0}
    journal.write_text(json.dumps(start) + "\n")
    record_crash(tmp_path)
    assert operations(tmp_path) == [start]  # killed, but no process has crashed
    (tmp_path / "crash-rank1.txt").touch()
    record_crash(tmp_path)
    record_crash(tmp_path)
    found = operations(tmp_path)
    assert [one["op"] for one in found] == ["start", "artifact", "status"]
    assert (found[1]["path"], found[2]["status"]) == ("crash-rank1.txt", "FAILED")


def test_a_report_of_an_earlier_session_says_nothing_of_this_one(tmp_path: Path) -> None:
    (tmp_path / "crash.txt").touch()
    later = (tmp_path / "crash.txt").stat().st_mtime_ns // 1_000_000 + 5000
    start = {"op": "start", "key": "k", "time_ms": later}
    (tmp_path / "operations.jsonl").write_text(json.dumps(start) + "\n")
    record_crash(tmp_path)
    assert operations(tmp_path) == [start]
