"""What fails after the result costs only itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.run_folder import RunFolder
from pipeline.side_work import costs_only_itself


def test_an_error_is_a_line_and_a_traceback(tmp_path: Path) -> None:
    said: list[str] = []
    problems: list[str] = []
    tracker: Any = None
    for what, error in (("plots", OSError("disk full")), ("model", MemoryError())):
        with costs_only_itself(what, {}, RunFolder(tmp_path), tracker, said.append, problems):
            raise error
    assert problems == [
        "the plots couldn't be made: OSError: disk full",
        "the model couldn't be made: MemoryError",
    ]
    assert said == [f"warning: {line}" for line in problems]
    assert "disk full" in (tmp_path / "crash.txt").read_text()


def test_an_interrupt_is_no_failure_of_a_part(tmp_path: Path) -> None:
    tracker: Any = None
    aside = costs_only_itself("plots", {}, RunFolder(tmp_path), tracker, print, [])
    with pytest.raises(KeyboardInterrupt), aside:
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
