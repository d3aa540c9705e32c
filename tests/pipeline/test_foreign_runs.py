"""Run and study folders by a stranger: nothing is sent, written through links or started."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_modules.checkpoints import SPEC_FORMAT, write_checkpoint
from pipeline.configuration.composition import compose
from pipeline.crash_report import write_report
from pipeline.engines.local import environment
from pipeline.resume import find_resume_point
from pipeline.run_folder import RunFolder, clear_previous_run
from pipeline.studies.arms import Arm
from pipeline.studies.overrides import refuse_commands, told_again
from pipeline.studies.plan import MultiTaskFacts, StudyPlan, TaskFacts, load_plan
from pipeline.studies.prepare import study_request
from pipeline.studies.scheduler import own_variables
from pipeline.sync import read_settings, sync
from pipeline.tracking.addresses import own_address, own_addresses, without_login
from pipeline.tracking.journals import JsonLinesFile, OperationJournal, read_points, read_records
from pipeline.tracking.loggers import LocalRunLogger
from pipeline.tracking.sender import RefusedError, SendCursor, Sender, load_cursor, sent_path
from pollinate.errors import PollinateError, UsageError
from pollinate.files import path_inside, refuse_links, replacing, write_text

EVIL = "http://theirs.example:5000"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file of the user's, outside the run folder."""
    file = tmp_path / "home" / "bashrc"
    file.parent.mkdir()
    file.write_text("mine\n")
    return file


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run" / "inner").mkdir(parents=True)
    (tmp_path / "run" / "inner" / "a.txt").write_text("a")
    return tmp_path / "run"


class Server:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def open_run(self, cursor: SendCursor) -> None:
        cursor.run_id = "x"

    def send_points(self, points: list[Any]) -> None:
        self.got += points

    def send_operation(self, operation: Any, _: SendCursor) -> None:
        self.got.append(operation["op"])


def journal(run: Path, *records: Any) -> Path:
    file = run / "operations.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


@pytest.mark.parametrize("op", ["artifact", "model"])
@pytest.mark.parametrize(
    "name", ["HOME", "../home/bashrc", "inner/../../home", "linked", "folder", "..", "", "a\0b"]
)
def test_a_journal_sends_nothing_from_outside(
    op: str, name: str, run: Path, precious: Path
) -> None:
    (run / "linked").symlink_to(precious)
    (run / "folder").mkdir()
    (run / "folder" / "deep").symlink_to(precious.parent)
    named = name.replace("HOME", str(precious))
    own = {"artifact": {"path": named, "folder": ""}, "model": {"folder": named}}[op]
    journal(run, {"op": op, "time_ms": 1, "name": "m", "key": "k", "step": 1, **own})
    server, told = Server(), []
    cursor = SendCursor(run / "tracking.json", "u", "e")
    Sender(run, server, cursor, lambda event, **details: told.append((event, details))).send()
    assert server.got == []
    assert [event for event, _ in told].count("refused") == 1
    assert "upload" not in [event for event, _ in told]


def test_a_journal_sends_what_is_inside(run: Path) -> None:
    assert sent_path(run, "inner/a.txt") == run / "inner" / "a.txt"
    assert sent_path(run, "inner") == run / "inner"
    assert path_inside(run, "absent") == run / "absent"
    with pytest.raises(RefusedError, match="its own folder only"):
        sent_path(run, "/etc/passwd")


def test_a_logger_sends_files_of_its_folder_only(run: Path, precious: Path) -> None:
    tracker = LocalRunLogger(run_dir=run, run_name="a", resume=True)
    with pytest.raises(UsageError, match="files of its own folder only"):
        tracker.log_artifact(precious)
    tracker.close("finished")


MALFORMED = [
    {},
    {"op": 1},
    {"op": "start"},
    {"op": "params", "params": 3},
    {"op": "tags", "tags": ["a"]},
    {"op": "artifact", "path": 3, "folder": ""},
    {"op": "status"},
    {"step": "a", "time_ms": 1, "metrics": {}},
    {"step": 1, "time_ms": 1, "metrics": 3},
    {"step": 1, "time_ms": 1, "metrics": {"a": "os", "b": [1]}},
]


def test_malformed_lines_are_passed_over(run: Path) -> None:
    file = journal(run, *MALFORMED, {"op": "status", "time_ms": 1, "status": "FINISHED"})
    file.write_text("[" * 100_000 + "\n" + file.read_text() + '{"op": "st')
    found = [record for record, _ in read_records(file) if "op" in record]
    assert [record["op"] for record in found] == ["status"]
    assert list(read_points(file)) == []
    OperationJournal(file).close()


@pytest.mark.parametrize(
    "text", ['{"offsets": 3}', "[", "[]", '{"uri": "u", "experiment": "e", "offsets": {"a": -1}}']
)
def test_a_malformed_cursor_is_a_new_one(text: str, run: Path) -> None:
    (run / "tracking.json").write_text(text)
    assert load_cursor(run, "u", "e") == SendCursor(run / "tracking.json", "u", "e")


WRITES: dict[str, Callable[[Path], object]] = {
    "text": lambda path: write_text(path, "theirs"),
    "journal": lambda path: JsonLinesFile(path).append({"a": 1}),
    "operations": lambda path: OperationJournal(path).tags({"a": 1}),
    "crash": lambda path: write_report(ValueError("x"), None, path.parent),
    "checkpoint": lambda path: write_checkpoint({"state_dict": {}}, path),
}
NAMES = {"crash": "crash.txt"}


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize("hard", [False, True])
def test_nothing_is_written_through_links(
    kind: str, hard: bool, run: Path, precious: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    path = run / NAMES.get(kind, "a.jsonl")
    path.hardlink_to(precious) if hard else path.symlink_to(precious)
    try:
        WRITES[kind](path)
    except PollinateError as error:
        assert "can't be written" in str(error)
    assert precious.read_text() == "mine\n"


def test_temporary_names_can_t_be_made_before(run: Path) -> None:
    names = set()
    for _ in range(5):
        with replacing(run / "a") as temporary:
            assert temporary.stat().st_size == 0
            names.add(temporary.name)
    assert len(names) == 5
    assert not any(str(os.getpid()) == name.split(".")[2] for name in names)


@pytest.mark.parametrize("what", ["config.yaml", "checkpoints", "plots/a.png", "summary.json"])
def test_a_run_with_links_does_not_go_on(what: str, run: Path, precious: Path) -> None:
    folder = stranger(run)
    target = precious if "." in what else precious.parent
    path = run / what
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        path.rename(run / "moved")
        target = run / "moved"
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    with pytest.raises(PollinateError, match=r"through links|can't be read"):
        find_resume_point(composed(resume=str(folder.path)), [])
    with pytest.raises(UsageError, match="through links"):
        sync(run, "sqlite:///x.db")
    assert precious.read_text() == "mine\n"


def test_pipes_and_devices_are_no_files_to_write(run: Path) -> None:
    os.mkfifo(run / "metrics.jsonl")
    with pytest.raises(UsageError, match="no regular file"):
        refuse_links(run)
    assert list(read_points(run / "metrics.jsonl")) == []


def test_a_folder_of_links_is_cleared_and_what_they_name_stays(run: Path, precious: Path) -> None:
    (run / "checkpoints").symlink_to(precious.parent)
    (run / "config.yaml").symlink_to(precious)
    clear_previous_run(RunFolder(run))
    assert not (run / "checkpoints").exists()
    assert precious.read_text() == "mine\n"


def composed(**values: Any) -> dict[str, Any]:
    return {
        "run_dir": None,
        "resume": None,
        "allow_targets": [],
        "data": {},
        "tracking": {"uri": "sqlite:///runs/mlflow.db"},
        "trainer": {},
        **values,
    }


def stranger(run: Path, uri: str | None = EVIL) -> RunFolder:
    """Make a run's folder whose checkpoint names a server."""
    folder = RunFolder(run)
    folder.create()
    config = composed(tracking={"uri": uri})
    folder.write_config(config)
    spec = {"format": SPEC_FORMAT, "config": config, "learnt": {}}
    write_checkpoint({"state_dict": {}, "pollinate": spec}, folder.checkpoints / "last.ckpt")
    start = {"op": "start", "time_ms": 1, "key": "k", "name": "n", "experiment": "e", "uri": uri}
    journal(run, start)
    return folder


@pytest.mark.parametrize("uri", [EVIL, "sqlite:////home/me/other.db", "databricks", 3, ["a"]])
def test_a_run_s_own_address_is_asked_for(uri: Any, run: Path) -> None:
    stranger(run, uri)
    with pytest.raises(UsageError, match=r"names the tracking server .* tracking.uri="):
        find_resume_point(composed(resume=str(run)), [])


def test_the_user_s_addresses_are_taken(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger(run)
    mine = composed(resume=str(run), tracking={"uri": "http://me:pw@theirs.example:5000"})
    found = find_resume_point(mine, ["tracking.uri"])
    assert found.config["tracking"]["uri"] == "http://me:pw@theirs.example:5000"
    none = find_resume_point(composed(resume=str(run), tracking={}), ["tracking"])
    assert none.config["tracking"] == {}
    with pytest.raises(UsageError, match=r"names the tracking server .* uri="):
        read_settings(run, None)
    assert read_settings(run, EVIL).uri == EVIL
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pw@theirs.example:5000")
    assert read_settings(run, None).uri == "http://me:pw@theirs.example:5000"
    assert find_resume_point(composed(resume=str(run)), []).folder.path == run


def test_no_connection_is_made_for_a_stranger_s_run(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    stranger(run)
    with pytest.raises(UsageError, match="tracking server"):
        sync(run)


def test_addresses_are_compared_without_logins() -> None:
    own = own_addresses({"uri": "https://me:p@ss@host/x"})
    assert own_address("https://host/x", own) == "https://me:p@ss@host/x"
    assert own_address("https://***@host/x", own) is not None
    assert own_address("https://host/y", own) is None
    assert own_address("https://host/x@evil", own) is None
    assert without_login("http://host/a@b") == "http://host/a@b"
    assert own_address("sqlite:///runs/mlflow.db", own_addresses()) is not None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("tracking: {uri: 'http://theirs'}\n", "tracking.uri"),
        ("launcher: sh theirs.sh\n", "launcher"),
        ("study: {search: {storage: 'mysql://theirs'}}\n", "study.search.storage"),
    ],
)
def test_a_file_names_neither_server_nor_launcher(text: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(f"# @package _global_\n{text}")
    try:
        found: Any = compose("study", [f"experiment={tmp_path}/theirs.yaml"])
    except UsageError as error:
        assert f"{key} is only for the command line" in str(error)
    else:  # the command's own file stands over it
        assert "theirs" not in str(found)


def test_a_tracking_option_names_a_server(tmp_path: Path) -> None:
    (tmp_path / "tracking").mkdir()
    text = "_target_: pollinate.tracking.MLflowRunLogger\nuri: http://mine\nexperiment: e\n"
    (tmp_path / "tracking" / "mine.yaml").write_text(
        text + "register: null\nsystem_seconds: 1\nparent: null\n"
    )
    assert compose("fit", ["tracking=mine"], [tmp_path])["tracking"]["uri"] == "http://mine"
    found = compose("fit", [f"tracking={tmp_path}/tracking/mine.yaml"])
    assert found["tracking"]["uri"] == "http://mine"


def study(folder: Path, **values: Any) -> StudyPlan:
    """Write the plan of a stranger's study."""
    task = TaskFacts(["mnist"], ["image"], "accuracy", True)
    facts = MultiTaskFacts({"digit": task}, {"mnist": 8}, 8, 1, 1, {"mnist": 8}, False)
    arm = Arm(**{**ARM, **values.pop("arm", {})})
    known = {"overrides": [], "base": [], "config_dirs": [], "folder": str(folder)}
    plan = StudyPlan("s", [0], facts=facts, arms={"a": arm}, budget="steps", **{**known, **values})
    folder.mkdir(parents=True, exist_ok=True)
    plan.save(folder)
    return plan


ARM: dict[str, Any] = {
    "name": "a",
    "kind": "variant",
    "tasks": ("digit",),
    "overrides": (),
    "weights": (),
}


@pytest.mark.parametrize(
    ("overrides", "config_dirs", "added"),
    [
        (["launcher=sh theirs.sh"], [], "'launcher=sh theirs.sh'"),
        (["engine=ray"], [], "engine=ray"),
        (["engine=ray", f"engine.address={EVIL}"], [], f"engine.address={EVIL}"),
        (["engine=slurm", "engine.options.account=theirs"], [], "engine.options.account=theirs"),
        (["allow_targets=[theirs]"], [], "'allow_targets=[theirs]'"),
        ([f"tracking.uri={EVIL}"], [], f"tracking.uri={EVIL}"),
        (["tracking=/theirs/tracking.yaml"], [], "tracking=/theirs/tracking.yaml"),
        (["name=${oc.env:HOME}"], [], "name=${oc.env:HOME}"),
        ([], ["/theirs"], "--config-dir=/theirs"),
    ],
)
def test_a_study_s_commands_are_asked_for(
    overrides: list[str], config_dirs: list[str], added: str, tmp_path: Path
) -> None:
    from pipeline.command import CommandArguments

    study(tmp_path / "study", overrides=overrides, config_dirs=config_dirs)
    words = CommandArguments(overrides=[f"resume={tmp_path}/study"])
    with pytest.raises(UsageError, match="only your own command line may") as caught:
        study_request(composed(resume=f"{tmp_path}/study"), words)
    assert added.strip("'") in str(caught.value)


def test_what_the_user_says_again_is_taken() -> None:
    mine = ["seed=1", "balancer=upgrad", "tracking=none", "tracking.uri=sqlite:///runs/mlflow.db"]
    assert told_again([*mine, "engine=local"], []) == []
    assert told_again([f"tracking.uri={EVIL.replace('//', '//me:pw@')}"], []) == [
        f"tracking.uri={EVIL}"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "allow_targets=[theirs]",
        "launcher=sh",
        "engine=slurm",
        "engine.address=theirs:6379",
        "tracking=none",
        f"+tracking.uri={EVIL}",
        "hydra.searchpath=[pkg://theirs]",
        "run_dir=/home/me",
        "name='${oc.env:SECRET}'",
    ],
)
def test_variants_arms_and_searches_command_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="which only the command line may say"):
        refuse_commands("study.variants.x", ["dim=8", text])


@pytest.mark.parametrize(
    "change",
    [
        {"arms": 3},
        {"arms": {"a": 3}},
        {"facts": []},
        {"overrides": [3]},
        {"folder": None},
        {"unknown": 1},
    ],
)
def test_a_malformed_plan_is_one_error(change: dict[str, Any], tmp_path: Path) -> None:
    study(tmp_path)
    file = tmp_path / "study.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(PollinateError, match="is no plan of a study"):
        load_plan(tmp_path)


def test_trials_in_a_folder_of_the_study_s_choice_import_nothing_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "own")
    known = own_variables(1, tmp_path)
    assert known["PYTHONSAFEPATH"] == "1"
    assert str(Path.cwd() / "own") in known["PYTHONPATH"].split(os.pathsep)
    assert environment(own_variables(1, Path.cwd()))["PYTHONPATH"] == "own"
