"""What trains knows no method by name: transfer, ensembles and fork-merge plug in by hooks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pollinate.namespaces import FAMILIES, exported

ROOT = Path(__file__).parents[2]
GENERAL = (
    *(f"lightning_modules/{name}.py" for name in ("module", "evaluation_module", "network")),
    *(f"lightning_modules/{name}.py" for name in ("task_network", "assembly", "building")),
    *(f"lightning_modules/{name}.py" for name in ("hooks", "predictor", "backward_engine")),
    *(f"pipeline/{name}.py" for name in ("build", "trainer", "training_run", "evaluation")),
    "pipeline/merging/merge_scores.py",
)
GROUPS = {"transfer": "transfer", "merging": "method"}  # {family: its folder of options}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("file", GENERAL)
def test_no_method_is_named(file: str) -> None:
    source = (ROOT / file).read_text(encoding="utf-8")
    for family, group in GROUPS.items():
        bases = set(FAMILIES[family].bases)
        options = {path.stem for path in (ROOT / "configs" / group).glob("*.yaml")} - {"none"}
        methods = set(exported(family)) - bases - {"NoTransfer"} | {"Ensemble"}
        assert not {name for name in methods if re.search(rf"\b{name}\b", source)}
        assert not {name for name in options if re.search(rf"\b{group}={name}\b", source)}
        for name in imported(ast.parse(source)):
            assert not options & set(name.split(".")), name


def test_the_files_and_methods_are_found() -> None:
    """Else the test above would hold of nothing."""
    assert "OutputEnsemble" in exported("merging") and "ForkMerge" in exported("transfer")
    assert (ROOT / "configs/transfer/fork_merge.yaml").exists()
    assert "lightning_modules.hooks.TrainingHooks" in set(
        imported(ast.parse((ROOT / "lightning_modules/module.py").read_text(encoding="utf-8")))
    )
