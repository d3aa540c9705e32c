"""Runs with adapters: each method against dense arithmetic on the layers' whole weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pollinate as po
from lightning_modules.checkpoints import read_checkpoint, write_checkpoint
from lightning_modules.merging.adapters import adapting_tunings, backbone_name
from lightning_modules.predictor import Predictor
from pipeline.evaluate import main as evaluate
from pipeline.export import main as export
from pipeline.merge import main
from tests.data.make import HERE
from tests.extras import needs
from tests.lean_fit import fit
from tests.merged_runs import CHEAP, QUIET, adapted, best, models, only, summary
from tests.rows.encoders import TINY

pytestmark = needs("transformers", "peft")

TEXT = {"text": ["small red cup", "big hat no 3"]}
RUN = (
    *(f"data={HERE / 'tasks.yaml'}", "tasks=[size,price]", "data.datasets.shop.inputs={text: title}"),
    *(one for one in CHEAP if not one.startswith("encoder.")),
    *TINY,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``start``, a run, and models with adapters beside its encoder."""
    root = tmp_path_factory.mktemp("adapters")
    assert fit([*RUN, f"run_dir={root / 'start'}"]) == 0
    start = read_checkpoint(best(root / "start"))
    kinds: dict[str, Any] = {
        "a": po.tuning.LoRA(rank=2, alpha=4.0),
        "b": po.tuning.LoRA(rank=3, alpha=1.5),
        "c": po.tuning.LoRA(rank=2, targets=["query", "value"]),
        "d": po.tuning.DoRA(rank=2),
        "e": po.tuning.DoRA(rank=1, targets=["query", "value"]),
        "each": po.tuning.TaskLoRA(rank=2, shared_rank=1),
        "size": po.tuning.LoRA(rank=2),
        "price": po.tuning.LoRA(rank=3, targets=["query", "value"]),
        "alone": po.tuning.TaskLoRA(rank=2, shared_rank=1),
    }
    for seed, (name, tune) in enumerate(kinds.items()):
        tasks = [name] if name in ("size", "price") else ["size", "price"]
        given = only(start_of(start), ["price"] if name == "alone" else tasks)
        write_checkpoint(adapted(given, tune, seed), root / f"{name}.ckpt")
    return root


def start_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    import copy

    return copy.deepcopy(dict(checkpoint))


def whole_weights(checkpoint: Path, task: str = "price") -> dict[str, Tensor]:
    """{name: weight} of a model's encoder of texts with its adapters in the weights."""
    network = Predictor.load(checkpoint).single_network
    part, encoder = backbone_name(network, "text"), network.encoder("text")
    tuning = adapting_tunings(network).get("text")
    state = encoder.tuned_part().state_dict() if tuning is None else tuning.merged(encoder, task)
    rest = {n: v for n, v in network.state_dict().items() if not n.startswith(part)}
    return {f"{part}{name}": value.double() for name, value in state.items()} | rest


def backbone(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: v for n, v in weights.items() if n.startswith("encoders.text.network.")}


def merge(home: Path, out: Path, names: Sequence[str], *more: str) -> dict[str, Tensor]:
    """The result's whole weights of its encoder."""
    arguments = [models(home, *names), f"output={out}", QUIET, "evaluate=false", *more]
    assert main(arguments) == 0
    return backbone(whole_weights(best(out)))


def dense(home: Path, names: Sequence[str], weights: Sequence[float]) -> dict[str, Tensor]:
    """W + sum_i w_i (W_i - W)."""
    start = backbone(whole_weights(best(home / "start")))
    each = [backbone(whole_weights(home / f"{name}.ckpt")) for name in names]
    pairs = list(zip(each, weights, strict=True))
    return {n: w + sum(c * (one[n] - w) for one, c in pairs) for n, w in start.items()}


def close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)


def tune_of(run: Path) -> dict[str, Any] | None:
    config = read_checkpoint(best(run))["pollinate"]["config"]
    found: dict[str, Any] | None = config["encoder"]["text"]["tune"]
    return found


CONCAT = (
    (("a", "b"), [0.5, 0.5], "LoRA", 5),
    (("a", "b"), [1, -0.7], "LoRA", 5),
    (("a", "c"), [0.5, 2], "LoRA", 4),
    (("d", "e"), [0.5, 0.5], "DoRA", 3),
    (("d", "b", "c"), [1, -0.3, 0.4], "DoRA", 7),
)


@pytest.mark.parametrize(("names", "weights", "kind", "rank"), CONCAT)
def test_concat_is_the_weighted_sum(
    names: tuple[str, ...], weights: list[float], kind: str, rank: int, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    found = merge(home, out, names, "method=concat", f"method.weights={weights}")
    close(found, dense(home, names, weights))
    tune = tune_of(out)
    assert tune is not None
    assert (tune["_target_"], tune["rank"]) == (f"pollinate.tuning.{kind}", rank)
