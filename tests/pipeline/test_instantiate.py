from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.configuration.method_rules import component_problems
from pollinate.errors import UsageError
from pollinate.instantiate import find_target, instantiate, refusal
from tests.pipeline.standins import Balancer, Trunk, Wrapper

STANDINS = "tests.pipeline.standins"
ALLOW = [STANDINS]

# what a config from somebody else's run must not reach, by any name
STRANGERS = [
    "os.system",
    "builtins.eval",
    "builtins.exec",
    "subprocess.Popen",
    "torch.load",
    "torch.hub.load",
    "torch.nn.Linear",
    "torch.optim.lr_scheduler.LambdaLR",
    "torch.optim.lr_scheduler.torch.load",
    "torch.optim.swa_utils.AveragedModel",
    "torch.optim.lr_scheduler",
    "torch.optim",
    "torch.optim.optimizer.torch.load",
    "torch.optim.__builtins__",
    "torchvision.transforms.v2",
    "torchvision.transforms.v2.functional.to_tensor",
    "torchvision.transforms.v2.InterpolationMode",
    "torchvision.transforms.ToTensor",
    "lightning_modules.module.torch.load",
    "datamodules.features.torch.load",
    "datamodules.features.Tensor",
    "datamodules.features.dataclass",
    "lightning_modules",
    "lightning_modulesx.Evil",
    "datamodules.batch.os.system",
    "datamodules.__loader__",
    "datamodules.__builtins__.eval",
    "pipeline.tracking",
    "pollinate.instantiate.import_module",
    "pipeline.configuration.composition.compose",
    f"{STANDINS}.system",
    f"{STANDINS}.Popen",
    f"{STANDINS}.dataclass",
    f"{STANDINS}.function",
    f"{STANDINS}.Trunk.__init__",
    f"{STANDINS}.Trunk.__class__",
    "os.path.join",
    "os",
    "",
    ".",
    "..os.system",
    "os.system\n",
    "a b.c",
    None,
    3,
    ["os.system"],
]


@pytest.mark.parametrize("target", STRANGERS)
def test_strangers_are_refused_and_nothing_is_called(target: object, tmp_path: Path) -> None:
    trace = tmp_path / "called"
    node = {"_target_": target, "command": f"touch {trace}", "f": str(trace)}
    with pytest.raises(UsageError, match=r"trunk\._target_"):
        instantiate(node, ALLOW, "trunk")
    assert not trace.exists()


@pytest.mark.parametrize("target", STRANGERS)
def test_strangers_are_refused_by_the_config(target: object) -> None:
    problems = list(component_problems({"trunk": {"_target_": target}}, ALLOW))
    assert len(problems) == 1
    assert problems[0].startswith("trunk._target_ ")


@pytest.mark.parametrize("target", ["os.system", "torch.load", f"{STANDINS}.Popen"])
@pytest.mark.parametrize(
    "node",
    [
        "{{_target_: {target}}}",
        "{{_target_: tests.pipeline.standins.Wrapper, inner: [{{_target_: {target}}}]}}",
        "{{_target_: '${{..name}}', name: {target}}}",
        "{{defaults: [], a: {{b: {{_target_: {target}}}}}}}",
    ],
)
def test_strangers_are_refused_in_a_file(
    refused: Callable[..., str], tmp_path: Path, target: str, node: str
) -> None:
    (tmp_path / "theirs.yaml").write_text(node.format(target=target))
    assert "_target_" in refused(f"schedule={tmp_path}/theirs.yaml")


@pytest.mark.parametrize("target", [f"{STANDINS}.Trunk", "tests.pipeline.nope.Class"])
def test_other_packages_need_the_command_line(target: str) -> None:
    with pytest.raises(UsageError, match=r"allow_targets=\[my_pkg\]"):
        instantiate({"_target_": target}, (), "trunk")
    assert refusal(target, ["tests"], "trunk") is None


def test_allowing_a_package_allows_no_other_of_the_same_beginning() -> None:
    assert refusal("tests_of_others.Class", ["tests"], "trunk") is not None


def test_a_module_of_the_name_is_not_run_for_a_refused_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass A: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError):
        instantiate({"_target_": "stranger.A"})
    assert not (tmp_path / "ran").exists()


def test_options_and_extra() -> None:
    trunk = instantiate({"_target_": f"{STANDINS}.Trunk", "dim": 4, "depth": 2}, ALLOW, depth=3)
    assert isinstance(trunk, Trunk)
    assert (trunk.dim, trunk.depth) == (4, 3)


def test_an_argument_may_be_called_key_or_node() -> None:
    built = instantiate({"_target_": f"{STANDINS}.Open"}, ALLOW, key=1, node=2, allow=3)
    assert built.options == {"key": 1, "node": 2, "allow": 3}


def test_nested_nodes_are_built() -> None:
    inner = {"_target_": f"{STANDINS}.Trunk", "dim": 1}
    built = instantiate({"_target_": f"{STANDINS}.Wrapper", "inner": {"a": [inner, 2]}}, ALLOW)
    assert isinstance(built, Wrapper)
    assert isinstance(built.inner["a"][0], Trunk)
    assert built.inner["a"][1] == 2


def test_the_node_is_not_changed() -> None:
    node = {"_target_": f"{STANDINS}.Trunk", "dim": 1}
    instantiate(node, ALLOW)
    assert node == {"_target_": f"{STANDINS}.Trunk", "dim": 1}


def test_optimizers() -> None:
    node = {"_target_": "torch.optim.RMSprop", "lr": 0.5, "alpha": 0.9}
    optimizer = instantiate(node, (), "optimizer", params=[torch.zeros(1, requires_grad=True)])
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert optimizer.defaults["alpha"] == 0.9


def test_transforms() -> None:
    from torchvision.transforms.v2 import RandomHorizontalFlip

    node = {"_target_": "torchvision.transforms.v2.RandomHorizontalFlip", "p": 0.5}
    assert isinstance(instantiate(node, (), "data.image.augment"), RandomHorizontalFlip)


@pytest.mark.parametrize(
    ("node", "parts"),
    [
        ({"_target_": f"{STANDINS}.Trunk", "di": 1}, ["trunk: ", "Trunk refuses", "'di'"]),
        ({"_target_": f"{STANDINS}.Trunk"}, ["trunk: ", "'dim'"]),
        ({"_target_": f"{STANDINS}.Trunk", "dim": 1, "depth": -1}, ["depth must be >= 0, got -1"]),
        (
            {"_target_": f"{STANDINS}.Wrapper", "inner": [{"_target_": f"{STANDINS}.Trunk"}]},
            ["trunk.inner[0]: ", "'dim'"],
        ),
        ({"_target_": f"{STANDINS}.Nope"}, ["trunk._target_ must be a class"]),
        ({"_target_": f"{STANDINS}.nope.A"}, ["trunk._target_ names no module"]),
        ({}, ["trunk._target_ must be the dotted name of a class, got None"]),
    ],
)
def test_errors_name_the_key(node: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        instantiate(node, ALLOW, "trunk")
    assert all(part in str(caught.value) for part in parts), caught.value


def test_a_missing_dependency_of_a_module_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere\nclass A: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        instantiate({"_target_": "needs_more.A"}, ["needs_more"])


def test_find_target_returns_the_class() -> None:
    assert find_target(f"{STANDINS}.Balancer", ALLOW, "balancer") is Balancer


# classes of the right packages at the wrong key, and what is a class but no optimizer or transform
MISPLACED = [
    ("balancer", "pollinate.tracking.MLflowRunLogger"),
    ("balancer.method", "pollinate.transfer.Init"),
    ("trunk", "pollinate.balancers.UPGrad"),
    ("trunk", "torch.optim.SGD"),
    ("data.tasks.a.type", "pollinate.sources.Csv"),
    ("data.datasets.a.source", "pollinate.tasks.Classification"),
    ("encoder.text", "pollinate.tuning.LoRA"),
    ("encoder.text.tune", "pollinate.encoders.CNN"),
    ("data.image.augment", "torch.optim.SGD"),
    ("data.image.augment.transforms[0]", "pollinate.tracking.MLflowRunLogger"),
    ("data.image.augment", "torchvision.transforms.v2.InterpolationMode"),
    ("data.image.augment", "torchvision.transforms.v2._utils.Any"),
    ("optimizer", "torch.optim.something.os"),
    ("optimizer", "torch.optim.lr_scheduler"),
    ("optimizer", "torchvision.transforms.v2.RandomHorizontalFlip"),
    ("head_input", "pollinate.merging.OutputEnsemble"),
    ("combine", "pollinate.transfer.SourceAttention"),
    ("trainer.averaging", "pollinate.tracking.LocalRunLogger"),
    ("dim", "pollinate.trunks.MMoE"),
    ("", "pollinate.trunks.MMoE"),
]


@pytest.mark.parametrize(("key", "target"), MISPLACED)
def test_a_class_of_another_family_is_refused(key: str, target: str) -> None:
    with pytest.raises(UsageError, match=r"_target_ .*(refused|must be|not the dotted name)"):
        find_target(target, (), key)


@pytest.mark.parametrize(("key", "target"), MISPLACED[:7])
def test_a_class_of_another_family_is_refused_by_the_config(key: str, target: str) -> None:
    assert refusal(target, (), key) is not None
