"""Runs with adapters: each method against dense arithmetic on the layers' whole weights."""

from __future__ import annotations

import copy
import json
import re
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
from tests.merged_runs import CHEAP, QUIET, adapted, best, models, moved, only, summary
from tests.rows.encoders import TINY

pytestmark = [
    needs("transformers", "peft"),  # peft asks by a name that transformers is giving up
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated"),
]

TEXT = {"text": ["small red cup", "big hat no 3"]}
RUN = (
    *(f"data={HERE / 'tasks.yaml'}", "tasks=[size,price]"),
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
    found = merge(home, out, names, "method=adapter_concat", f"method.weights={weights}")
    close(found, dense(home, names, weights))
    tune = tune_of(out)
    assert tune is not None
    assert (tune["_target_"], tune["rank"]) == (f"pollinate.tuning.{kind}", rank)


def cut(change: Tensor, rank: int) -> Tensor:
    u, s, v = torch.linalg.svd(change)
    return u[:, :rank] * s[:rank] @ v[:rank]


def is_adapted(name: str, weight: Tensor) -> bool:
    return weight.dim() == 2 and ".layer." in name


@pytest.mark.parametrize(
    ("names", "weights", "rank", "kept"),
    [
        (("a", "b"), [0.5, 0.5], 2, 2),
        (("a", "b"), [1, -0.7], 9, 5),  # all there is
        (("a", "c"), [0.5, 2], 3, 3),
        (("d", "b"), [0.5, 1], 4, 4),  # of a change of full rank
    ],
)
def test_svd_is_the_nearest_of_a_rank(
    names: tuple[str, ...], weights: list[float], rank: int, kept: int, home: Path, tmp_path: Path
) -> None:
    out, given = tmp_path / "out", [f"method.weights={weights}", f"method.rank={rank}"]
    found = merge(home, out, names, "method=svd", *given)
    start, total = backbone(whole_weights(best(home / "start"))), dense(home, names, weights)
    expected = {n: w + cut(total[n] - w, rank) if is_adapted(n, w) else w for n, w in start.items()}
    close(found, expected)
    tune = tune_of(out)
    assert tune is not None
    assert (tune["_target_"], tune["rank"]) == ("pollinate.tuning.LoRA", kept)


@pytest.mark.parametrize("base", [False, True], ids=["frozen", "base"])
@pytest.mark.parametrize(
    "method",
    [
        "method=task_arithmetic method.weights=[1,-1] method.scale=0.5",
        "method=ties method.keep=0.4 method.scale=0.7",
        "method=dare method.drop=0.3 method.scale=0.7",
        "method=tsv_m method.scale=1.0",
        "method=iso_c method.scale=0.9",
    ],
)
def test_task_vectors_are_of_whole_weights(
    method: str, base: bool, home: Path, tmp_path: Path
) -> None:
    """The same method on state dicts, whose base has the frozen weights, or all of a start."""
    out, names = tmp_path / "out", ("a", "d")
    start = home / "start"
    arguments = [models(home, *names), f"output={out}", QUIET, "evaluate=false", *method.split()]
    assert main([*arguments, *([f"base={start}"] if base else [])]) == 0
    assert tune_of(out) is None
    kinds = {
        "task_arithmetic": lambda: po.merging.TaskArithmetic(0.5, [1, -1]),
        "ties": lambda: po.merging.Ties(0.4, 0.7),
        "dare": lambda: po.merging.Dare(0.3, 0.7),
        "tsv_m": po.merging.TSVM,
        "iso_c": lambda: po.merging.IsoC(0.9),
    }
    kind = kinds[method.split()[0].partition("=")[2]]()
    states = {name: single(whole_weights(home / f"{name}.ckpt")) for name in names}
    first = single(whole_weights(best(start)))
    first = first if base else backbone(first)
    expected = kind.merge_state_dicts(states, first).state
    found = whole_weights(best(out))
    close({n: v.float() for n, v in found.items()}, {n: expected[n] for n in found})


def single(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: v.float() if v.is_floating_point() else v for name, v in state.items()}


@pytest.mark.parametrize("method", ["average", "uniform_soup", "slerp"])
def test_averages_are_of_whole_weights(method: str, home: Path, tmp_path: Path) -> None:
    """Also of a model that was trained as a whole."""
    out, states = tmp_path / "out", {}
    found = merge(home, out, ("b", "alone"), f"method={method}")
    for name in ("b", "alone"):
        states[name] = single(backbone(whole_weights(home / f"{name}.ckpt")))
    kind = po.merging.Slerp(0.5) if method == "slerp" else po.merging.Average()
    close(single(found), kind.merge_state_dicts(states).state)
    assert tune_of(out) is None


def test_a_whole_model_and_one_with_adapters(home: Path, tmp_path: Path) -> None:
    start = read_checkpoint(best(home / "start"))
    write_checkpoint(moved(start, 9), home / "whole.ckpt")
    found = merge(home, tmp_path / "out", ("whole", "a"), "method.weights=[1,3]")
    close(found, dense(home, ("whole", "a"), [0.25, 0.75]))
    out = [f"output={tmp_path / 'other'}", QUIET]
    assert main([models(home, "whole", "a"), "method=adapter_concat", *out]) == 2


def features(checkpoint: Path, task: str) -> Tensor:
    """What an encoder makes of two rows of tokens for a task."""
    encoder = Predictor.load(checkpoint).single_network.encoder("text")
    ids = torch.tensor([[2, 5, 9, 3], [2, 7, 3, 0]])
    with torch.inference_mode():
        if encoder.routing is None:
            return encoder.backbone(ids).pooled
        found: Tensor = encoder.routing.call(encoder.backbone, ids, [(task, 2)]).pooled
        return found


@pytest.mark.parametrize("names", [("size", "price"), ("size", "alone"), ("each",)])
def test_task_adapters_are_the_models_own(
    names: tuple[str, ...], home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = [models(home, *names), "method=task_adapters", f"output={out}", QUIET]
    assert main([*given, "evaluate=false"]) == 0
    for task, name in (("size", names[0]), ("price", names[-1])):
        own = features(home / f"{name}.ckpt", task)
        torch.testing.assert_close(features(best(out), task), own, rtol=0, atol=1e-5)


def test_task_adapters_of_a_task_of_several_models_are_added_up(home: Path, tmp_path: Path) -> None:
    out, names = tmp_path / "out", ("a", "price", "each")
    given = [models(home, *names), "method=task_adapters", "method.weights=[2,1,1]"]
    assert main([*given, f"output={out}", QUIET, "evaluate=false"]) == 0
    close(backbone(whole_weights(best(out), "price")), dense(home, names, [0.5, 0.25, 0.25]))
    tune = tune_of(out)
    assert tune is not None
    assert (tune["rank"], tune["shared_rank"]) == (2 + 3 + 3, 0)


@pytest.mark.parametrize(
    ("names", "method"),
    [
        (("a", "b"), "method=adapter_concat"),
        (("d", "e"), "method=adapter_concat"),
        (("a", "each"), "method=task_adapters"),
        (("a", "b"), "method=svd method.method=ties method.rank=4 method.method.scale=[0.5,1.0]"),
        (("a", "alone"), "method=layerwise method.rounds=1"),
    ],
)
def test_the_result_is_scored_beside_its_models(
    names: tuple[str, ...], method: str, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert main([models(home, *names), *method.split(), f"output={out}", QUIET]) == 0
    assert evaluate([f"checkpoint={out}"]) == 0
    assert json.loads((out / "evaluation-test.json").read_text())["scores"] == summary(out)["test"]
    for name, parent in zip(names, summary(out)["parents"], strict=True):
        assert evaluate([f"checkpoint={home / name}.ckpt", f"run_dir={tmp_path}"]) == 0
        own = json.loads((tmp_path / "evaluation-test.json").read_text())
        for task, numbers in own["scores"].items():
            assert parent["test"][task]["loss"] == pytest.approx(numbers["loss"], rel=1e-4), name


def test_svd_of_another_methods_weights(home: Path, tmp_path: Path) -> None:
    """TIES in whole weights, then the nearest adapter to their change."""
    ties = ["method.method=ties", "method.method.keep=0.4", "method.method.scale=0.7"]
    given = ["method=svd", "method.rank=5", *ties]
    found = merge(home, tmp_path / "thin", ("a", "d"), *given)
    options: dict[str, Any] = {"overrides": [QUIET, "evaluate=false"], "quiet": True}
    method = po.merging.TruncatedSVD(5, method=po.merging.Ties(0.4, 0.7))
    own = {name: home / f"{name}.ckpt" for name in "ad"}
    po.merge(own, method, tmp_path / "python", **options)
    close(backbone(whole_weights(best(tmp_path / "python"))), found)
    plain = ["method=ties", "method.keep=0.4", "method.scale=0.7"]
    whole = merge(home, tmp_path / "whole", ("a", "d"), *plain)
    start = backbone(whole_weights(best(home / "start")))
    expected = {
        n: w + cut(whole[n] - w, 5) if is_adapted(n, w) else whole[n] for n, w in start.items()
    }
    close(found, expected)
    first, second = (
        Predictor.load(best(tmp_path / one)).single_network.trunk.state_dict()
        for one in ("thin", "whole")
    )
    close(first, second)


@pytest.mark.parametrize(
    ("names", "method", "task"),
    [
        (("a", "b"), "method=adapter_concat", "size"),
        (("d", "b"), "method=adapter_concat", "size"),
        (("a", "b"), "method=svd method.rank=3", "size"),
        (("size", "price"), "method=task_adapters", "price"),
    ],
)
def test_peft_loads_what_is_exported(
    names: tuple[str, ...], method: str, task: str, home: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    out, folder = tmp_path / "out", tmp_path / "adapter"
    given = [models(home, *names), *method.split(), f"output={out}", QUIET, "evaluate=false"]
    assert main(given) == 0
    assert export([f"checkpoint={out}", f"output={folder}", f"task={task}"]) == 0
    plain = Predictor.load(best(home / "start")).single_network.encoder("text")
    network = plain.tuned_part()
    plain.network = PeftModel.from_pretrained(network, folder).eval()
    ids = torch.tensor([[2, 5, 9, 3], [2, 7, 3, 0]])
    with torch.inference_mode():
        found = plain.backbone(ids).pooled
    torch.testing.assert_close(found, features(best(out), task), rtol=0, atol=1e-5)


def test_the_result_predicts_is_merged_again_and_is_a_source(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([models(home, "a", "b"), "method=adapter_concat", f"output={out}", QUIET]) == 0
    answers = Predictor.load(best(out)).predict(TEXT)
    served = po.load(out).predict(TEXT)
    assert list(served["size"]) == [one["label"] for one in answers.answers["size"] if one]
    more = [
        f"models=[{out},{home / 'd.ckpt'}]",
        "method=adapter_concat",
        f"output={tmp_path / 'more'}",
    ]
    assert main([*more, QUIET, "evaluate=false"]) == 0
    found = backbone(whole_weights(best(tmp_path / "more")))
    close(found, dense(home, ("a", "b", "d"), [0.25, 0.25, 0.5]))
    run = tmp_path / "run"
    chosen = ["encoder.text.tune={name: lora, rank: 5, alpha: 2}", "optimizer.lr=0.0"]
    taken = ["transfer=init", f"transfer.source={out}", f"run_dir={run}"]
    assert fit([*RUN, *chosen, *taken]) == 0
    close(backbone(whole_weights(best(run))), backbone(whole_weights(best(out))))


def changed(home: Path, name: str, edit: Any) -> None:
    """A model with adapters that is damaged, or of another base."""
    checkpoint = read_checkpoint(home / "a.ckpt")
    edit(checkpoint["state_dict"], checkpoint["pollinate"]["config"]["encoder"]["text"]["tune"])
    write_checkpoint(checkpoint, home / f"{name}.ckpt")


QUERY = "network.encoders.text.network.encoder.layer.0.attention.self.query"


def other_base(state: dict[str, Tensor], _: Any) -> None:
    state[f"{QUERY}.base_layer.weight"] += 0.01


def lost(state: dict[str, Tensor], _: Any) -> None:
    del state[f"{QUERY}.lora_A.default.weight"]


def unknown(state: dict[str, Tensor], _: Any) -> None:
    state[f"{QUERY}.lora_C.default.weight"] = torch.zeros(1)


def other_rank(_: Any, tune: dict[str, Any]) -> None:
    tune["rank"] = 3


REFUSED = (
    (
        "a other_base",
        "method=adapter_concat",
        r"query.weight must be the same beside all adapters, and oth",
    ),
    (
        "a other_base",
        "method=ties",
        r"adapters are changes of one frozen base; name the model that",
    ),
    ("a lost", "method=average", r"don't fit its configuration: .*Missing key.*lora_A"),
    (
        "a unknown",
        "method=adapter_concat",
        r"don't fit its configuration: .*Unexpected key.*lora_C",
    ),
    ("a other_rank", "method=adapter_concat", r"don't fit its configuration: .*size mismatch"),
    (
        "a b",
        "method=svd method.rank=17",
        r"rank must be <= 16, that of encoders.*, 16 x 16, got 17",
    ),
    (
        "a b",
        "method=adapter_concat method.weights=[1]",
        r"one for each of the 2 models \(a, b\), got 1",
    ),
    (
        "a each",
        "method=average",
        r"each has adapters of its own for each of price, size, .*=task_ad",
    ),
    (
        "a each",
        "method=adapter_concat",
        r"each has adapters of its own for each of price, size, and so no",
    ),
    ("a d", "method=task_adapters", r"no lengths of their own, as those of d by tune=dora"),
    ("a b d", "method=svd method.method=slerp", r"models must be 2 for Slerp, got 3"),
)


@pytest.mark.parametrize(("names", "method", "message"), REFUSED)
def test_what_cannot_be_merged(
    names: str, method: str, message: str, home: Path, tmp_path: Path, capsys: Any
) -> None:
    for edit in (other_base, lost, unknown, other_rank):
        if edit.__name__ in names.split():
            changed(home, edit.__name__, edit)
    out = tmp_path / "out"
    given = [models(home, *names.split()), *method.split(), f"output={out}", QUIET]
    assert main([*given, "evaluate=false"]) in (1, 2)
    text = " ".join(capsys.readouterr().err.split())
    assert re.search(message, text), text
    assert not out.exists()


def test_what_has_no_start_is_averaged_and_said(home: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    given = [models(home, "a", "b"), "method=ties", "method.scale=1.0", "evaluate=false"]
    assert main([*given, f"output={out}", QUIET]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "trunk that adapters aren't beside are averaged, as nothing says what they" in text
    found = read_checkpoint(best(out))["state_dict"]
    pair = [read_checkpoint(home / f"{name}.ckpt")["state_dict"] for name in "ab"]
    name = "network.trunk.norm.weight"
    torch.testing.assert_close(found[name], (pair[0][name] + pair[1][name]) / 2)
