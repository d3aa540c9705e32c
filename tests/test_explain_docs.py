"""The Python of docs/how_to/explain.md runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pollinate as po
from tests.extras import needs
from tests.lean_fit import lean_runs
from tests.small_shop import SMALL, shop

PAGE = Path(__file__).parents[1] / "docs/how_to/explain.md"


@needs("captum")
def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with lean_runs():
        po.fit(shop(tmp_path), [*SMALL, "run_dir=runs/NAME", "trainer.max_epochs=1"], quiet=True)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, PAGE.name, "exec"), names)
    assert (tmp_path / "why/explain.html").is_file()
    assert repr(names["why"]) == "Explanations(2 rows, tasks=['mood', 'stars'])"
