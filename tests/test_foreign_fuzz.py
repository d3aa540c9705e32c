"""Whatever a stranger's file holds: a value or one error, and nothing is run, read or sent.

``pytest tests/test_foreign_fuzz.py --hypothesis-profile=hunt`` looks for ten minutes.
"""

from __future__ import annotations

import copy
import importlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

import pollinate as po
from datamodules.sources.json import open_json
from lightning_modules.checkpoints import read_spec, write_checkpoint
from lightning_modules.predictor import Predictor
from pipeline.configuration.composition import compose
from pipeline.resume import find_resume_point
from pipeline.run_folder import RunFolder
from pipeline.studies.plan import load_plan
from pipeline.sync import read_settings
from pipeline.tracking.journals import MetricJournal, OperationJournal, has_ended, read_points
from pipeline.tracking.sender import SendCursor, Sender, load_cursor, sent_path, stored_run_id
from pollinate.errors import PollinateError
from tests.watch import watched

SECRET = "hunter2-hunter2"
HUNTS = settings.get_current_profile_name() == "hunt"


MINUTES = 2.5  # of a hunt, each test


def timed(test: Callable[..., None]) -> Callable[..., None]:
    """Let a test of a hunt end when it has had its time, unless it has found something."""
    ends: list[float] = []
    found: list[bool] = []

    @wraps(test)
    def run(*args: Any, **options: Any) -> None:
        if not ends:
            ends.append(time.monotonic() + 60 * MINUTES)
        if HUNTS and not found and time.monotonic() > ends[0]:
            return
        try:
            test(*args, **options)
        except Exception:
            found.append(True)
            raise

    return run


def few(examples: int) -> Callable[[Any], Any]:
    """In the suite so many examples; a hunt has as many as its time allows."""
    count = 4_000 if HUNTS else examples
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=not HUNTS,
        phases=tuple(Phase) if HUNTS else (Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the user stands: a module of a stranger's lies there, and a home with a secret."""
    root = tmp_path_factory.mktemp("place")
    home = root / "home"
    home.mkdir()
    (home / "secret.yaml").write_text(f"password: {SECRET}\n")
    work = root / "work"
    (work / "theirs").mkdir(parents=True)
    (work / "theirs" / "__init__.py").write_text("class Evil:\n    pass\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.syspath_prepend(str(work))
        patch.setenv("SECRET", SECRET)
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield work


def targets() -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from(
        [
            *("os.system", "theirs.Evil", "builtins.eval", "torch.load", "torch.hub.load", ""),
            "pollinate.tracking.MLflowRunLogger",
            "pollinate.encoders.TransformersText",
            "pollinate.encoders.TransformersAudio",
            "pollinate.encoders.TimmImage",
            "pollinate.encoders.CNN",
            "pollinate.trunks.MMoE",
            "pollinate.transfer.Init",
            "pollinate.transfer.SourceAttention",
            "pollinate.merging.OutputEnsemble",
            "pipeline.tracking.background.SenderProcess",
            "torchvision.transforms.v2.Compose",
            "torch.optim.SGD",
        ]
    )
    return st.builds(
        lambda name, more: {"_target_": name, **more},
        names,
        st.dictionaries(
            st.sampled_from(["model", "dim", "uri", "source", "file"]), atoms, max_size=2
        ),
    )


# HOME stands for the user's own folder
TEXTS = [
    *("", "a", "HOME/secret.yaml", "../home/secret", "../../home", "HOME", "/", ".", "..", "a\0b"),
    *("${oc.env:SECRET}", "${dim}", "${", "\\${x}", "${data.tasks}", "${oc.decode:${dim}}", "$"),
    *(
        "theirs",
        "theirs.Evil",
        "theirs.inner",
        "package:theirs/x",
        "hf-hub:theirs/x",
        "local-dir:x",
    ),
    *(
        "http://theirs:1",
        "sqlite:///HOME/x.db",
        "ftp://x",
        "models:/theirs/1",
        "\ud800",
        "\u202e[b]",
    ),
    *(
        "csv",
        "hub",
        "json",
        "quickstart",
        "classification",
        "multilabel",
        "text",
        "pipeline",
        "nan",
    ),
]
atoms = (
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.sampled_from([10**30, 1e308, float("nan"), float("-inf")])
    | st.sampled_from(TEXTS)
    | st.text(max_size=6)
)
KEYS = [
    *("datasets", "tasks", "text", "image", "audio", "source", "path", "type", "dataset", "target"),
    *(
        "inputs",
        "split",
        "files",
        "folder",
        "cache",
        "_requires_",
        "_target_",
        "_convert_",
        "_args_",
    ),
    *("defaults", "hydra", "allow_targets", "launcher", "tracking", "uri", "trainer", "callbacks"),
    *(
        "encoder",
        "tune",
        "trunk",
        "model",
        "assets",
        "extractor",
        "augment",
        "tokenizer",
        "labels_of",
    ),
    *("theirs", "a.b", "a/b", "", "???", "0"),
]
hostile = st.recursive(
    atoms | st.deferred(targets),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=10,
)
DATA = {
    "datasets": {"d": {"source": "csv", "path": "d.csv", "inputs": {"text": "t"}}},
    "tasks": {"c": {"dataset": "d", "type": "classification", "target": "l"}},
}


def spots(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the places in nested containers."""
    yield path
    items = tree.items() if isinstance(tree, dict) else ()
    items = enumerate(tree) if isinstance(tree, list) else items
    for key, value in items:
        yield from spots(value, (*path, key))


def changed(tree: Any, where: float, value: Any, key: str | None) -> Any:
    """Return a copy with a value replaced, or put beside it under another key."""
    tree = copy.deepcopy(tree)
    known = list(spots(tree))[1:]
    path = known[min(int(where * len(known)), len(known) - 1)]
    node = tree
    for part in path[:-1]:
        node = node[part]
    at = path[-1] if key is None or not isinstance(node, dict) else key
    node[at] = value
    return tree


@st.composite
def changes(draw: Any) -> list[tuple[float, Any, str | None]]:
    one = st.tuples(st.floats(0, 1), hostile, st.none() | st.sampled_from(KEYS))
    found: list[tuple[float, Any, str | None]] = draw(st.lists(one, min_size=1, max_size=3))
    return found


def apply(tree: Any, many: list[tuple[float, Any, str | None]], home: Path) -> Any:
    for where, value, key in many:
        tree = changed(tree, where, named(value, home), key)
    return tree


def named(value: Any, home: Path) -> Any:
    """Put the user's folder in the place of its name."""
    if isinstance(value, str):
        return value.replace("HOME", str(home))
    if isinstance(value, list):
        return [named(one, home) for one in value]
    if isinstance(value, dict):
        return {named(key, home): named(one, home) for key, one in value.items()}
    return value


YAML_WORDS = st.sampled_from(
    [
        *(
            "a: ",
            "\n",
            "  ",
            "- ",
            "&x ",
            "*x",
            "<<: *x",
            "{",
            "}",
            "[",
            "]",
            "!!",
            "!!python/tuple",
        ),
        *("!!binary x", "? ", ": ", "| ", "> ", "'", '"', "#", "%YAML 9", "---", "...", "\t", "~"),
        *("${oc.env:SECRET}", "0o17", "1:1:1", "9" * 5000, "2020-01-01", "\ufeff", "\0", "@", "`"),
        *("datasets: ", "tasks: ", "# @package _global_\n", "defaults: [../x]\n", "hydra: {}\n"),
    ]
)


def only_errors_of_ours(call: Callable[[], Any], inside: Path) -> Any:
    """Call; an error is one of ours, and one short message that tells no secret."""
    with watched(inside) as watch:
        try:
            return call()
        except PollinateError as error:
            assert SECRET not in str(error)
            return None
        finally:
            assert watch.seen == []


@few(20)
@given(changes() | st.lists(YAML_WORDS, max_size=30).map("".join), st.booleans())
@example("a: &a [*a]\n", True)
@example([(0.0, {"_target_": "theirs.Evil"}, "hydra")], True)
@timed
def test_configurations(place: Path, content: Any, is_data: bool) -> None:
    file = place / "theirs.yaml"
    if isinstance(content, str):
        file.write_text(content, encoding="utf-8")
    else:
        base = DATA if is_data else {"dim": 8, "trainer": {"max_steps": 1}, "data": DATA}
        text = yaml.safe_dump(apply(base, content, place.parent / "home"), allow_unicode=False)
        file.write_text(text if is_data else f"# @package _global_\n{text}", encoding="utf-8")
    command = ["inspect", f"data={file}"] if is_data else ["fit", f"experiment={file}"]
    found = only_errors_of_ours(lambda: compose(command[0], command[1:]), place)
    assert SECRET not in str(found)


@few(40)
@given(
    st.recursive(
        atoms,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["text", "label", "a"]), inner, max_size=3)
        ),
        max_leaves=8,
    ).map(json.dumps)
    | st.sampled_from(["[" * 9_000, '{"a":' * 9_000, "9" * 5000, '"\\ud800"', "\0", '{"a": NaN}'])
    | st.text(max_size=20),
    st.sampled_from(["json", "jsonl"]),
)
@timed
def test_data(place: Path, text: str, suffix: str) -> None:
    file = place / f"theirs.{suffix}"
    file.write_text(text, encoding="utf-8", errors="replace")
    only_errors_of_ours(lambda: list(open_json(file).rows()), place)


class Server:
    """Opens what it is to send, as MLflow does."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def open_run(self, cursor: SendCursor) -> None:
        cursor.run_id = "x"

    def send_points(self, points: list[Any]) -> None:
        assert all(isinstance(point.value, float) for point in points)

    def send_operation(self, operation: Any, _: SendCursor) -> None:
        name = {"artifact": "path", "model": "folder"}.get(operation["op"])
        if name is not None:
            path = sent_path(self.run_dir, operation[name])
            if path.is_file():
                path.read_bytes()


JOURNAL = [
    {"op": "start", "time_ms": 1, "key": "k", "name": "n", "experiment": "e", "uri": None},
    {"op": "params", "time_ms": 1, "params": {"a": "1"}},
    {"op": "tags", "time_ms": 1, "tags": {"a": "1"}},
    {"op": "artifact", "time_ms": 1, "path": "config.yaml", "folder": ""},
    {"op": "model", "time_ms": 1, "folder": "model", "name": "m", "key": "k", "step": 1},
    {"step": 1, "time_ms": 1, "metrics": {"a": 0.5}},
    {"op": "status", "time_ms": 1, "status": "FINISHED"},
]
CONFIG = {"tracking": {"uri": None}, "trainer": {}, "data": DATA}
FILES = ["operations.jsonl", "metrics.jsonl", "tracking.json", "summary.json", "study.json"]


def use_run_folder(folder: Path) -> None:
    """Do all that is done with the files of a run that goes on; each may end in an error."""
    files = RunFolder(folder)
    calls: list[Callable[[], Any]] = [
        files.read_config,
        files.read_summary,
        lambda: load_plan(folder),
        lambda: read_settings(folder, None),
        lambda: find_resume_point(resumed(folder), []),
        lambda: stored_run_id(folder),
        lambda: has_ended(folder / "operations.jsonl"),
        lambda: OperationJournal(folder / "operations.jsonl").close(),
        lambda: MetricJournal(folder / "metrics.jsonl").close(),
        lambda: list(read_points(folder / "metrics.jsonl")),
        lambda: Sender(
            folder, Server(folder), load_cursor(folder, "u", "e"), lambda *_, **__: None
        ).send(),
    ]
    for call in calls:
        only_errors_of_ours(call, folder)


def resumed(folder: Path) -> dict[str, Any]:
    return {**CONFIG, "resume": str(folder), "run_dir": None, "allow_targets": []}


@few(40)
@given(
    changes(), st.sampled_from(FILES), st.sampled_from(["", "[" * 5000, "\0", "{}", '{"op": "s'])
)
@timed
def test_run_folders(place: Path, many: Any, file: str, rest: str) -> None:
    home, folder = place.parent / "home", place / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tree = apply({"journal": JOURNAL, "config": CONFIG}, many, home)
    lines = tree.get("journal")
    lines = lines if isinstance(lines, list) else [lines]
    (folder / "config.yaml").write_text(yaml.safe_dump(tree.get("config")), encoding="utf-8")
    (folder / "operations.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    with (folder / file).open("a", encoding="utf-8") as stream:
        stream.write(rest or json.dumps(tree))
    use_run_folder(folder)
    assert [path.name for path in home.iterdir()] == ["secret.yaml"]


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    """What a checkpoint of a small model says."""
    import pandas as pd

    frame = pd.DataFrame({"text": ["good tea", "bad soup"] * 8, "mood": ["glad", "sad"] * 8})
    data = po.MixedDataModule(
        {"notes": po.Dataset(train=frame, valid=0.25, inputs={"text": "text"})},
        tasks={"mood": po.tasks.Classification("notes", target="mood")},
        sampler=po.samplers.Uniform(batch_size=4),
    )
    model = po.MultiTaskModule(
        data, encoders={"text": po.encoders.Bag()}, trunk=po.trunks.SharedTrunk(), dim=8
    )
    saved: dict[str, Any] = {}
    model.on_save_checkpoint(saved)
    found: dict[str, Any] = saved["pollinate"]
    assert Predictor.from_spec(found) is not None
    return found


@few(40)
@given(changes())
@example([(0.9, {"assets": {"extractor": {"feature_extractor_type": "pipeline"}}}, "audio")])
@timed
def test_checkpoints(place: Path, spec: dict[str, Any], many: Any) -> None:
    file = place / "theirs.ckpt"
    known = apply(spec, many, place.parent / "home")
    write_checkpoint({"state_dict": {"a": torch.zeros(1)}, "pollinate": known}, file)
    only_errors_of_ours(lambda: Predictor.from_spec(read_spec(file)), place)


def test_a_checkpoint_that_holds_itself(place: Path, spec: dict[str, Any]) -> None:
    itself: dict[str, Any] = copy.deepcopy(spec)
    itself["config"]["data"]["itself"] = itself
    often: list[Any] = [0] * 10
    for _ in range(9):
        often = [often] * 10
    for known in (itself, {**spec, "often": often}):
        file = place / "theirs.ckpt"
        write_checkpoint({"state_dict": {}, "pollinate": known}, file)
        with pytest.raises(PollinateError, match="is no checkpoint of pollinate"):
            read_spec(file)


def test_the_watch_sees_what_it_is_for(place: Path) -> None:
    home = place.parent / "home"
    with watched(place) as watch:
        (home / "secret.yaml").read_text()
        (place / "own.txt").write_text("fine")
        (place / "own.txt").unlink()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", 9), timeout=0.1)
        subprocess.run(["true"], check=True)
        importlib.import_module("theirs")
        (home / "new").touch()
        (home / "new").unlink()
    del sys.modules["theirs"]
    events = [seen.split()[0] for seen in watch.seen if "socket.connect" not in seen]
    wanted = ["open", "socket.getaddrinfo", "subprocess.Popen", "exec", "open", "os.remove"]
    assert events == wanted
