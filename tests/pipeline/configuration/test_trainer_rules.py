from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.configuration.trainer_rules import OWNED, TRAINER, trainer_options
from tests.pipeline.conftest import Fit


@pytest.mark.parametrize("name", sorted(OWNED))
def test_owned_options_name_the_key_to_use(refused: Callable[..., str], name: str) -> None:
    message = refused(f"trainer.{name}=true")
    assert f"trainer.{name}=true is set by Pollinate; use {OWNED[name]} instead" in message


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


AVERAGING = "trainer.averaging={_target_: lightning_modules.local.local_sgd.LocalSGD, %s}"


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
def test_problems(refused: Callable[..., str], override: str, parts: list[str]) -> None:
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
        "trainer.fast_dev_run=true",
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
    assert set(OWNED) | set(trainer_options()) == set(inspect.signature(Trainer).parameters)


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
