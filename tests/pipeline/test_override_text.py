from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from pipeline.override_text import data_override, override


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
        *("back\\slash", 'odd\\"', "ends in \\", "runs/a", "models:/shop/2", "ü [1]", "a=b", " x "),
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


@pytest.mark.parametrize("for_later", [False, True])
def test_data_of_python_stand_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, for_later: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = {"datasets": {"a": {"path": "a.csv", "version": "1e3"}}}
    with data_override(spec, for_later=for_later) as words:
        (word,) = words
        file = Path(word.removeprefix("data="))
        found = OmegaConf.to_container(OmegaConf.load(file))
    assert found == {"datasets": {"a": {"path": str(tmp_path / "a.csv"), "version": "1e3"}}}
    assert file.exists() == for_later
    assert (tmp_path / "runs").exists() == for_later
