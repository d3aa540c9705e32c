"""The options of a class, read from its source file without importing it.

Importing torch takes seconds and runs code; a config is checked before either.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from pipeline.configuration.annotations import Aliases
from pipeline.configuration.class_source import DEPTH, Source, aliases_of, find_class

# bases that take no options of their own
BARE = {"object", "ABC", "Module", "Protocol", "Generic", "Dataset", "IterableDataset"}


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


def signature(target: str) -> Signature | None:
    """Return the signature of the class ``package.module.Class``, None if it isn't found."""
    source = find_class(target)
    return signature_of(source) if source else None


def signature_of(source: Source, depth: int = DEPTH) -> Signature:
    """Return the signature of a class's source; ``depth`` bases are followed."""
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
    aliases = aliases_of(source.module)
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
        inherited = signature_of(found, depth - 1) if found else None
        if inherited and inherited.options:
            return inherited
        is_open = is_open or inherited is None or inherited.open
    return Signature({}, is_open)


def _fields(source: Source) -> dict[str, Option]:
    """Return a dataclass's own fields that are arguments of its constructor."""
    aliases = aliases_of(source.module)
    fields = {}
    for node in source.node.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        is_class_variable = "ClassVar" in ast.unparse(node.annotation)
        is_internal = node.value is not None and "init=False" in ast.unparse(node.value)
        if not is_class_variable and not is_internal:
            fields[node.target.id] = Option(node.annotation, _is_none(node.value), aliases)
    return fields


def _is_none(default: ast.expr | None) -> bool:
    return isinstance(default, ast.Constant) and default.value is None
