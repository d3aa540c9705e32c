"""The options of a class, read from its source file without importing it.

Importing torch takes seconds and runs code; a config is checked before either.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pipeline.annotations import Aliases

# bases that take no options of their own
BARE = {"object", "ABC", "Module", "Protocol", "Generic", "Dataset", "IterableDataset"}
DEPTH = 8  # re-exports followed before giving up: a module may import from itself


@dataclass(frozen=True)
class Option:
    """One constructor argument."""

    annotation: ast.expr | None
    nullable: bool  # its default is None, whatever its annotation says
    aliases: Aliases


@dataclass(frozen=True)
class Signature:
    """The constructor's arguments by name; ``open`` when it takes any other as well."""

    options: dict[str, Option]
    open: bool


@dataclass(frozen=True)
class Source:
    """A class statement and the module that it is in."""

    node: ast.ClassDef
    module: str


def signature(target: str) -> Signature | None:
    """Return the signature of the class ``package.module.Class``, None if it isn't found."""
    source = find_class(target)
    return _signature(source, DEPTH) if source else None


def find_class(target: str, depth: int = DEPTH) -> Source | None:
    """Return the class statement that a dotted name leads to, through re-exports."""
    module, _, name = target.rpartition(".")
    tree = _tree(module) if module and depth else None
    if tree is None:
        return None
    for node in tree.body:
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
        *(node.name for node in getattr(tree, "body", ()) if isinstance(node, ast.ClassDef)),
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
    return [node for node in getattr(tree, "body", ()) if isinstance(node, ast.ImportFrom)]


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


def _signature(source: Source, depth: int) -> Signature:
    for node in source.node.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return _of_init(node, source, depth)
    base = _of_bases(source, depth)
    if not any("dataclass" in ast.unparse(item) for item in source.node.decorator_list):
        return base
    return Signature({**base.options, **_fields(source)}, base.open)


def _of_init(init: ast.FunctionDef, source: Source, depth: int) -> Signature:
    arguments = init.args
    positional = [*arguments.posonlyargs, *arguments.args]
    padding: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults = [*padding, *arguments.defaults, *arguments.kw_defaults]
    aliases = _aliases(source.module)
    options = {
        argument.arg: Option(argument.annotation, _is_none(default), aliases)
        for argument, default in zip([*positional, *arguments.kwonlyargs], defaults, strict=True)
    }
    options.pop(positional[0].arg if positional else "self", None)
    if arguments.kwarg is None:
        return Signature(options, open=False)
    base = _of_bases(source, depth)
    return Signature({**base.options, **options}, open=base.open or not base.options)


def _of_bases(source: Source, depth: int) -> Signature:
    """Return the first base's signature that has any; open when a base can't be read."""
    is_open = False
    for base in source.node.bases:
        expression = base.value if isinstance(base, ast.Subscript) else base
        name = ast.unparse(expression)
        if name.rpartition(".")[2] in BARE:
            continue
        found = find_class(f"{source.module}.{name}") if depth and "." not in name else None
        inherited = _signature(found, depth - 1) if found else None
        if inherited and inherited.options:
            return inherited
        is_open = is_open or inherited is None or inherited.open
    return Signature({}, is_open)


def _fields(source: Source) -> dict[str, Option]:
    """Return a dataclass's own fields that are arguments of its constructor."""
    aliases = _aliases(source.module)
    fields = {}
    for node in source.node.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        is_class_variable = "ClassVar" in ast.unparse(node.annotation)
        is_internal = node.value is not None and "init=False" in ast.unparse(node.value)
        if not is_class_variable and not is_internal:
            fields[node.target.id] = Option(node.annotation, _is_none(node.value), aliases)
    return fields


def _aliases(module: str) -> Aliases:
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


def _is_none(default: ast.expr | None) -> bool:
    return isinstance(default, ast.Constant) and default.value is None
