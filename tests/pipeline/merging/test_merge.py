"""The command, on a run of every type of task and on models made from it."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.loading import table_digest
from pipeline.checkpoints import fingerprint, read_checkpoint, write_checkpoint
from pipeline.evaluate import main as evaluate
from pipeline.fit import main as fit
from pipeline.merge import main
from pipeline.predict import main as predict
from pipeline.prediction.predictor import Predictor
from pipeline.serving.folder import DATA
from pipeline.serving.pyfunc import _load_pyfunc
from pipeline.tracking.lines import read_lines
from pipeline.tracking.points import read_points
from tests.data.make import HERE

CHEAP = (
    *("dim=16", "encoder.text.pairs=128", "encoder.text.width=16", "encoder.image.width=8"),
    *("sampler.batch_size=8", "trainer.max_steps=2", "gradients.every_n_steps=0"),
    *("data.image.augment=flip", "tracking=none"),
)
QUIET = "tracking=none"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``start``, a run, and the models ``a`` to ``d`` that were trained on from it."""
    root = tmp_path_factory.mktemp("merging")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLLINATE_RUN_DIR", "")
        patch.setattr("pipeline.record.draw", lambda *_: [])
        assert fit([f"data={HERE / 'tasks.yaml'}", *CHEAP, f"run_dir={root / 'start'}"]) == 0
    start = read_checkpoint(best(root / "start"))
    for seed, name in enumerate("abcd"):
        write_checkpoint(moved(start, seed), root / f"{name}.ckpt")
    write_checkpoint(only(moved(start, 4), ["size"]), root / "size.ckpt")
    write_checkpoint(only(moved(start, 5), ["price", "marks"]), root / "price.ckpt")
    return root


def best(run: Path) -> Path:
    return run / "checkpoints" / "best.ckpt"


def moved(checkpoint: Mapping[str, Any], seed: int, size: float = 0.05) -> dict[str, Any]:
    """The checkpoint with its weights moved a little."""
    draws = torch.Generator().manual_seed(seed)
    found = copy.deepcopy(dict(checkpoint))
    for value in found["state_dict"].values():
        if value.is_floating_point():
            value += size * torch.randn(value.shape, generator=draws)
    return found


def only(checkpoint: dict[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    """The checkpoint without its other tasks."""
    spec = checkpoint["pollinate"]
    for known in (spec["config"]["data"]["tasks"], spec["learnt"]["tasks"]):
        for name in [name for name in known if name not in tasks]:
            del known[name]
    digests = spec["learnt"]["digests"]  # those of masks and depths, which it doesn't know, are in
    spec["learnt"]["digests"] = {name: table_digest(one) for name, one in digests.items()}
    checkpoint["state_dict"] = {
        name: value
        for name, value in checkpoint["state_dict"].items()
        if ".heads." not in name or name.split(".")[2] in tasks
    }
    return checkpoint


def weights(path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = read_checkpoint(path)["state_dict"]
    return found


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def models(home: Path, *names: str) -> str:
    return f"models=[{','.join(str(home / f'{name}.ckpt') for name in names)}]"


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
    assert parents[0]["checksum"] == fingerprint(home / "size.ckpt")
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
    served = _load_pyfunc(str(out / "model" / DATA))
    assert served is not None
    assert "merged" not in read_checkpoint(out / "model" / DATA / "weights.ckpt")["pollinate"]
    # and it can be merged again
    assert main([f"models=[{out},{home / 'c.ckpt'}]", f"output={tmp_path / 'more'}", QUIET]) == 0
    capsys.readouterr()
    assert fit([f"resume={out}", QUIET]) == 2
    assert "was merged of several models" in capsys.readouterr().err


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
    members = [Predictor.load(home / f"{name}.ckpt") for name in ("a", "b", "size")]
    text = {"text": ["small red cup", "big hat"]}
    answers = Predictor.load(best(out)).predict(text)
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
    served = _load_pyfunc(str(out / "model" / DATA))
    assert served is not None
    capsys.readouterr()
    assert main([f"models=[{out},{home / 'a.ckpt'}]", f"output={tmp_path / 'b'}", QUIET]) == 1
    assert "is an ensemble" in capsys.readouterr().err


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
    assert tags["parent.run.checksum"] == fingerprint(home / "price.ckpt")
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


def changed(home: Path, name: str, edit: Any) -> Path:
    """A model that was trained otherwise."""
    path = home / f"{name}.ckpt"
    if not path.exists():
        checkpoint = moved(read_checkpoint(home / "a.ckpt"), 9)
        edit(checkpoint)
        write_checkpoint(checkpoint, path)
    return path


def wider(checkpoint: dict[str, Any]) -> None:
    checkpoint["pollinate"]["config"]["dim"] = 32
    checkpoint["pollinate"]["config"]["trunk"]["dim"] = 32


def retokenized(checkpoint: dict[str, Any]) -> None:
    text = checkpoint["pollinate"]["learnt"]["modalities"]["text"]
    text["tokenizer"] = text["tokenizer"].replace("small", "smaller")


def other_classes(checkpoint: dict[str, Any]) -> None:
    checkpoint["pollinate"]["learnt"]["tasks"]["size"]["classes"] = ["large", "small"]


def other_target(checkpoint: dict[str, Any]) -> None:
    checkpoint["pollinate"]["config"]["data"]["tasks"]["size"]["target"] = "category"


def other_rows(checkpoint: dict[str, Any]) -> None:
    checkpoint["pollinate"]["learnt"]["digests"]["shop"] = "another"


def other_split(checkpoint: dict[str, Any]) -> None:
    checkpoint["pollinate"]["config"]["data"]["seed"] = 7


def other_encoder(checkpoint: dict[str, Any]) -> None:
    checkpoint["pollinate"]["config"]["encoder"]["image"]["stages"] = 2


def stitched(checkpoint: dict[str, Any]) -> None:
    trunk = checkpoint["pollinate"]["config"]["trunk"]
    trunk["_target_"] = "lightning_modules.trunks.cross_stitch.CrossStitch"


def adapted(checkpoint: dict[str, Any]) -> None:
    tune = {"_target_": "lightning_modules.tuning.lora.LoRA"}
    checkpoint["pollinate"]["config"]["encoder"]["image"]["tune"] = tune


DIFFERENCES = (
    (wider, r"dim is 16 in a, 32 in wider; .*method=ensemble"),
    (retokenized, r"the tokenizer of retokenized is not that of a; train both on"),
    (other_classes, r'task size: classes is \["big", "small"\] in a, \["large", "small"\] in'),
    (other_target, r'data.tasks.size.target is "size" in a, "category" in other_target; tasks'),
    (other_rows, r"data.datasets.shop.content is .* data sets of one name must be one"),
    (other_split, r"data.seed is 0 in a, 7 in other_split; rows that one tests another trained"),
    (other_encoder, r"encoder.image.stages is 3 in a, 2 in other_encoder"),
    (adapted, r"encoder.image of adapted has adapters: the mean of factors"),
)


@pytest.mark.parametrize(
    ("edit", "message"), DIFFERENCES, ids=lambda one: getattr(one, "__name__", "")
)
def test_models_that_do_not_fit(
    edit: Any, message: str, home: Path, tmp_path: Path, capsys: Any
) -> None:
    path = changed(home, edit.__name__, edit)
    given = f"models=[{home / 'a.ckpt'},{path}]"
    assert main([given, f"output={tmp_path / 'out'}", QUIET]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_a_trunk_that_ties_tasks_cannot_be_united(home: Path, tmp_path: Path, capsys: Any) -> None:
    paths = []
    for name in ("size", "price"):
        checkpoint = read_checkpoint(home / f"{name}.ckpt")
        stitched(checkpoint)
        path = tmp_path / f"{name}.ckpt"
        write_checkpoint(checkpoint, path)
        paths.append(str(path))
    assert main([f"models=[{','.join(paths)}]", f"output={tmp_path / 'out'}", QUIET]) == 2
    message = capsys.readouterr().err
    assert "trunk CrossStitch has parts for pairs or sets of tasks" in message
    assert "method=ensemble" in message


def test_task_arithmetic_without_a_common_start(home: Path, tmp_path: Path, capsys: Any) -> None:
    out = f"output={tmp_path / 'out'}"
    arguments = [models(home, "size", "price"), "method=task_arithmetic", out, QUIET]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert "without that start there is nothing to subtract: name it with base=" in message
    stranger = changed(home, "stranger", lambda one: shuffle(one["state_dict"]))
    assert main([*arguments, f"base={stranger}"]) == 2
    message = capsys.readouterr().err
    assert "is no start of size (cosine" in message
    assert "two random networks" in message
    poorer = changed(home, "poorer", lambda one: one["state_dict"].pop("network.trunk.norm.weight"))
    assert main([*arguments, f"base={poorer}"]) == 2
    assert "has no trunk.norm.weight, which several models have" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def shuffle(weights: dict[str, Tensor]) -> None:
    """As if initialised apart."""
    draws = torch.Generator().manual_seed(1)
    for value in weights.values():
        if value.dim() > 1:
            value.copy_(torch.randn(value.shape, generator=draws) * value.std())


def test_an_average_of_strangers_is_noted(home: Path, tmp_path: Path, capsys: Any) -> None:
    stranger = changed(home, "stranger", lambda one: shuffle(one["state_dict"]))
    arguments = [f"models=[{home / 'a.ckpt'},{stranger}]", f"output={tmp_path / 'out'}", QUIET]
    assert main([*arguments, "evaluate=false"]) == 0
    assert "note: stranger and a don't come from one start" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models=[]"], "models must be a list of one or more"),
        (["models=nowhere"], "models must be list"),
        (["models=[nowhere]"], "must be a file, a run folder or an MLflow run id"),
        (["method=avarage"], "did you mean average?"),
        (["method.weight=[1]"], "did you mean weights?"),
        (["method=slerp"], "models must be 2 for Slerp, got 1"),
        (["base=A"], "Average looks at no common start; leave out base="),
        (["batch_norm=often"], "batch_norm must be one of recompute, keep"),
        (["output=IN"], "which is merged; choose another"),
        (["method.weights=[-1]"], "weights must be >= 0"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, home: Path, tmp_path: Path, capsys: Any
) -> None:
    words = {"IN": str(home), "A": str(home / "a.ckpt")}
    given = [
        f"{key}={words.get(value, value)}" for key, value in (a.split("=", 1) for a in arguments)
    ]
    more = ["overwrite=true"] if "output=IN" in arguments else []
    base = [models(home, "a"), f"output={tmp_path / 'out'}", QUIET, *more]
    assert main([*base, *given]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_torn_model(home: Path, tmp_path: Path, capsys: Any) -> None:
    torn = tmp_path / "torn.ckpt"
    content = (home / "a.ckpt").read_bytes()
    torn.write_bytes(content[: len(content) // 2])
    given = f"models=[{home / 'b.ckpt'},{torn}]"
    assert main([given, f"output={tmp_path / 'out'}", QUIET]) == 1
    assert f"checkpoint {torn} is torn or changed" in capsys.readouterr().err
