from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from pipeline.configuration.groups import SHIPPED, groups
from pipeline.configuration.help import commands, help_text, leading_comment


@pytest.mark.parametrize("name", ["fit", "evaluate", "predict", "merge"])
def test_every_key_and_its_comment(name: str) -> None:
    page = help_text(name)
    for line in (SHIPPED / f"{name}.yaml").read_text().splitlines():
        if line and not line.startswith(("#", "defaults", "  - ")):
            assert line in page
    for flag in ("--help", "--print-config", "--config-dir", "--debug"):
        assert flag in page


def test_groups_with_their_options() -> None:
    page = help_text("fit")
    for group in groups([SHIPPED]):
        assert (f"\n  {group}" in page) == (group not in ("engine", "method", "space", "study"))
    assert "* adamw" in page
    assert "Any class of torch.optim by name" in page
    assert "source (data.datasets.NAME.source)" in page


def test_a_command_lists_its_own_groups_only() -> None:
    listed = help_text("merge").partition("Groups and their options")[2].partition("Commands")[0]
    assert "method" in listed
    assert "* average" in listed
    assert "tracking" in listed
    assert "encoder" not in listed
    assert "source (data" not in listed


def test_small_commands_have_no_groups() -> None:
    assert "Groups" not in help_text("predict")


def test_folders_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/shop.yaml").write_text("# Our shop\ndatasets: {}\n")
    lines = help_text("fit", [tmp_path]).splitlines()
    assert any(line.split() == ["shop", "Our", "shop"] for line in lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# What it is\n# more\na: 1", "What it is"),
        ("# @package _global_\na: 1", ""),
        ("a: 1 # no", ""),
        ("", ""),
    ],
)
def test_leading_comment(text: str, expected: str) -> None:
    assert leading_comment(text) == expected


def test_commands_define_main() -> None:
    for name in commands():
        assert callable(import_module(f"pipeline.{name}").main)
    assert not {"help", "command", "config"} & set(commands())
