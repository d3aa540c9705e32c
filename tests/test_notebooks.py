"""Notebooks run from their first cell to their last, each in a folder of its own."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
# the kernel is a fork of a process that has imported everything, and so are a study's runs
KERNEL = "tests.kernel"
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
    path: Path, tmp_path: Path, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook, stored = opened(path), opened(path)
    first = WARM.format(launcher=f"launcher={launcher}")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(first))
    kernel = tmp_path / "kernels" / "warm" / "kernel.json"
    argv = [*shlex.split(launcher), "-m", KERNEL, "-f", "{connection_file}"]
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": argv, "display_name": "warm", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    nbclient.NotebookClient(
        notebook,
        kernel_name="warm",
        timeout=400,
        resources={"metadata": {"path": str(tmp_path)}},
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
