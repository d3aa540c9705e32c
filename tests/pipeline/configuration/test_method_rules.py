from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.configuration.composition import compose
from pipeline.configuration.method_rules import (
    RESERVED,
    TRAINER,
    component_problems,
    trainer_options,
    transfer_problems,
)
from pollinate.errors import UsageError
from pollinate.names import RESERVED_NAMES
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
        (
            "data.tasks.a.unseen=error",
            ['data.tasks.a.unseen must be one of refuse, drop, got "error"'],
        ),
        ("transfer.a=1", ["unknown option transfer.a=1", "allowed: none"]),
        ("tracking.labels={a: b}", ["tracking.labels must be Mapping[str, float]"]),
        ("trunk._target_=tests.pipeline.standins.Trnk", ["names no class", "did you mean Trunk?"]),
        ("trunk._target_=datamodules.nope.Trunk", ["is refused", "mean pollinate.trunks.Trunk?"]),
        ("trunk._target_=3", ["trunk._target_ must be the dotted name of a class, got 3"]),
        ("optimizer=torch", ["optimizer.name is missing"]),
    ],
)
def test_problems_of_components(
    refused: Callable[..., str], override: str, parts: list[str]
) -> None:
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


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_owned_options_name_the_key_to_use(refused: Callable[..., str], name: str) -> None:
    message = refused(f"trainer.{name}=true")
    assert f"trainer.{name}=true is set by Pollinate; use {RESERVED[name]} instead" in message


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("ema_decay=0.9", "ema_decay needs whole weights, and trainer=fsdp2 shards them"),
        ("compile=true", "compile=true needs whole weights, and trainer=fsdp2 shards them"),
        ("trainer.precision=64-true", 'with trainer=fsdp2, got "64-true"'),
    ],
)
def test_what_sharded_weights_can_t_have(
    refused: Callable[..., str], override: str, part: str
) -> None:
    assert part in refused("trainer.strategy=fsdp2", override)


AVERAGING = "trainer.averaging={_target_: pollinate.averaging.LocalSGD, %s}"


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["trainer.strategy=local"], "strategy=local needs trainer.averaging, got null"),
        ([AVERAGING % "every_n_steps: 2"], "averaging needs trainer.strategy=local, got null"),
        (
            ["trainer.strategy=local", AVERAGING % "every_steps: 2"],
            "unknown option trainer.averaging.every_steps=2",
        ),
        (
            ["trainer.strategy=local", AVERAGING % "every_n_steps: 2", "ema_decay=0.9"],
            "ema_decay needs the same weights on all processes in every step",
        ),
        (
            ["trainer.strategy=local", AVERAGING % "every_n_steps: 2", "trainer.precision=16"],
            "trainer.precision must not scale losses where each process would by its own factor",
        ),
    ],
)
def test_what_processes_that_step_on_their_own_need(
    refused: Callable[..., str], overrides: list[str], part: str
) -> None:
    assert part in refused(*overrides)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("trainer.max_epoch=5", ["trainer.max_epoch=5", "did you mean max_epochs?", "allowed: "]),
        ("trainer.max_epochs=1.5", ["trainer.max_epochs must be", "got 1.5"]),
        ("trainer.max_epochs=true", ["trainer.max_epochs must be", "got true"]),
        ("trainer.max_steps=null", ["trainer.max_steps must be int, got null"]),
        ("trainer.max_steps=0", ["trainer.max_steps must be >= 1, got 0; leave it out"]),
        ("trainer.max_steps=-1", ["trainer.max_steps must be >= 1, got -1"]),
        ("trainer.max_epochs=0", ["trainer.max_epochs must be >= 1, got 0; -1, with"]),
        ("trainer.gradient_clip_val=x", ["trainer.gradient_clip_val", 'got "x"']),
        ("trainer=[1]", ["trainer must be", "got [1]"]),
    ],
)
def test_problems_of_the_trainer(
    refused: Callable[..., str], override: str, parts: list[str]
) -> None:
    message = refused(override)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    "override",
    [
        "trainer.max_epochs=-1",
        "trainer.precision=bf16-mixed",
        "trainer.precision=16",
        "trainer.devices=[0,1]",
        "trainer.devices=auto",
        "trainer.limit_val_batches=0.5",
        "trainer.limit_val_batches=3",
        "trainer.gradient_clip_val=1",
        "trainer.profiler=simple",
        "trainer.deterministic=warn",
        "trainer.max_time={minutes: 5}",
        "trainer.enable_progress_bar=false",
    ],
)
def test_accepted(fit: Fit, override: str) -> None:
    fit(override)


def test_options_are_those_of_the_trainer() -> None:
    import inspect

    from lightning.pytorch import Trainer

    assert f"{Trainer.__module__}.{Trainer.__qualname__}" == TRAINER
    assert set(RESERVED) | set(trainer_options()) == set(inspect.signature(Trainer).parameters)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("optimizer.lr_scale.trunk=-1", "optimizer.lr_scale.trunk must be a factor > 0, got -1"),
        ("optimizer.lr_scale.trunk=0", "must be a factor > 0, got 0"),
        ("optimizer.lr_scale.trunk=a", 'must be a factor > 0, got "a"'),
        ("optimizer.lr_scale=2", "optimizer.lr_scale must be {part: factor}, got 2"),
    ],
)
def test_lr_scale(refused: Callable[..., str], override: str, part: str) -> None:
    assert part in refused(override)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["transfer=source_attention", "transfer.sources={a.b: runs/a}"],
            'transfer.sources: a name must not be empty and has no dot, got "a.b"',
        ),
        (
            ["transfer=weighted_fusion", "transfer.sources={type: runs/a}"],
            "transfer.sources: 'type' is reserved by PyTorch's containers; choose another name",
        ),
        (
            ["transfer=several", "transfer.methods={keys: {name: init, source: runs/a}}"],
            "transfer.methods: 'keys' is reserved",
        ),
        (
            ["transfer=several", "transfer.methods={a.b: {name: init, source: runs/a}}"],
            'transfer.methods: a name must not be empty and has no dot, got "a.b"',
        ),
        (
            ["transfer=annealed", "transfer.method={name: several, methods: {pop: none}}"],
            "transfer.method.methods: 'pop' is reserved",
        ),
    ],
)
def test_a_name_that_no_part_can_have(given: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        compose("fit", given)
    assert message in str(error.value)


def test_other_names_are_the_users_own() -> None:
    assert not list(transfer_problems({"sources": {"sst-2": "runs/a", "größe 1": "runs/b"}}))
    assert list(transfer_problems({"sources": dict.fromkeys(RESERVED_NAMES, "runs/a")}))


def test_annealing_of_nothing_is_no_method() -> None:
    with pytest.raises(UsageError, match=r"transfer.method is missing; set transfer.method=VALUE"):
        compose("fit", ["transfer=annealed"])


@pytest.mark.parametrize("name", ["dataset", "target", "unseen", "unlabelled"])
def test_what_stands_beside_a_task_s_type_is_no_option_of_it(name: str) -> None:
    node = {"_target_": "pollinate.tasks.Classification", "focal": 2.0, name: "drop"}
    tasks = {"tone": {"type": node}}
    found = list(component_problems({"data": {"tasks": tasks}}, ()))
    assert len(found) == 1
    assert f"unknown option data.tasks.tone.type.{name}" in found[0]
    assert "allowed: classes, label_smoothing, class_weights, focal" in found[0]
