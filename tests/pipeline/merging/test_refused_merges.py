"""What can't be merged is refused before anything is written, and says why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.checkpoints import read_checkpoint, write_checkpoint
from pipeline.merge import main
from tests.merged_runs import QUIET, models, moved


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
    trunk["_target_"] = "pollinate.trunks.CrossStitch"


DIFFERENCES = (
    (wider, r"dim is 16 in a, 32 in wider; .*method=ensemble"),
    (retokenized, r"the tokenizer of retokenized is not that of a; train both with one"),
    (other_classes, r'task size: classes is \["big", "small"\] in a, \["large", "small"\] in'),
    (other_target, r'data.tasks.size.target is "size" in a, "category" in other_target; tasks'),
    (other_rows, r"data.datasets.shop.content is .* data sets of one name must be one"),
    (other_split, r"data.seed is 0 in a, 7 in other_split; rows that one tests another trained"),
    (other_encoder, r"encoder.image.stages is 3 in a, 2 in other_encoder"),
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
    assert "isn't the start of size (cosine" in message
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
    assert "note: stranger and a don't have a common start" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models=[]"], "models must be one or more, in a list"),
        (["models=nowhere"], "models must be list"),
        (["models=[nowhere]"], "must be a file, a run folder, an MLflow run id or models:"),
        (["method=avarage"], "did you mean average?"),
        (["method.weight=[1]"], "did you mean weights?"),
        (["method=slerp"], "models must be 2 for Slerp, got 1"),
        (["base=A"], "Average doesn't use a common start; leave out base="),
        (["batch_norm=often"], "batch_norm must be one of recompute, keep"),
        (["output=A/out"], "is not a folder; choose another: output=PATH"),
        (["output=IN"], "which is merged; choose another"),
        (["method.weights=[-1]"], "weights must be >= 0"),
        (
            ["method=adapter_concat"],
            "AdapterConcat merges adapters, and no model has some; train with tune=lora",
        ),
        (
            ["method=adapter_concat", "base=A"],
            "AdapterConcat doesn't use a common start; leave out base=",
        ),
        (["method=svd", "method.rank=0"], "rank must be >= 1, got 0"),
        (
            ["method=svd", "method.method=svd"],
            "whole weights, which TruncatedSVD doesn't; use ties",
        ),
        (["method=svd", "method.method=ensemble"], "whole weights, which OutputEnsemble doesn't"),
        (
            ["method=svd", "method.method=ties", "method.weights=[1]"],
            "weights have no effect beside method",
        ),
        (["method=task_adapters", "method.weights=[0]"], "weights must be > 0, got [0]"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, home: Path, tmp_path: Path, capsys: Any
) -> None:
    given = [
        one.replace("=IN", f"={home}").replace("=A", f"={home / 'a.ckpt'}") for one in arguments
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


@pytest.mark.parametrize(
    "coefficients",
    [
        ["method=task_arithmetic", "method.scale=nan"],
        ["method=task_arithmetic", "method.scale=1e40"],
        ["method.weights=[inf,1]"],
    ],
)
def test_a_merge_that_is_not_finite_is_refused(
    coefficients: list[str], home: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    base = [] if len(coefficients) == 1 else [f"base={home / 'start'}"]
    arguments = [models(home, "a", "b"), *coefficients, *base, f"output={out}", QUIET]
    assert main([*arguments, "evaluate=false"]) == 2
    assert re.search(r"the merge's .* and \d+ more must be finite", capsys.readouterr().err)
    assert not out.exists()
