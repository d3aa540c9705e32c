"""Writes the stubs that tell editors and type checkers the names which are imported lazily.

``python -m pollinate.stubs`` after a class or a name was added; a test says when. A class that the
model completes has, in its stub, defaults for what only the model knows, so that
``po.trunks.MMoE(experts=2)``, which gives a recipe, is right.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pollinate
from pollinate.namespaces import FAMILIES, exported
from pollinate.recipes import Buildable

HEADER = "# written by python -m pollinate.stubs\n"


def stubs() -> dict[str, str]:
    """Return {file name in this package: content} of all stubs."""
    return {"__init__.pyi": root_stub()} | {f"{name}.pyi": family_stub(name) for name in FAMILIES}


def root_stub() -> str:
    homes = {"PollinateError": "pollinate.errors", "UsageError": "pollinate.errors"}
    homes |= vars(pollinate)["_HOMES"]  # which the stub itself doesn't show
    lines = {f"from {module} import {name} as {name}" for name, module in homes.items()}
    lines |= {f"from pollinate import {name} as {name}" for name in FAMILIES}
    names = "".join(f'    "{name}",\n' for name in pollinate.__all__)
    return f"{HEADER}{joined(lines)}\n__version__: str\n__all__ = [\n{names}]\n"


def family_stub(namespace: str) -> str:
    imports: set[str] = set()
    classes = []
    for name, module in sorted(exported(namespace).items()):
        kind = getattr(import_module(module), name)
        later = completed_by_the_model(kind)
        if not later:
            imports.add(f"from {module} import {name} as {name}")
            continue
        imports.add(f"from {module} import {name} as _{name}")
        arguments, needed = constructor(kind, later)
        imports |= needed
        classes.append(
            f"\nclass {name}(_{name}):\n    def __init__(self, {arguments}) -> None: ...\n"
        )
    imports = {line for line in imports if f"{line} as {line.split()[-1]}" not in imports}
    return f"{HEADER}{joined(imports)}{''.join(classes)}"


def joined(lines: set[str]) -> str:
    return "".join(f"{line}\n" for line in sorted(lines))


def completed_by_the_model(kind: type[Any]) -> set[str]:
    """Return the arguments of a class that can be made which only the model knows."""
    if not isinstance(kind, Buildable) or inspect.isabstract(kind):
        return set()
    found = inspect.signature(kind.__init__).parameters
    return {n for n in kind.given_later if n in found and found[n].default is found[n].empty}


def constructor(kind: type[Any], later: set[str]) -> tuple[str, set[str]]:
    owner = next(one for one in kind.__mro__ if "__init__" in vars(one))
    tree = ast.parse(inspect.getsource(sys.modules[owner.__module__]))
    node = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == owner.__name__)
    own = next(n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    options = sorted(getattr(kind, "for_builder", ()))
    arguments, dots = own.args, ast.Constant(...)
    arguments.args = arguments.args[1:]
    optional = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    given = {one.arg: value for one, value in zip(optional, arguments.defaults, strict=True)}
    defaults: list[ast.expr] = []
    for one in arguments.args:
        # all that follows an argument with a default needs one, too
        if one.arg in given or one.arg in later or defaults:
            defaults.append(plain_default(given.get(one.arg, dots)))
    arguments.defaults = defaults
    arguments.kw_defaults = [value and plain_default(value) for value in arguments.kw_defaults]
    for name in options:
        arguments.kwonlyargs.append(ast.arg(name, ast.parse("object", mode="eval").body))
        arguments.kw_defaults.append(dots)
    annotations = [a.annotation for a in [*arguments.args, *arguments.kwonlyargs] if a.annotation]
    names = {n.id for one in annotations for n in ast.walk(one) if isinstance(n, ast.Name)}
    return ast.unparse(arguments), set(imports_of(tree, names, owner.__module__))


def plain_default(value: ast.expr) -> ast.expr:
    """Return a default as a stub may show it: a constant, or dots."""
    is_plain = isinstance(value, ast.Constant) or (
        isinstance(value, ast.UnaryOp) and isinstance(value.operand, ast.Constant)
    )
    return value if is_plain else ast.Constant(...)


def imports_of(tree: ast.Module, names: set[str], module: str) -> Iterator[str]:
    found = {
        alias.asname or alias.name: f"from {node.module} import {alias.name}"
        + (f" as {alias.asname}" if alias.asname else "")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name in names - set(dir(builtins)):
        yield found.get(name, f"from {module} import {name}")


def main() -> None:
    folder = Path(__file__).parent
    for name, content in stubs().items():
        (folder / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
