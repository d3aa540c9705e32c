"""Find a class's source by its dotted name, without importing anything.

Importing torch takes seconds, and importing a stranger's module runs it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pipeline.configuration.annotations import Aliases

DEPTH = 8  # re-exports followed before giving up: a module may import from itself


@dataclass(frozen=True)
class Source:
    """A class statement and the module that it is in."""

    node: ast.ClassDef
    module: str


def find_class(target: str, depth: int = DEPTH) -> Source | None:
    """Return the class statement that a dotted name leads to, through re-exports."""
    module, _, name = target.rpartition(".")
    tree = _tree(module) if module and depth else None
    if tree is None:
        return None
    for node in _statements(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return Source(node, module)
    for origin in _origins(tree, module, name):
        if source := find_class(origin, depth - 1):
            return source
    return None


def class_names(module: str) -> list[str]:
    """Return the public classes that a module defines or re-exports."""
    tree = _tree(module)
    names = {
        *(node.name for node in _statements(tree) if isinstance(node, ast.ClassDef)),
        *(alias.asname or alias.name for node in _imports(tree) for alias in node.names),
    }
    public = sorted(name for name in names if name[:1].isupper())
    return [name for name in public if find_class(f"{module}.{name}")]


def module_file(module: str) -> Path | None:
    """Return a module's source file. Only its top-level package is looked up, none imported."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # __main__ has no spec
        return None
    if spec is None:
        return None
    bases = [Path(root, *rest) for root in spec.submodule_search_locations or ()]
    files = [base.with_name(f"{base.name}.py") for base in bases] if rest else []
    files += [base / "__init__.py" for base in bases]
    if not bases and not rest and spec.origin:
        files.append(Path(spec.origin))
    return next((file for file in files if file.suffix == ".py" and file.is_file()), None)


@cache
def _tree(module: str) -> ast.Module | None:
    file = module_file(module)
    if file is None:
        return None
    try:
        return ast.parse(file.read_bytes())
    except SyntaxError:
        return None  # not found; importing it shows the reason


def _imports(tree: ast.Module | None) -> list[ast.ImportFrom]:
    return [node for node in _statements(tree) if isinstance(node, ast.ImportFrom)]


def _statements(tree: ast.Module | None) -> Iterator[ast.stmt]:
    """Yield a module's statements, also those under ``if TYPE_CHECKING:`` and ``try:``."""
    for node in tree.body if tree else ():
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from node.body


def _origins(tree: ast.Module, module: str, name: str) -> Iterator[str]:
    """Yield the dotted names that ``name`` may be imported from."""
    for node in _imports(tree):
        for alias in node.names:
            if alias.name == "*" or (alias.asname or alias.name) == name:
                yield f"{_absolute(node, module)}.{name if alias.name == '*' else alias.name}"


def _absolute(node: ast.ImportFrom, module: str) -> str:
    if not node.level:
        return node.module or ""
    file = module_file(module)
    is_package = file is not None and file.name == "__init__.py"
    parts = module.split(".") if is_package else module.split(".")[:-1]
    parts = parts[: len(parts) - (node.level - 1)]
    return ".".join([*parts, *([node.module] if node.module else [])])


def aliases_of(module: str) -> Aliases:
    """Return the module's ``Name = expression``, among them its type aliases."""
    tree = _tree(module)
    found: dict[str, ast.expr] = {}
    for node in tree.body if tree else ():
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found[name] = value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found[name] = value
    return found
