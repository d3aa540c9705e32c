"""Notebooks run from their first cell to their last, each in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.studies.warm_server import warm

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
# a study's runs are real, but started from a process that has imported everything
WARM = """
import pollinate as po
ordinary = po.study
def warm(*args, overrides=(), **options):
    return ordinary(*args, overrides=[*overrides, {launcher!r}], **options)
po.study = warm
"""
pytest.importorskip("nbformat")


def opened(path: Path) -> Any:
    import nbformat

    return nbformat.read(path, as_version=4)


def told(notebook: Any) -> str:
    """What the cells say, as text."""
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    return "".join(
        "".join(one.get("text", "")) + one.get("data", {}).get("text/plain", "") for one in outputs
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's own packages
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_says_what_it_says_in_the_docs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook, stored = opened(path), opened(path)
    with warm(tmp_path / "warm") as launcher:
        first = WARM.format(launcher=f"launcher={launcher}")
        notebook.cells.insert(0, nbformat.v4.new_code_cell(first))
        nbclient.NotebookClient(
            notebook, timeout=400, resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    names = "priority", "multi_task", "single_task:priority"
    for text in (told(notebook), told(stored)):
        assert [name for name in names if name not in text] == []
        assert "{'recommends': 'unclear', 'priority': 'helped'}" in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_whole_and_of_no_machine(path: Path) -> None:
    notebook = opened(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(one.output_type == "error" for cell in code for one in cell.outputs)
    assert "Warning" not in told(notebook)
    assert "/" not in told(notebook)
