"""A configuration becomes objects."""

from __future__ import annotations

from copy import deepcopy
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules.balancers.mgda import MGDA
from lightning_modules.balancers.shared_gradients import ParameterGradients
from lightning_modules.building import build_balancer, build_modalities, build_tasks, task_datasets
from lightning_modules.module import MultiTaskModule
from pipeline.build import (
    build_datamodule,
    build_module,
    build_optimization,
    compile_parts,
)
from pipeline.configuration.composition import compose
from pollinate.errors import UsageError
from tests.sessions import SMOKE
from tests.tiny import network, ready

OVERRIDES = (*SMOKE, "balancer=uncertainty", "optimizer.lr_scale={trunk: 0.5}")


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    return compose("fit", OVERRIDES)


@pytest.fixture
def config(composed: dict[str, Any]) -> dict[str, Any]:
    return deepcopy(composed)


@pytest.fixture(scope="module")
def module(composed: dict[str, Any]) -> MultiTaskModule:
    data = build_datamodule(composed)
    data.setup()
    return build_module(composed, data)


def test_every_task_has_its_head_and_balance(module: MultiTaskModule) -> None:
    tasks = {"digit", "optdigit", "sentiment", "subject"}
    assert set(module.tasks) == set(module.network.heads) == set(module.balancer.tasks) == tasks
    assert set(module.network.encoders) == {"image", "text"}


def test_checkpoints_get_plain_values_of_the_run(
    module: MultiTaskModule, composed: dict[str, Any]
) -> None:
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    spec = checkpoint["pollinate"]
    assert spec["config"] == composed
    digit = spec["learnt"]["tasks"]["digit"]
    assert digit["classes"] == list("0123456789")
    assert len(digit["counts"]) == 10 and all(type(count) is int for count in digit["counts"])
    assert spec["learnt"]["modalities"].keys() == {"image", "text"}


@pytest.mark.parametrize(
    ("path", "builder"),
    [
        ("data.datasets.mnist.source", build_datamodule),
        ("data.tasks.digit.type", build_datamodule),
        ("sampler", build_datamodule),
        ("optimizer", build_optimization),
        ("schedule", build_optimization),
    ],
)
@pytest.mark.parametrize("target", ["os.system", "torch.load", "subprocess.Popen"])
def test_a_foreign_class_is_refused(
    path: str, builder: Any, target: str, config: dict[str, Any]
) -> None:
    node = config
    for part in path.split("."):
        node = node[part]
    node["_target_"] = target
    with pytest.raises(UsageError, match=f"{path}._target_ .*{target}"):
        builder(config)


def test_a_data_set_may_have_two_modalities(config: dict[str, Any]) -> None:
    config["data"]["datasets"]["mnist"]["inputs"] = {"image": "image", "text": "digit"}
    assert set(build_modalities(config, build_tasks(config))) == {"image", "text"}


def test_an_unknown_modality_is_named(config: dict[str, Any]) -> None:
    config["data"]["datasets"]["mnist"]["inputs"] = {"smell": "image"}
    with pytest.raises(UsageError, match="the modalities smell; supported are audio, image, text"):
        build_modalities(config, build_tasks(config))


def test_a_missing_encoder_is_named(config: dict[str, Any], module: MultiTaskModule) -> None:
    data = build_datamodule(config, module.spec["learnt"])
    data.setup()
    del config["encoder"]["text"]
    with pytest.raises(UsageError, match=r"encoder\.text is missing; .* encoder/text=NAME"):
        build_module(config, data)


@pytest.mark.parametrize(
    ("given", "expected"), [("a", ("a",)), (["a", "b"], ("a", "b")), (["a"], ("a",))]
)
def test_a_task_names_one_data_set_or_several(given: Any, expected: Any) -> None:
    assert task_datasets({"dataset": given}) == expected


@pytest.mark.parametrize(("target", "decays"), [("AdamW", True), ("SGD", True), ("Rprop", False)])
def test_decay_is_the_optimizer_s_own(target: str, decays: bool, config: dict[str, Any]) -> None:
    config["optimizer"] = {"_target_": f"torch.optim.{target}", "lr": 0.5, "lr_scale": {"trunk": 2}}
    plan = build_optimization(config)
    assert (plan.decay, plan.lr, plan.lr_scale) == (decays, 0.5, {"trunk": 2})
    made = plan.optimizer([{"params": [torch.nn.Parameter(torch.zeros(1))]}])
    assert type(made) is getattr(torch.optim, target)
    assert made.param_groups[0]["lr"] == 0.5


def test_compiling_keeps_the_names_of_weights() -> None:
    net = network(ready())
    before = list(net.state_dict())
    compile_parts([*net.encoders.values(), net.trunk])
    assert list(net.state_dict()) == before


def test_a_compiled_part_can_be_gone_through_several_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # it has what forbids that, donated buffers, but writes no C++, as test_together.py does
    compiled_part = partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", compiled_part)
    torch.manual_seed(0)
    rows = torch.randn(6, 4)
    found = []
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    for compiled in (False, True):
        if compiled:
            compile_parts([net])
        net.zero_grad()
        features = net(rows)
        losses = {"a": features.square().mean(), "b": (features - 1).abs().mean()}
        MGDA(["a", "b"]).backward(losses, ParameterGradients(net.parameters()))
        found.append([parameter.grad.clone() for parameter in net.parameters()])
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*found, strict=True))


HALVES = """\
datasets:
  notes: {source: csv, path: notes.csv, inputs: {text: text}, split: {column: split}}
tasks:
  kind: {dataset: notes, type: classification, target: kind}
  tone: {dataset: notes, type: classification, target: tone}
text: {vocab_size: 300, max_length: 4}
"""


def test_tasks_labelled_on_other_rows_of_one_file_are_balanced_on_parameters(
    tmp_path: Path,
) -> None:
    rows = [f"{word},{split}" for split in ("train", "valid", "test") for word in ("a,x,", "b,,y")]
    (tmp_path / "notes.csv").write_text("\n".join(["text,kind,tone,split", *rows, "c,z,z,train"]))
    (tmp_path / "halves.yaml").write_text(HALVES)
    composed = compose("fit", [f"data={tmp_path / 'halves.yaml'}", "balancer=mgda", "dim=8"])
    data = build_datamodule(composed)
    data.setup()
    assert build_module(composed, data).engine.level == "features"
    for task, labels in (("kind", [1, 0, 0]), ("tone", [0, 1, 1])):
        data.parts["train"]["notes"].present[task] = torch.tensor(labels).bool()
    assert build_module(composed, data).engine.level == "parameters"


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (["balancer=cagrad", "balancer.c=inf"], "balancer.c"),
        (["balancer=uncertainty", "balancer.initial=nan"], "balancer.initial"),
        (["balancer=cr_mogm", "balancer.method=fairgrad", "balancer.method.alpha=inf"], "alpha"),
        (["balancer=mgda", "balancer.losses=famo", "balancer.losses.lr=inf"], "balancer.losses.lr"),
    ],
)
def test_a_balancer_takes_finite_numbers_only(options: list[str], key: str) -> None:
    composed = compose("fit", [*SMOKE, *options])
    with pytest.raises(UsageError, match=rf"{key} must be finite, got (inf|nan)"):
        build_balancer(composed, ["digit"])
