"""Which files a report has, and what is in them."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.studies.analysis.analyze import analyze
from pipeline.studies.analysis.estimates import StudyAnalysis
from pipeline.studies.report import write
from pipeline.studies.report.write import write_report
from pipeline.studies.results import StudyResults
from tests.pipeline.studies.example_study import results

CHARTS = ("changes", "transfers", "pareto", "labels", "learning", "cosines")
EVIL = "<script>alert(1)</script>`$x_2$`\u6570\u5b57"


class Page(HTMLParser):
    """Tags, ids and texts of a page; fails where tags aren't closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.ids.update(value for name, value in attributes if name == "id" and value)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_all_files_are_there(report: Path) -> None:
    names = ["report.html", "results.json", "results.csv", "comparisons.csv"]
    assert all((report / name).stat().st_size > 1000 for name in names)
    pictures = {path.stem: path.read_bytes() for path in (report / "figures").iterdir()}
    assert set(pictures) == set(CHARTS)
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())
    assert not list(report.rglob(".*.tmp"))


def test_the_page_has_verdict_charts_tables_and_commands(report: Path) -> None:
    page = read(report)
    places = [page.text.index(part) for part in (
        "Sharing helped 3 of 4 tasks", "What sharing changed", "Test scores (accuracy in points)",
        "The whole study",
    )]  # fmt: skip
    assert places == sorted(places)
    assert set(CHARTS) < set(page.ids)
    assert page.tags["svg"] == 5 + 2 + 3 + 4 + 4 + 6
    assert page.tags["title"] > 100  # of the window, and of marks
    assert max(page.ids.values()) == 1
    for part in (
        "python -m pipeline.fit data=quickstart balancer=upgrad seed=1",
        "93be48783b75 (mnist_5k.csv.gz)", "5bb7074c0ffee", "2.14.1", "out of memory: <batch>",
    ):  # fmt: skip
        assert part in page.text


def test_nothing_is_loaded_or_run(report: Path) -> None:
    page = read(report)
    html = (report / "report.html").read_text(encoding="utf-8")
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not re.findall(r"(?:src|href)=[\"']?(?!#)[^\"'>]+", html.replace("xlink:href", "href"))
    assert "default-src 'none'" in html


def test_tables_for_other_programs(report: Path) -> None:
    with (report / "results.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    study = results()
    assert len(lines) == sum(len(study.arms[trial.arm].tasks) for trial in study.trials)
    failed = [line for line in lines if line["status"] == "failed"]
    assert {(line["arm"], line["seed"], line["test"]) for line in failed} == {
        ("uncertainty", "2", "")
    }
    found = json.loads((report / "results.json").read_text(encoding="utf-8"))
    of_multi_task = [float(line["test"]) for line in lines if line["arm"] == "multi_task"]
    tests = [t["test"] for t in found["results"]["trials"] if t["arm"] == "multi_task"]
    assert of_multi_task == [value for test in tests for value in test.values()]
    with (report / "comparisons.csv").open(encoding="utf-8", newline="") as file:
        compared = {(line["arm"], line["task"]): line for line in csv.DictReader(file)}
    change = found["answers"]["comparisons"]["multi_task"]["changes"]["subject"]
    assert float(compared["multi_task", "subject"]["difference"]) == change["difference"]["mean"]
    assert compared["multi_task", "delta_m"]["metric"] == ""
    assert found["verdict"][0].startswith("Sharing helped 3 of 4 tasks")


def renamed(
    study: StudyResults, found: StudyAnalysis, old: str, new: str
) -> tuple[StudyResults, StudyAnalysis]:
    """The study and its answers with another name of the task ``old``."""

    def other(value: Any) -> Any:
        if isinstance(value, dict):
            return {other(key): other(item) for key, item in value.items()}
        return re.sub(rf"\b{old}\b", lambda _: new, value) if isinstance(value, str) else value

    arms = {
        other(name): replace(arm, name=other(name), tasks=tuple(map(other, arm.tasks)))
        for name, arm in study.arms.items()
    }
    trials = [
        replace(trial, arm=other(trial.arm), test=other(trial.test), valid=other(trial.valid))
        for trial in study.trials
    ]
    multi_task = found.comparisons["multi_task"]
    multi_task = replace(multi_task, changes=other(multi_task.changes))
    return (
        replace(study, arms=arms, trials=trials, metrics=other(study.metrics)),
        StudyAnalysis(other(found.scores), {"multi_task": multi_task}),
    )


def small(folder: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> tuple[StudyResults, StudyAnalysis]:
    """Alone and multi_task only."""
    study = results(folder, seeds)
    found = analyze(study)
    kept = {
        n: a
        for n, a in study.arms.items()
        if a.kind in ("single_task", "multi_task") and a.labels == 1
    }
    study.trials = [trial for trial in study.trials if trial.arm in kept]
    study.arms, study.predictors = kept, {}
    scores = {name: found.scores[name] for name in kept}
    return study, StudyAnalysis(scores, {"multi_task": found.comparisons["multi_task"]})


def test_names_and_messages_of_strangers(tmp_path: Path) -> None:
    study, found = renamed(*small(tmp_path), "subject", EVIL)
    study, found = renamed(study, found, "digit", "token")
    study.trials[0] = replace(
        study.trials[0], status="failed",
        message="<img src=x> no server at http://me:pw1@host, tracking.password=pw2",
        command=["python", "-m", "pipeline.fit", "api_key=pw3", "tracking.uri=http://me:pw4@host"],
    )  # fmt: skip
    study.notes = ["<b>one</b> seed of http://me:pw5@host"]
    write_report(study, found, tmp_path)
    page = read(tmp_path)
    assert not {"script", "img"} & set(page.tags)
    assert "<script>alert(1)</script>" in page.text
    assert "\u6570\u5b57" in page.text
    for name in ("report.html", "results.json", "results.csv"):
        assert not re.search(r"pw\d", (tmp_path / name).read_text(encoding="utf-8"))
    saved = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert saved["results"]["metrics"]["token"] == "accuracy"  # a task's name is no secret


@pytest.mark.parametrize("case", ["one seed", "nothing finished", "no histories"])
def test_studies_that_lack_something(tmp_path: Path, case: str) -> None:
    study, found = small(tmp_path / "elsewhere", (0,) if case == "one seed" else (0, 1, 2))
    if case == "nothing finished":
        study.trials = [replace(trial, status="waiting", test={}) for trial in study.trials]
        found = StudyAnalysis({}, {})
    paths = write_report(study, found, tmp_path)
    names = [path.name for path in paths]
    expected = [] if case == "nothing finished" else ["changes.png"]
    assert names[4:] == expected
    text = read(tmp_path).text
    assert {
        "one seed": "One seed can't tell",
        "nothing finished": "Nothing to draw yet",
        "no histories": "Sharing helped",
    }[case] in text


def test_a_chart_that_fails_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, found = small(tmp_path)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("no axis for me:pw1@host")

    monkeypatch.setattr(write, "pareto_chart", broken)
    monkeypatch.setattr(write, "write_png", broken)
    problems: list[str] = []
    paths = write_report(study, found, tmp_path, problems)
    assert [path.name for path in paths] == [
        "report.html", "results.json", "results.csv", "comparisons.csv",
    ]  # fmt: skip
    assert len(problems) > 1 and all(line in read(tmp_path).text for line in problems)
    assert problems[0].startswith("the chart of the Pareto front couldn't be drawn: ZeroDivision")
    assert "broken" in (tmp_path / "crash.txt").read_text(encoding="utf-8")


def test_an_old_report_stays_where_a_new_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, found = small(tmp_path)
    (tmp_path / "report.html").write_text("the old one", encoding="utf-8")

    def full(*_: object) -> str:
        raise OSError("disk is full")

    monkeypatch.setattr(write, "report_page", full)
    with pytest.raises(OSError, match="disk is full"):
        write_report(study, found, tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "the old one"
    assert not list(tmp_path.rglob(".*.tmp"))
