"""Configurations that can't be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import compose
from pipeline.errors import UsageError
from tests.pipeline.shop_file import SHOP


class TestBroken:
    """Files and command lines that can't be read."""

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            (
                SHOP + "  sentiment: {dataset: reviews}\n",
                ["shop.yaml, line 9, column 3: found duplicate key sentiment"],
            ),
            ("datasets: {a: 1\ntasks: [", ["shop.yaml, line 2, column "]),
            ("datasets:\n\t- a\n", ["shop.yaml, line 2, column 1", "cannot start any token"]),
            ("- a\n", ["shop.yaml must be a mapping", "got a list"]),
            ("defaults: [nope]\n", ["a defaults list names data/nope", "options: quickstart"]),
            (SHOP + "seed: ${nope.x}\n", ["data.seed can't be resolved", "nope"]),
            (SHOP + "seed: ${a\n", ["shop.yaml can't be read", "${a"]),
            (SHOP + "allow_targets: [os]\n", ["unknown key data.allow_targets"]),
            (
                "# @package _global_\nallow_targets: [os]\n",
                ["allow_targets is only for the command line", "os"],
            ),
        ],
    )
    def test_files(
        self, refused: Callable[..., str], tmp_path: Path, text: str, parts: list[str]
    ) -> None:
        (tmp_path / "shop.yaml").write_text(text)
        message = refused(f"data={tmp_path}/shop.yaml")
        assert all(part in message for part in parts), message
        assert "Config search path" not in message

    def test_not_utf8(self, refused: Callable[..., str], tmp_path: Path) -> None:
        (tmp_path / "shop.yaml").write_bytes(b"name: caf\xe9\n")
        assert "shop.yaml can't be read" in refused(f"data={tmp_path}/shop.yaml")

    @pytest.mark.parametrize(
        ("override", "parts"),
        [
            ("seed", ["key=value", "'seed'"]),
            ("name=a,b", ["takes one value", "a,b"]),
            ("name=[a", ["can't read", "name=[a"]),
            ("balancer=equl", ["'equl'; did you mean equal?", ", equal, "]),
            ("gradients.every_n_steps=-1", ["gradients.every_n_steps must be >= 0, got -1"]),
            ("balancer.losses=uncertanty", ["balancer.losses has no option", "uncertainty?"]),
            (
                "balancer.losses={name: uncertainty, initiall: 1}",
                ["unknown option balancer.losses.initiall", "initial?"],
            ),
            ("balancer.method=mgdaa", ["balancer.method has no option", "did you mean mgda?"]),
            ("encoder/image=cnm", ["encoder/image has no option", "did you mean cnn?"]),
            ("encodr/image=cnn", ["not a group", "did you mean encoder/image?"]),
            ("data=nope.yaml", ["there is no config file", "/nope.yaml"]),
            ("task=classification", ["data.tasks.NAME.type=OPTION"]),
            ("source=csv", ["data.datasets.NAME.source=OPTION"]),
            ("augment=flip", ["set data.image.augment=OPTION"]),
            ("trunk.dim=${dimm}", ["trunk.dim", "dimm"]),
            ("data.tasks.digit.type=clasification", ["data.tasks.digit.type", "classification?"]),
            ("data.datasets.mnist.source=cvs", ["data.datasets.mnist.source", "csv?"]),
            ("~nope", ["nope"]),
            ("allow_targets=[a-b]", ["allow_targets must be a list of packages", "a-b"]),
            ("hydra.run.dir=x", ["unknown key hydra"]),
        ],
    )
    def test_overrides(self, refused: Callable[..., str], override: str, parts: list[str]) -> None:
        message = refused(override)
        assert all(part in message for part in parts), message

    def test_config_dir_must_be_a_folder(self, refused: Callable[..., str]) -> None:
        assert "--config-dir must be a folder" in refused(dirs=(Path("/nope"),))

    def test_unknown_command(self) -> None:
        with pytest.raises(UsageError, match="did you mean evaluate"):
            compose("evaluat")
