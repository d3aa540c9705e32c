"""The command, on models of every type of task."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from lightning_modules.checkpoints import checkpoint_fingerprint, read_checkpoint
from lightning_modules.predictor import Predictor
from pipeline.evaluate import main as evaluate
from pipeline.merge import main
from pipeline.predict import main as predict
from pipeline.serving.model_folder import DATA_FOLDER
from pipeline.serving.pyfunc import _load_pyfunc
from pipeline.tracking.journals import read_lines, read_points
from tests.lean_fit import fit
from tests.merged_runs import QUIET, best, models, summary, uncalibrated, weights


def test_experts_become_one_model(home: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert main([models(home, "size", "price"), f"output={out}", QUIET]) == 0
    found, (size, price) = (
        weights(best(out)),
        (weights(home / f"{n}.ckpt") for n in ("size", "price")),
    )
    for name, value in found.items():
        if name in size and name in price:
            torch.testing.assert_close(value, (size[name] + price[name]) / 2)
        else:
            assert torch.equal(value, size[name] if name in size else price[name])
    assert list(summary(out)["test"]) == ["size", "marks", "price"]
    parents = summary(out)["parents"]
    assert [parent["tasks"] for parent in parents] == [["size"], ["marks", "price"]]
    assert parents[0]["checksum"] == checkpoint_fingerprint([home / "size.ckpt"])
    shown = capsys.readouterr().out
    assert "merging size, price by Average" in shown
    assert "valid" in shown
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line}
    assert lines["size"][-1] == "-"  # price has no such task
    assert f"{parents[0]['test']['size']['accuracy']:.3f}" in lines["size"]


def test_the_result_is_a_checkpoint_like_any_other(home: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert main([models(home, "a", "b"), "method=uniform_soup", f"output={out}", QUIET]) == 0
    assert evaluate([f"checkpoint={out}"]) == 0
    assert json.loads((out / "evaluation-test.json").read_text())["scores"] == summary(out)["test"]
    rows = tmp_path / "rows.csv"
    rows.write_text("title\nsmall red cup\nbig hat no 3\n")
    answers = tmp_path / "answers.csv"
    arguments = [f"checkpoint={out}", f"input={rows}", f"output={answers}", "tasks=[size,price]"]
    assert predict(arguments) == 0
    assert len(answers.read_text().splitlines()) == 3
    served = _load_pyfunc(str(out / "model" / DATA_FOLDER))
    assert served is not None
    assert (
        "merged" not in read_checkpoint(out / "model" / DATA_FOLDER / "weights.ckpt")["pollinate"]
    )
    # and it can be merged again
    assert main([f"models=[{out},{home / 'c.ckpt'}]", f"output={tmp_path / 'more'}", QUIET]) == 0
    capsys.readouterr()
    assert fit([f"resume={out}", QUIET]) == 2
    assert "was merged from several models" in capsys.readouterr().err


def test_one_model_is_itself(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [models(home, "a"), "method.weights=[1]", f"output={out}", QUIET]
    assert main([*arguments, "evaluate=false"]) == 0
    own = {n: v for n, v in weights(home / "a.ckpt").items() if n.startswith("network.")}
    found = weights(best(out))
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)
    assert summary(out)["test"] == {}


# of every family one that looks at the data
METHODS = (
    ("greedy_soup",),
    ("task_arithmetic", "base", "method.scale=[0.2,0.5]"),
    ("fisher", "method.rows=2"),
    ("regmean", "method.rows=4"),
    ("adamerging", "base", "method.steps=1"),
    ("layerwise", "method.rounds=1"),
)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method[0])
def test_methods_that_look_at_data(method: Sequence[str], home: Path, tmp_path: Path) -> None:
    name, *more = method
    more = [f"base={best(home / 'start')}" if one == "base" else one for one in more]
    given = models(home, "size", "price")
    assert main([given, f"method={name}", *more, f"output={tmp_path / 'out'}", QUIET]) == 0
    found = summary(tmp_path / "out")
    assert found["status"] == "finished"
    assert found["coefficients"]
    assert json.loads((tmp_path / "out" / "coefficients.json").read_text()) == found["coefficients"]
    assert set(found["valid"]) == {"size", "price", "marks"}


def test_an_ensemble_of_every_type_of_task(home: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert main([models(home, "a", "b", "size"), "method=ensemble", f"output={out}", QUIET]) == 0
    assert evaluate([f"checkpoint={out}"]) == 0
    assert json.loads((out / "evaluation-test.json").read_text())["scores"] == summary(out)["test"]
    members = [uncalibrated(home / f"{name}.ckpt") for name in ("a", "b", "size")]
    text = {"text": ["small red cup", "big hat"]}
    answers = uncalibrated(best(out)).predict(text)
    assert Predictor.load(best(out)).trust.tasks.keys() == summary(out)["calibration"].keys()
    own = [member.predict(text, ["size"]).answers["size"] for member in members]
    for row, answer in enumerate(answers.answers["size"]):
        assert answer is not None
        for label, found in answer["probabilities"].items():
            each = [one[row]["probabilities"][label] for one in own]  # type: ignore[index]
            assert found == pytest.approx(sum(each) / 3, abs=1e-6)
    prices = [m.predict(text, ["price"]).answers["price"] for m in members[:2]]
    mean = sum(one[0]["label"] for one in prices) / 2  # type: ignore[index]
    assert answers.answers["price"][0]["label"] == pytest.approx(mean, rel=1e-5)  # type: ignore
    slots = answers.answers["slots"][0]
    assert slots is not None
    assert len(slots["label"].split()) == 3  # a tag a word
    served = _load_pyfunc(str(out / "model" / DATA_FOLDER))
    assert served is not None
    capsys.readouterr()
    assert main([f"models=[{out},{home / 'a.ckpt'}]", f"output={tmp_path / 'b'}", QUIET]) == 1
    assert "is an ensemble" in capsys.readouterr().err


def probabilities(checkpoint: Path, task: str) -> torch.Tensor:
    text = {"text": ["small red cup", "big hat"]}
    rows = uncalibrated(checkpoint).predict(text, [task]).answers[task]
    return torch.tensor([list(row["probabilities"].values()) for row in rows if row])


def test_an_ensemble_with_weights_of_each_task(home: Path, tmp_path: Path, capsys: Any) -> None:
    out, files = tmp_path / "out", {name: home / f"{name}.ckpt" for name in ("a", "b", "size", "c")}
    given = f"models={{{','.join(f'{name}: {path}' for name, path in files.items())}}}"
    tasks = ("marks", "price", "stars", "slots", "pairs", "parts", "distance")
    weights = [f"method.weights.{task}.a=1" for task in tasks]
    weights += ["method.weights.size.a=2", "method.weights.size.size=1", "method.weights.price.b=3"]
    assert main([given, "method=ensemble", *weights, f"output={out}", QUIET]) == 0
    assert "c isn't in the result: it has no weight for any task" in capsys.readouterr().out
    assert [parent["label"] for parent in summary(out)["parents"]] == ["a", "b", "size"]
    assert summary(out)["coefficients"]["weights"]["price"] == {"a": 0.25, "b": 0.75}
    network = Predictor.load(best(out)).network
    assert len(network.networks) == 3
    size = (2 * probabilities(files["a"], "size") + probabilities(files["size"], "size")) / 3
    torch.testing.assert_close(probabilities(best(out), "size"), size)
    alone = probabilities(files["a"], "stars")
    torch.testing.assert_close(probabilities(best(out), "stars"), alone)
    assert evaluate([f"checkpoint={out}"]) == 0
    assert json.loads((out / "evaluation-test.json").read_text())["scores"] == summary(out)["test"]
    served = _load_pyfunc(str(out / "model" / DATA_FOLDER))
    found = served.predict(pd.DataFrame({"text": ["small red cup", "big hat"]}))
    expected = Predictor.load(best(out)).predict({"text": ["small red cup", "big hat"]}, ["size"])
    assert [row["label"] for row in expected.answers["size"] if row] == list(found["size"])

    more = tmp_path / "more"  # and it is a member of another one
    both = f"models={{first: {out}, b: {files['b']}}}"
    own = ["method.weights.size={first: 3, b: 1}", "evaluate=false"]
    assert main([both, "method=ensemble", *own, f"output={more}", QUIET]) == 0
    nested = (3 * size + probabilities(files["b"], "size")) / 4
    torch.testing.assert_close(probabilities(best(more), "size"), nested)
    torch.testing.assert_close(
        probabilities(best(more), "stars"),
        (alone + probabilities(files["b"], "stars")) / 2,
    )
    capsys.readouterr()
    wrong = [both, "method=ensemble", "method.weights.size.frist=1"]
    assert main([*wrong, f"output={tmp_path / 'x'}", QUIET]) == 2
    assert "did you mean first? models: first, b" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_tracked_with_its_parents(home: Path, tmp_path: Path) -> None:
    """What goes to MLflow, as the journal has it."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(home / "price.ckpt", best(run))
    (run / "config.yaml").touch()
    (run / "summary.json").write_text('{"run_id": "0123"}')
    out = tmp_path / "out"
    given = f"models=[{home / 'size.ckpt'},{run}]"
    assert main([given, f"output={out}", "method.weights=[1,3]", QUIET]) == 0
    tags: dict[str, str] = {}
    params: dict[str, str] = {}
    for record, _ in read_lines(out / "operations.jsonl"):
        tags |= record.get("tags", {})
        params |= record.get("params", {})
    assert tags["parent.size.path"] == str(home / "size.ckpt")
    assert tags["parent.run.checksum"] == checkpoint_fingerprint([home / "price.ckpt"])
    assert tags["parent.run.run_id"] == "0123"
    assert tags["pollinate.parents"] == f'["{home / "size.ckpt"}", "0123"]'
    assert params["method.weights"] == "[1, 3]"
    points = {point.key: point.value for point in read_points(out / "metrics.jsonl")}
    assert points["test/size/accuracy"] == summary(out)["test"]["size"]["accuracy"]
    own = summary(out)["parents"][1]["valid"]["price"]["mae"]
    assert points["parent/run/valid/price/mae"] == pytest.approx(own)


def test_nothing_is_overwritten_unasked(home: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    arguments = [models(home, "a", "b"), f"output={out}", QUIET, "evaluate=false"]
    assert main(arguments) == 0
    (out / "notes.txt").write_text("mine")
    before = weights(best(out))
    assert main([*arguments, "method.weights=[1,0]"]) == 2
    assert "output must be a new or empty folder" in capsys.readouterr().err
    assert main([*arguments, "method.weights=[1,0]", "overwrite=true"]) == 0
    after = weights(best(out))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert (out / "notes.txt").read_text() == "mine"
