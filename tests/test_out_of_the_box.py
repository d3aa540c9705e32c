"""What is measured out of the box: its pieces, its page, the plain network, the task files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks.out_of_the_box import __main__ as command
from benchmarks.out_of_the_box import pieces
from benchmarks.out_of_the_box.cnn import accuracy, cnn_accuracy, train
from benchmarks.out_of_the_box.pieces import Piece, Place, all_pieces, seconds_left
from benchmarks.out_of_the_box.report import page_text
from benchmarks.out_of_the_box.sets import SETS, with_paths, write_task_files
from benchmarks.real_data import SETS as OWN
from pipeline.build import build_datamodule
from pipeline.configuration.composition import compose
from pipeline.engines.process import ProcessLock
from pollinate.files import write_json, write_text

HERE = Path(__file__).parent
DATA = OWN / "data"
QUICKSTART = SETS["quickstart"]["tasks"]

# the task files


def test_a_task_file_has_nothing_but_data_sets_and_tasks() -> None:
    options = {"dataset", "type", "target", "unseen"}  # unseen: else clip art is refused
    for spec in SETS.values():
        assert set(spec) == {"datasets", "tasks"}
        assert all(set(task) <= options for task in spec["tasks"].values())


@pytest.mark.parametrize("name", ["intent_slots", "clipart_titles", "spoken_digits"])
def test_a_task_file_composes(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.yaml"
    write_text(file, yaml.safe_dump(with_paths(SETS[name], tmp_path)))
    data = compose("fit", [f"data={file}"])["data"]
    assert set(data["tasks"]) == set(SETS[name]["tasks"])
    (dataset,) = data["datasets"].values()
    assert Path(dataset["source"]["path"]).is_relative_to(tmp_path)


def test_a_task_alone_is_stratified_as_both_are(tmp_path: Path) -> None:
    file = tmp_path / "trec.yaml"
    write_text(file, yaml.safe_dump(with_paths(SETS["trec"], tmp_path), sort_keys=False))
    alone, together = (
        compose("fit", [f"data={file}", *choice])["data"]["datasets"]["questions"]["split"]
        for choice in (["tasks=[fine]"], [])
    )
    assert alone == together == {"column": "split", "valid": 0.1, "stratify": "coarse"}


def test_sets_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    write_text(tmp_path / "data/sentences/cr.csv", "text,label,split\n")
    files = write_task_files(["cr", "mr", "quickstart"], tmp_path / "data", tmp_path / "files")
    assert list(files) == ["cr", "quickstart"]
    assert sorted((tmp_path / "files").iterdir()) == sorted(files.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_every_task_of_a_set_gets_rows(name: str, tmp_path: Path) -> None:
    files = write_task_files([name], DATA, tmp_path)
    if not files:
        pytest.skip(f"{name} is not in {DATA}")
    data = build_datamodule(compose("fit", [f"data={files[name]}", f"data.cache={tmp_path}"]))
    data.setup()
    steps = islice(data.train_dataloader(), 20)
    assert {t for step in steps for t, n in step.labelled.items() if n} == set(data.tasks)


# the plain network


def test_the_plain_network_learns_what_is_plain() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(60) % 2
    pictures = torch.rand(60, 3, 16, 16, generator=generator)
    pictures[:, 0] += targets[:, None, None] / 4  # the ones are redder
    rows = np.tile(np.arange(60), 6)  # else there are too few steps for BatchNorm's averages
    targets = targets[rows]
    state = torch.get_rng_state()
    first, again = (train(pictures.__getitem__, rows, targets, 2, seed=3) for _ in range(2))
    assert accuracy(first, pictures.__getitem__, rows, targets) == 1.0
    assert torch.equal(first(pictures), again.eval()(pictures))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("file", ["npz", "audio_folder"])
def test_the_plain_network_reads_pictures_and_recordings(file: str) -> None:
    assert 0 <= cnn_accuracy(HERE / f"data/{file}.yaml", "kind", 1) <= 1


# the pieces


def test_a_set_has_its_pieces() -> None:
    chosen = {name: SETS[name] for name in ("cr", "clipart_titles", "trec")}
    found = [piece.name for piece in all_pieces(chosen, ["fast"], [0], apart=True)]
    assert found == [
        "fast-seed0",
        "cnn-category-seed0",
        "cnn-subcategory-seed0",
        "fast-seed0",
        "fast-seed0",
        *("fast-category-seed0", "fast-subcategory-seed0"),
        *("fast-coarse-seed0", "fast-fine-seed0"),
    ]


def test_a_run_is_the_users_own_command(tmp_path: Path) -> None:
    words = pieces.command(Piece("trec", 2, "good", "fine"), Place(tmp_path))
    run = tmp_path / "runs/trec/good-fine-seed2"
    assert words[1:] == [
        *("-m", "pipeline.fit", f"data={tmp_path / 'data/trec.yaml'}", "preset=good"),
        *("tasks=[fine]", "seed=2", "tracking=none", f"run_dir={run}"),
    ]
    every = pieces.command(Piece("trec", 2, "none"), Place(tmp_path))
    assert "preset=none" in every and not any("tasks" in word for word in every)


def test_the_time_left_is_that_of_pieces_of_the_same_kind() -> None:
    known = {Piece("cr", 0, "fast"): 10.0, Piece("mr", 0, "fast"): 30.0}
    assert seconds_left([Piece("cr", 1, "fast"), Piece("sst2", 0, "fast")], known) == 10.0 + 20.0
    assert seconds_left([Piece("cr", 1, "good")], known) is None


class Runs:
    """In place of processes: each run writes its summary, or ends as ``ends`` says.

    Attributes:
        begun: the commands, in their order.
        ends: {words of a command: what it does instead}.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ends: dict[str, Callable[[Path], tuple[int, str]]] = {}

    def __call__(
        self, words: Sequence[str], log: Path, lock: ProcessLock, is_stopped: Callable[[], bool]
    ) -> tuple[int, str]:
        lock.release()
        self.begun.append(" ".join(words[3:]))
        for said, end in self.ends.items():
            if said in self.begun[-1]:
                return end(log.with_suffix(""))
        summary: dict[str, Any] = {"status": "finished", "seconds": 5.0}
        if words[2].endswith("cnn"):
            summary["test"] = {words[4]: {"accuracy": 0.9}}
        else:
            test = {task: {"accuracy": 0.8, "f1": 0.7} for task in QUICKSTART}
            summary |= {"test": test, "linear": test, "labels": dict.fromkeys(test, 100)}
        write_json(log.with_suffix("") / "summary.json", summary)
        return 0, ""


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    found = Runs()
    monkeypatch.setattr(pieces, "run_child", found)
    return found


def measure(folder: Path, *more: str) -> int:
    own = ["sets=[quickstart]", "seeds=[0]", "presets=[none]", f"page={folder / 'page.md'}"]
    return command.main([f"data={folder}", f"folder={folder}", *own, *more])


def test_what_is_finished_is_not_run_again(runs: Runs, tmp_path: Path) -> None:
    assert measure(tmp_path) == 0
    assert len(runs.begun) == 3  # the plain network for both picture tasks, one run
    assert "| quickstart | digit | accuracy | 100 | | .800 | .900 | .800 | 5 s |" in (
        tmp_path / "page.md"
    ).read_text("utf-8")
    assert measure(tmp_path, "seeds=[0,1]") == 0
    assert len(runs.begun) == 6
    assert all("seed0" not in one for one in runs.begun[3:])
    assert not list(tmp_path.glob("runs/*/*/"))  # their scores are kept, their folders aren't


def test_a_run_that_fails_stops_no_other(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.ends["cnn-digit"] = lambda _: (1, "one\nerror: no such digit\n")
    assert measure(tmp_path) == 1
    assert len(runs.begun) == 3
    assert "failed: no such digit" in capsys.readouterr().out
    kept = Place(tmp_path).result(Piece("quickstart", 0, task="digit"))
    assert kept is not None and kept["last_lines"] == ["one", "error: no such digit"]
    assert "no such digit" in (tmp_path / "page.md").read_text("utf-8")
    runs.ends.clear()
    assert measure(tmp_path) == 0
    assert len(runs.begun) == 4  # once more, from its beginning


def test_a_stopped_run_is_resumed(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(run: Path) -> tuple[int, str]:
        write_text(run / "checkpoints/last.ckpt", "")
        requests[-1].signal_name = "SIGTERM"
        return 143, "stopped"

    class Request(command.StopRequest):
        def install(self) -> None:
            requests.append(self)

    requests: list[Request] = []
    monkeypatch.setattr(command, "StopRequest", Request)
    runs.ends["none-seed0"] = stop
    assert measure(tmp_path) == 143
    piece, place = Piece("quickstart", 0, "none"), Place(tmp_path)
    assert place.result(piece) is None
    assert "seconds" not in (tmp_path / "page.md").read_text("utf-8")
    runs.ends.clear()
    assert measure(tmp_path) == 0
    assert runs.begun[-1] == f"resume={place.run(piece)}"
    kept = place.result(piece)
    assert kept is not None and kept["resumed"]


def test_what_another_process_is_at_work_on_is_left_to_it(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    piece, place = Piece("quickstart", 0, "none"), Place(tmp_path)
    lock = place.lock(piece)
    assert lock.acquire()
    assert measure(tmp_path) == 0
    lock.release()
    assert len(runs.begun) == 2
    assert f"another process is at work on {piece.words}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=d"], "folder=FOLDER is missing"),
        (["folder=f"], "data=FOLDER is missing"),
        (["folder=f", "data=d", "set=[cr]"], "no option 'set'; did you mean sets?"),
        (["folder=f", "data=d", "sets=[hotels]"], "no set 'hotels'; did you mean hotel?"),
        (["folder=f", "data=d", "seeds=3"], "seeds must be a list"),
    ],
)
def test_a_wrong_option_is_told(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(words) == 2
    assert said in capsys.readouterr().err


# the page

MACHINE = {"cores": 2, "threads": "1", "memory_gb": 8, "versions": {"torch": "2.9"}, "commit": "a"}


def finished(name: str, seed: int, preset: str | None, task: str | None, **tests: float) -> Any:
    """Return what is kept of a piece: its tasks' test scores, and a linear model's of .8."""
    scores = {
        own: {"metric": "accuracy", "test": test, "majority": 0.2, "linear": 0.8, "rows": 7007}
        for own, test in tests.items()
    }
    piece = {"set": name, "seed": seed, "preset": preset, "task": task, "status": "finished"}
    more = {"scores": scores, "summary": {"seconds": 30.0}, "resumed": False}
    return piece | more | {"date": "2026-01-02", "machine": MACHINE, "command": "python"}


def lines(results: Sequence[Any], heading: str) -> list[str]:
    """Return a part's lines from its heading to the next one's."""
    _, _, rest = page_text(results).partition(f"## {heading}\n")
    return rest.partition("\n## ")[0].splitlines()


def test_the_page_has_means_deviations_and_times() -> None:
    tests = {0: 0.78, 1: 0.80, 2: 0.82}
    results = [finished("trec", s, "fast", None, coarse=t, fine=0.5) for s, t in tests.items()]
    found = lines(results, "Scores")
    assert "| set | task | score | rows | majority | linear | CNN | fast | fast, time |" in found
    row = "| trec | coarse | accuracy | 7,007 | .200 | .800 | | .800 ± .020 | 30 s |"
    assert row in found
    assert "| | fine | accuracy | 7,007 | .200 | .800 | | .500 ± .000 | |" in found
    assert "| pacs | object | | | | | | | |" in found  # nothing is known, so nothing is said
    assert lines(results, "How it was measured")[1:] == [
        "- 2026-01-02, 3 finished runs, seeds 0, 1 and 2",
        "- 2 cores, 1 thread a run, 8 GB of memory; torch 2.9",
        "- commit a",
    ]


def test_the_verdict_is_against_the_better_simple_model() -> None:
    part = "Against the better simple model"
    fits = [finished("pacs", s, "fast", None, object=0.826, domain=0.794) for s in (0, 1)]
    assert "| pacs | object | | | |" in lines(fits, part)  # the plain network isn't known yet
    nets = [finished("pacs", s, None, "object", object=0.82 + 0.02 * s) for s in (0, 1)]
    nets += [finished("pacs", 0, None, "domain", domain=0.7)]
    found = lines([*fits, *nets], part)
    # .826 against .830: within the slack; differences +.006 and -.014
    assert "| pacs | object | CNN .830 | -.004 [-.131, +.123] | reached |" in found
    assert "| | domain | linear .800 | -.006 [-.006, -.006] | below |" in found
    assert "`fast` reaches it in 1 of 2 tasks." in found


def test_the_better_linear_model_of_all_presets_counts() -> None:
    fast, good = (finished("cr", 0, preset, None, sentiment=0.9) for preset in ("fast", "good"))
    good["scores"]["sentiment"]["linear"] = 0.85
    assert any("| linear .850 | +.050" in one for one in page_text([fast, good]).splitlines())


def test_together_and_apart_are_paired_and_corrected_together() -> None:
    coarse, fine = (0.80, 0.81, 0.79), (0.70, 0.72, 0.71)
    results = []
    for seed in range(3):
        own = {"coarse": coarse[seed], "fine": fine[seed]}
        results.append(finished("trec", seed, "good", None, **own))
        results.append(finished("trec", seed, "good", "coarse", coarse=coarse[-seed]))
        results.append(finished("trec", seed, "good", "fine", fine=fine[seed] - 0.1 - seed / 1000))
    found = lines(results, "Together against apart")
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in found if row[:1] == "|"][2:]
    assert [row[:4] for row in rows] == [
        ["trec", "coarse", ".800 ± .010", ".800 ± .010"],
        ["", "fine", ".710 ± .010", ".609 ± .010"],
        ["", "all", "", ""],
    ]
    assert rows[0][4].startswith("+.000 [") and rows[0][6] == "unclear"
    assert rows[1][4].startswith("+.101 [") and rows[1][6] == "helped"
    assert "Together" not in page_text([one for one in results if one["task"] is None])


def test_a_page_without_results_says_so() -> None:
    assert lines([], "How it was measured") == ["", "Nothing has been measured yet."]
    assert "| hotel | sentiment | | | | | |" in lines([], "Scores")
