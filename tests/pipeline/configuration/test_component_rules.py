from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.pipeline.conftest import Fit


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("trunk.dept=3", ["trunk.dept=3", "standins.Trunk; did you mean depth?", "allowed: dim, "]),
        ("trunk.depth=a", ['trunk.depth must be int, got "a"']),
        ("trunk.dropout=null", ["trunk.dropout must be float, got null"]),
        ("encoder.image.width=9", ["encoder.image.width must be", "got 9"]),
        ("optimizer.lrr=1", ["optimizer.lrr=1 of torch.optim.AdamW; did you mean lr?", "lr_scale"]),
        ("optimizer.lr=fast", ['optimizer.lr must be float | Tensor, got "fast"']),
        ("optimizer.amsgrad=1", ["optimizer.amsgrad must be bool, got 1"]),
        ("transfer.a=1", ["unknown option transfer.a=1", "allowed: none"]),
        ("tracking.labels={a: b}", ["tracking.labels must be Mapping[str, float]"]),
        ("trunk._target_=tests.pipeline.standins.Trnk", ["names no class", "did you mean Trunk?"]),
        ("trunk._target_=datamodules.nope.Trunk", ["names no module", "datamodules.nope"]),
        ("trunk._target_=3", ["trunk._target_ must be the dotted name of a class, got 3"]),
        ("optimizer=torch", ["optimizer.name is missing"]),
    ],
)
def test_problems(refused: Callable[..., str], override: str, parts: list[str]) -> None:
    message = refused(override)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("name", "guess"), [("RMSpop", "RMSprop"), ("adamw", "AdamW"), ("Adam_W", "AdamW")]
)
def test_any_torch_optimizer_by_name(refused: Callable[..., str], name: str, guess: str) -> None:
    message = refused("optimizer=torch", f"optimizer.name={name}")
    assert f"torch.optim has no {name!r}; did you mean {guess}?" in message


@pytest.mark.parametrize("name", ["lr_scheduler", "swap_in_optimizer_params_and_state", "a.B"])
def test_only_classes_of_torch_optim(refused: Callable[..., str], name: str) -> None:
    assert "optimizer._target_" in refused("optimizer=torch", f"optimizer.name={name}")


def test_arguments_of_the_run_may_be_absent(fit: Fit) -> None:
    assert "tasks" not in fit()["balancer"]  # required by the class, given when it is built


def test_nested_nodes_are_checked(fit: Fit, refused: Callable[..., str]) -> None:
    node = "schedule={{_target_: tests.pipeline.standins.Wrapper, inner: {}}}"
    fit(node.format("{_target_: tests.pipeline.standins.Trunk, dim: 1}"))
    message = refused(node.format("[{_target_: tests.pipeline.standins.Trunk, di: 1}]"))
    assert "unknown option schedule.inner[0].di=1" in message
