"""Does a plain value fit an annotation, read as source text? Nothing is imported.

An annotation that is not understood accepts every value: the constructor has the last word.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

Aliases = Mapping[str, ast.expr]


def is_number(value: Any) -> bool:
    """Return whether a value is an int or a float; a bool is neither."""
    return isinstance(value, int | float) and not isinstance(value, bool)


PLAIN: dict[str, Callable[[Any], bool]] = {
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": is_number,
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "Path": lambda value: isinstance(value, str),
    **dict.fromkeys(("list", "List"), lambda value: isinstance(value, list)),
    **dict.fromkeys(("tuple", "Tuple", "Sequence"), lambda value: isinstance(value, list)),
    **dict.fromkeys(("dict", "Dict", "Mapping"), lambda value: isinstance(value, dict)),
}
# a plain value never is one of these, only a node with _target_ may build one
BUILT = {"Tensor", "Module", "Callable", "Optimizer", "Generator", "timedelta"}


def parse(annotation: str) -> ast.expr:
    """Return the expression of an annotation such as ``"int | None"``."""
    return ast.parse(annotation, mode="eval").body


def fits(value: Any, annotation: ast.expr | None, aliases: Aliases) -> bool:
    """Return whether ``value`` may be given where ``annotation`` is written.

    An int fits float; a bool doesn't fit int. ``aliases`` are the file's ``Name = expression``.
    """
    match annotation:
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str() as text):
            return fits(value, parse(text), aliases)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return fits(value, left, aliases) or fits(value, right, aliases)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return _fits_name(value, name, aliases)
        case ast.Subscript(value=base, slice=inner):
            arguments = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return _fits_generic(value, base, arguments, aliases)
    return True


def _fits_name(value: Any, name: str, aliases: Aliases) -> bool:
    if name in PLAIN:
        return PLAIN[name](value)
    if name in BUILT:
        return isinstance(value, dict) and "_target_" in value
    return name not in aliases or fits(value, aliases[name], {})


def _fits_generic(value: Any, base: ast.expr, inner: list[ast.expr], aliases: Aliases) -> bool:
    name = ast.unparse(base).rpartition(".")[2]
    if name in ("Union", "Optional"):
        return (name == "Optional" and value is None) or any(
            fits(value, part, aliases) for part in inner
        )
    if name == "Literal":
        return any(isinstance(part, ast.Constant) and value == part.value for part in inner)
    if not _fits_name(value, name, aliases):
        return False
    if isinstance(value, dict) and len(inner) == 2 and name in PLAIN:
        return all(fits(item, inner[1], aliases) for item in value.values())
    if isinstance(value, list) and name in PLAIN:
        return _fits_items(value, inner, aliases)
    return True


def _fits_items(values: list[Any], inner: list[ast.expr], aliases: Aliases) -> bool:
    """Check ``list[X]``, ``tuple[X, ...]`` or ``tuple[X, Y]``."""
    homogeneous = len(inner) == 1 or ast.unparse(inner[-1]) == "..."
    if homogeneous:
        return all(fits(value, inner[0], aliases) for value in values)
    pairs = zip(values, inner, strict=False)
    return len(values) == len(inner) and all(fits(value, part, aliases) for value, part in pairs)


def describe(annotation: ast.expr | None) -> str:
    """Return an annotation as a config's author knows it: null and list for None and tuple."""
    text = ast.unparse(annotation) if annotation else "a value"
    return text.replace("None", "null").replace("tuple[", "list[")
