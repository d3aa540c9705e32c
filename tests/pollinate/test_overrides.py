from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from pollinate.overrides import option_text, override


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            3,
            -0.5,
            1e-7,
            float("inf"),
            "null",
            "3",
            "",
            "a,b",
            "(x)",
            "it's",
            'say "x"',
        ),
        *(
            "back\\slash",
            'odd\\"',
            "ends in \\",
            "runs/a",
            "models:/shop/2",
            "sqlite:////a/m.db",
            "http://h/x",
            "ü [1]",
            "a=b",
            " x ",
        ),
        *([1, "2", [None]], {"_target_": "pollinate.merging.Average", "weights": [1.0, 2.0]}),
        *("1.5", "1e5", "1_000", ".", "5/3"),
    ],
)
def test_a_value_is_read_back_as_itself(value: Any) -> None:
    parsed = OverridesParser.create().parse_override(override("key", value))
    assert parsed.key_or_group == "key"
    assert parsed.value() == value
    assert type(parsed.value()) is type(value)


def test_a_path_stands_as_it_is_where_it_can() -> None:
    assert override("data", Path("my/shop.yaml")) == "data=my/shop.yaml"
    assert override("data", "my shop.yaml") == 'data="my shop.yaml"'


@pytest.mark.parametrize(
    "name",
    ["Projects [2024]", "it's", "a,b", "lr=0.1,bs=3", 'say "x"', "50%", "why?", "a b", "{x}"],
)
def test_what_a_message_shows_can_be_pasted(name: str) -> None:
    (word,) = shlex.split(option_text("resume", Path("/tmp", name)))
    assert OverridesParser.create().parse_override(word).value() == f"/tmp/{name}"


def test_a_dollar_is_no_interpolation() -> None:
    value = OverridesParser.create().parse_override(override("key", "a/${HOME}")).value()
    assert OmegaConf.to_container(OmegaConf.create({"key": value}), resolve=True) == {
        "key": "a/${HOME}"
    }


def test_keys_of_a_dict_may_hold_spaces_and_brackets() -> None:
    value = {"a b": 1, "c[0]": "x y", "d:e": [1, 2]}
    assert OverridesParser.create().parse_override(override("key", value)).value() == value
