from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline.data_override import data_override


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
