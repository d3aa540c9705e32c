"""python -m pipeline.rank_sources, as a user calls it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pipeline.rank_sources import main
from tests.models import bert, with_weights
from tests.pipeline.ranking.conftest import KIND, LEVEL, PRICE, SMALL, TAGS, Shop

PHOTOS = Path(__file__).parents[2] / "data" / "image_folder.yaml"


def test_ranks_models_and_tasks(
    trained: Shop,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("transformers", reason="needs the extra encoders")
    monkeypatch.chdir(tmp_path)
    data = trained.data("ranked", kind=KIND, price=PRICE, tags=TAGS)
    model = with_weights(bert(tmp_path / "model"))
    tasks = ("price", "tags")
    rows = [
        f"{trained.run},kind,0.2",
        *(f"task:{name},kind,0.{at}" for at, name in enumerate(tasks)),
    ]
    Path("gains.csv").write_text("\n".join(["source,task,gain", *rows, f"{model},kind,0.1"]))
    arguments = [
        *(f"data={data}", *SMALL),
        *(f"sources=[{trained.run},{model}]", "gains=gains.csv", "steps=6", "every=2"),
        *("sampler.batch_size=16", "output=out.json", f"reference={trained.run}", "run_dir=here"),
    ]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for text in ("best first", "task:price", "Kendall's tau", "seconds", "no leep", "features"):
        assert text in shown

    found = json.loads(Path("out.json").read_text())
    assert found == json.loads(Path("here/ranking.json").read_text())
    kind, price = found["tasks"]["kind"], found["tasks"]["price"]
    own, other = str(trained.run), str(model)
    assert kind["best_first"]["models"]["leep"] == [own]
    assert sorted(kind["best_first"]["models"]["log_me"]) == sorted([own, other])
    assert kind["best_first"]["models"]["log_me"][0] == own  # it was trained on this
    assert kind["sources"][own]["cka"]["value"] == pytest.approx(1.0)  # it is the reference
    assert kind["sources"][own]["leep"]["part"] == "kind"
    assert sorted(kind["best_first"]["tasks"]["tag"]) == ["task:price", "task:tags"]
    assert kind["sources"]["task:kind"]["tag"]["reason"] == "it is the task itself"
    assert price["sources"][own]["h_score"]["value"] is None
    assert "regression has no classes" in price["sources"][own]["h_score"]["reason"]
    assert price["sources"][own]["log_me"]["value"] is not None
    assert set(found["seconds"]["short_run"]) == {"run", "affinity", "cosine"}
    assert found["seconds"]["features"][other] > 0
    # two models and two tasks: pairs are compared within each kind
    assert found["kendall_tau"]["tag"]["pooled"]["sources"] == 2
    assert found["kendall_tau"]["size_rows"]["kind"]["pairs"] <= 1

    with Path("here/ranking.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 3 * 5 * 8  # tasks, sources, scores
    assert {line["gain"] for line in lines if line["source"] == own and line["task"] == "kind"} == {
        "0.2"
    }
    (charted,) = map(json.loads, Path("here/metrics.jsonl").read_text().splitlines())
    value = kind["sources"]["task:price"]["tag"]["value"]
    assert charted["metrics"]["rank/kind/tag/task:price"] == value
    assert main(arguments) == 2
    assert "output must be a new file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "sources must name at least one, such as sources=[runs/NAME,encoder/text:minilm]"),
        (["scores=[log_me,leap]"], "scores has no option 'leap'; did you mean leep?"),
        (["scores=[]"], "scores must name some of cka,"),
        (["scores.h_score.shrinkage=3"], "shrinkage must be in [0, 1] or null, got 3"),
        (["sources=[absent]"], "absent is none of them"),
        (["sources=[RUN]", "gains=absent.csv"], "there is no file absent.csv"),
        (["sources=[RUN]", "output=out.txt"], "output must end in .json or .csv, got out.txt"),
        (["sources=[RUN]", "run_dir=RUN"], "run_dir must be new or empty, got RUN"),
        (["sources=[RUN]", "rows=2"], "rows must be >= 4, got 2"),
        (["sources=[RUN]", f"data={PHOTOS}"], "RUN reads text, not image, which the tasks"),
    ],
)
def test_what_cannot_be_ranked(
    arguments: list[str],
    message: str,
    trained: Shop,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    run = str(trained.run)
    data = trained.data("alone", level=LEVEL)
    given = [argument.replace("RUN", run) for argument in arguments]
    assert main([f"data={data}", *SMALL, *given]) in (1, 2)
    assert message.replace("RUN", run) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_one_score_of_one_source(
    trained: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = trained.data("ordinal", level=LEVEL)
    options = ["scores=leep", f"sources={trained.run}", f"run_dir={tmp_path}/run"]
    assert main([f"data={data}", *SMALL, *options, f"output={tmp_path}/out.csv"]) == 0
    assert "LEEP" in capsys.readouterr().out
    with (tmp_path / "out.csv").open(newline="") as stream:
        (line,) = csv.DictReader(stream)
    assert float(line["value"]) <= 0
    assert line["rank"] == "1"
