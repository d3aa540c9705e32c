"""A configuration is composed from files and the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.config import compose, compose_with_requirements
from pipeline.configuration.groups import SHIPPED, find_option
from pipeline.errors import UsageError
from tests.pipeline.conftest import ALLOW, CONF, Fit
from tests.pipeline.shop_file import SHOP


def test_source_keeps_options_under_target_and_columns_beside(fit: Fit) -> None:
    dataset = fit()["data"]["datasets"]["mnist"]
    assert dataset == {
        "source": {"_target_": "tests.pipeline.standins.Rows", "name": "mnist"},
        "inputs": {"image": "image"},
        "split": {"train": 0.7, "valid": 0.1, "test": 0.2},
    }


def test_task_type_becomes_a_node(fit: Fit) -> None:
    task = fit("data.tasks.digit.label_smoothing=0.1")["data"]["tasks"]["digit"]
    assert task == {
        "type": {"_target_": "tests.pipeline.standins.Classification", "label_smoothing": 0.1},
        "dataset": "mnist",
        "target": "digit",
    }


def test_source_and_type_can_be_nodes(fit: Fit) -> None:
    rows = "{_target_: tests.pipeline.standins.Rows, path: a.csv}"
    config = fit(
        f"data.datasets.own={{source: {rows}, inputs: {{text: t}}, split: {{column: s}}}}",
        "data.tasks.own={dataset: [own, reviews], target: y, "
        "type: {_target_: tests.pipeline.standins.Classification}}",
    )
    assert config["data"]["datasets"]["own"]["source"]["path"] == "a.csv"
    assert config["data"]["tasks"]["own"]["dataset"] == ["own", "reviews"]


@pytest.mark.parametrize(
    ("overrides", "path", "expected"),
    [
        (["seed=3"], "seed", 3),
        (["+seed=3"], "seed", 3),
        (["++seed=3"], "seed", 3),
        (["seed=1", "seed=2"], "seed", 2),
        (["dim=64"], "trunk.dim", 64),
        (["trunk.dropout=0.3"], "trunk.dropout", 0.3),
        (["trainer.max_steps=7"], "trainer.max_steps", 7),
        (["trainer.max_time={hours: 2}"], "trainer.max_time", {"hours": 2}),
        (["trainer.devices=[0,1]"], "trainer.devices", [0, 1]),
        (["trainer.max_epochs=null"], "trainer.max_epochs", None),
        (["trainer=ddp", "trainer.devices=4"], "trainer.devices", 4),
        (["trainer=ddp"], "trainer.accelerator", "auto"),
        (["name='a, b'"], "name", "a, b"),
        (["run_dir=/tmp/ä#(1)=2"], "run_dir", "/tmp/ä#(1)=2"),
        (["run_dir=~/runs/a"], "run_dir", str(Path.home() / "runs/a")),
        (["balancer=uncertainty", "balancer.initial=1"], "balancer.initial", 1),
        (["balancer=uncertainty", "balancer=equal"], "balancer", {"_target_": "Balancer"}),
        (["encoder/image=cnn", "encoder.image.width=16"], "encoder.image.width", 16),
        (["optimizer=adamw"], "optimizer._target_", "torch.optim.AdamW"),
        (
            ["optimizer=torch", "optimizer.name=RMSprop", "optimizer.alpha=0.9"],
            "optimizer",
            {"_target_": "torch.optim.RMSprop", "lr": 1e-3, "lr_scale": {}, "alpha": 0.9},
        ),
        (["optimizer.lr_scale.encoders.text=2"], "optimizer.lr_scale", {"encoders.text": 2}),
        (["optimizer.lr_scale={encoders.text: 2}"], "optimizer.lr_scale", {"encoders.text": 2}),
        (["data.tasks.digit.type.label_smoothing=0.2"], "data.tasks.digit.dataset", "mnist"),
        (["experiment=null"], "seed", 0),
    ],
)
def test_overrides(fit: Fit, overrides: list[str], path: str, expected: object) -> None:
    found = fit(*overrides)
    for key in path.split("."):
        found = found[key]
    if path == "balancer":
        expected = {"_target_": "tests.pipeline.standins.Balancer"}
    assert found == expected


def test_tilde_deletes(fit: Fit) -> None:
    assert "digit" not in fit("~data.tasks.digit")["data"]["tasks"]


def test_group_without_option(fit: Fit, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(SHOP)
    (tmp_path / "reviews.csv").touch()
    config = fit(f"data={tmp_path}/shop.yaml", "encoder/image=null")
    assert set(config["encoder"]) == {"audio", "text"}


def test_group_outside_the_defaults_list(fit: Fit, tmp_path: Path) -> None:
    (tmp_path / "encoder/audio").mkdir(parents=True)
    text = "_target_: tests.pipeline.standins.Encoder\n"
    (tmp_path / "encoder/audio/spectrogram.yaml").write_text(text)
    config = fit("encoder/audio=spectrogram", "encoder.audio.width=16", dirs=(tmp_path,))
    assert config["encoder"]["audio"]["width"] == 16


class TestExperiments:
    """Experiments change the whole configuration, also the command's own values."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "experiment").mkdir()
        (tmp_path / "experiment/deep.yaml").write_text(
            "# @package _global_\ndefaults:\n  - override /balancer: uncertainty\n"
            "seed: 7\ndim: 32\ntrunk:\n  depth: 4\n"
        )
        return tmp_path

    def test_by_name(self, fit: Fit, folder: Path) -> None:
        config = fit("experiment=deep", dirs=(folder,))
        assert (config["seed"], config["trunk"]["dim"], config["trunk"]["depth"]) == (7, 32, 4)
        assert config["balancer"]["initial"] == 0.0

    def test_by_path(self, fit: Fit, folder: Path) -> None:
        config = fit(f"experiment={folder}/experiment/deep.yaml", "seed=8")
        assert (config["seed"], config["trunk"]["depth"]) == (8, 4)


def test_allow_targets_come_from_the_command_line(fit: Fit) -> None:
    assert fit()["allow_targets"] == ["tests.pipeline.standins"]
    assert compose("evaluate", ["checkpoint=a"])["allow_targets"] == []


def test_requirements_are_taken_out() -> None:
    composed = compose_with_requirements("fit", [ALLOW], [CONF])
    assert composed.requires == {"yaml": "quickstart"}
    assert "_requires_" not in str(composed.config)


@pytest.mark.parametrize(
    ("command", "overrides", "expected"),
    [
        ("evaluate", ["checkpoint=a.ckpt"], {"split": "test", "batch_size": 256, "run_dir": None}),
        ("predict", ["checkpoint=a", "input=b", "output=c"], {"on_bad_row": "skip", "tasks": None}),
        ("predict", ["checkpoint=a", "input=b", "output=c", "tasks=[x]"], {"tasks": ["x"]}),
    ],
)
def test_small_commands(command: str, overrides: list[str], expected: dict[str, object]) -> None:
    config = compose(command, overrides)
    assert {key: config[key] for key in expected} == expected


def test_missing_values_are_listed_together() -> None:
    with pytest.raises(UsageError) as caught:
        compose("predict", ["on_bad_row=ignore"])
    message = str(caught.value)
    for part in ("4 problems", "checkpoint is missing", "input is", "output is", "skip, error"):
        assert part in message


def test_works_from_any_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert compose("evaluate", ["checkpoint=a"])["split"] == "test"
    assert SHIPPED.is_dir()


@pytest.mark.skipif(
    find_option("encoder/image", "cnn", [SHIPPED]) is None, reason="needs all of the packages"
)
def test_shipped_defaults_compose() -> None:
    config = compose("fit")
    assert set(config["encoder"]) == {"audio", "image", "text"}


def test_hydra_state_is_left_alone(fit: Fit) -> None:
    from hydra.core.global_hydra import GlobalHydra

    before, folder = GlobalHydra.instance().is_initialized(), Path.cwd()
    fit()
    assert GlobalHydra.instance().is_initialized() == before
    assert os.fspath(Path.cwd()) == os.fspath(folder)


def test_an_option_beside_a_name_keeps_the_name() -> None:
    for given in ("encoder.text.tune=last_blocks", "encoder.text.tune={name: last_blocks}"):
        node = compose("fit", [given, "encoder.text.tune.blocks=3"])["encoder"]["text"]["tune"]
        assert node == {
            "_target_": "lightning_modules.tuning.last_blocks.LastBlocks",
            "blocks": 3,
        }
