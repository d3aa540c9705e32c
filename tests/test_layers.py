"""Imports are where a reader sees them; directions and circles are import-linter's."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from pipeline.configuration.help import commands

HERE = Path(__file__).resolve().parents[1]
LAYERS = ("pollinate", "datamodules", "lightning_modules", "pipeline")
LIBRARIES = ("pollinate", "datamodules", "lightning_modules")  # commands import late, to start fast
LATE = {  # file: what it imports only when it is needed, which takes a second
    "datamodules/python_data.py": {"datamodules.sources.arrow_table"},
    "datamodules/sources/base.py": {
        "datamodules.sources.arrow_table",
        "datamodules.sources.row_index",
    },
    "datamodules/sources/arrow.py": {
        "datamodules.sources.arrow_table",
        "datamodules.sources.arrow_types",
    },
    "datamodules/sources/csv.py": {"datamodules.sources.arrow_types"},
    "datamodules/sources/parquet.py": {"datamodules.sources.arrow_types"},
    "datamodules/sources/json.py": {"datamodules.sources.arrow_table"},
}
FOR_TYPES = {  # what a type checker should know of modules that are imported late on purpose
    "pipeline/serving/pyfunc.py": {"lightning_modules.predictor"},
    "pipeline/serving/model_folder.py": {"datamodules.inputs", "lightning_modules.tasks.base"},
}


def own_imports(node: ast.AST) -> Iterator[str]:
    """Yield the modules of ours that are imported somewhere below a node."""
    for one in ast.walk(node):
        if isinstance(one, ast.ImportFrom) and one.module:
            names = [one.module]
        elif isinstance(one, ast.Import):
            names = [alias.name for alias in one.names]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] in LAYERS)


def found(
    layers: tuple[str, ...], kinds: type[ast.AST] | tuple[type[ast.AST], ...], text: str
) -> dict[str, set[str]]:
    """Return {file: our modules imported in blocks of these kinds, whose first line has a text}."""
    hidden: dict[str, set[str]] = {}
    for path in (path for layer in layers for path in sorted((HERE / layer).rglob("*.py"))):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, kinds) and text in source.splitlines()[node.lineno - 1]:  # type: ignore[attr-defined]  # blocks have lines
                names = set(own_imports(node))
                if names:
                    hidden.setdefault(str(path.relative_to(HERE)), set()).update(names)
    return hidden


def test_no_import_of_ours_is_hidden_in_a_function() -> None:
    assert found(LIBRARIES, (ast.FunctionDef, ast.AsyncFunctionDef), "def ") == LATE


def test_no_import_of_ours_is_for_type_checkers_alone() -> None:
    hidden = found(LAYERS, ast.If, "TYPE_CHECKING")
    # commands, and what Python calls of them, say what they return and import it when they run:
    # to start fast
    late = {f"pipeline/{name}.py" for name in ("crash_report", *commands())}
    late |= {file for file in hidden if file.startswith("pipeline/api/")}
    assert {file: names for file, names in hidden.items() if file not in late} == FOR_TYPES
