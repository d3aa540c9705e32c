"""The options of a class and their types, read from its source without importing it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from datamodules.dataset_rules import is_number
from pollinate.namespaces import resolve
from pollinate.yaml_words import quotes_hint

Aliases = Mapping[str, ast.expr]


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


def parse_type(annotation: str) -> ast.expr:
    """Return the expression of an annotation such as ``"int | None"``."""
    return ast.parse(annotation, mode="eval").body


def fits_type(value: Any, annotation: ast.expr | None, aliases: Aliases) -> bool:
    """Return whether ``value`` may be given where ``annotation`` is written.

    An int fits float; a bool doesn't fit int. ``aliases`` are the file's ``Name = expression``.
    """
    match annotation:
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str() as text):
            return fits_type(value, parse_type(text), aliases)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return fits_type(value, left, aliases) or fits_type(value, right, aliases)
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
    return name not in aliases or fits_type(value, aliases[name], {})


def _fits_generic(value: Any, base: ast.expr, inner: list[ast.expr], aliases: Aliases) -> bool:
    name = ast.unparse(base).rpartition(".")[2]
    if name in ("Union", "Optional"):
        return (name == "Optional" and value is None) or any(
            fits_type(value, part, aliases) for part in inner
        )
    if name == "Literal":
        return any(isinstance(part, ast.Constant) and value == part.value for part in inner)
    if not _fits_name(value, name, aliases):
        return False
    if isinstance(value, dict) and len(inner) == 2 and name in PLAIN:
        return all(fits_type(item, inner[1], aliases) for item in value.values())
    if isinstance(value, list) and name in PLAIN:
        return _fits_items(value, inner, aliases)
    return True


def _fits_items(values: list[Any], inner: list[ast.expr], aliases: Aliases) -> bool:
    """Check ``list[X]``, ``tuple[X, ...]`` or ``tuple[X, Y]``."""
    homogeneous = len(inner) == 1 or ast.unparse(inner[-1]) == "..."
    if homogeneous:
        return all(fits_type(value, inner[0], aliases) for value in values)
    pairs = zip(values, inner, strict=False)
    return len(values) == len(inner) and all(
        fits_type(value, part, aliases) for value, part in pairs
    )


def describe_type(annotation: ast.expr | None) -> str:
    """Return an annotation as a config's author knows it: null and list for None and tuple."""
    text = ast.unparse(annotation) if annotation else "a value"
    return text.replace("None", "null").replace("tuple[", "list[")


def text_hint(value: Any, annotation: ast.expr | None) -> str:
    """Return what to write in place of a value that YAML didn't read as a text, if one may be."""
    nodes = ast.walk(annotation) if annotation is not None else ()
    takes_text = any(isinstance(node, ast.Name) and node.id == "str" for node in nodes)
    return quotes_hint(value) if takes_text else ""


DEPTH = 8  # re-exports followed before giving up: a module may import from itself


@dataclass(frozen=True)
class ClassSource:
    """A class statement and the module that it is in."""

    node: ast.ClassDef
    module: str


def find_class(target: str, depth: int = DEPTH) -> ClassSource | None:
    """Return the class statement that a dotted name leads to, through re-exports."""
    module, _, name = (resolve(target) or target).rpartition(".")
    tree = _tree(module) if module and depth else None
    if tree is None:
        return None
    for node in _statements(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return ClassSource(node, module)
    for origin in _origins(tree, module, name):
        if source := find_class(origin, depth - 1):
            return source
    return None


def attribute_annotation(target: str, name: str, depth: int = DEPTH) -> ast.expr | None:
    """Return how a class, or the first of its bases that does, declares an attribute's type."""
    source = find_class(target) if depth else None
    if source is None:
        return None
    for node in source.node.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                return node.annotation
    bases = (ast.unparse(b.value if isinstance(b, ast.Subscript) else b) for b in source.node.bases)
    above = (attribute_annotation(f"{source.module}.{base}", name, depth - 1) for base in bases)
    return next((one for one in above if one is not None), None)


def class_names(module: str) -> list[str]:
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


def class_signature(target: str) -> Signature | None:
    """Return the signature of the class ``package.module.Class``, None if it isn't found."""
    source = find_class(target)
    return signature_of_source(source) if source else None


def signature_of_source(source: ClassSource, depth: int = DEPTH) -> Signature:
    """Return the signature of a class's source; ``depth`` bases are followed."""
    for node in source.node.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return _of_init(node, source, depth)
    base = _of_bases(source, depth)
    if not any("dataclass" in ast.unparse(item) for item in source.node.decorator_list):
        return base
    return Signature({**base.options, **_fields(source)}, base.open)


def _of_init(init: ast.FunctionDef, source: ClassSource, depth: int) -> Signature:
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


def _of_bases(source: ClassSource, depth: int) -> Signature:
    """Return the first base's signature that has any; open when a base can't be read."""
    is_open = False
    for base in source.node.bases:
        expression = base.value if isinstance(base, ast.Subscript) else base
        name = ast.unparse(expression)
        if name.rpartition(".")[2] in BARE:
            continue
        found = find_class(f"{source.module}.{name}") if depth and "." not in name else None
        inherited = signature_of_source(found, depth - 1) if found else None
        if inherited and inherited.options:
            return inherited
        is_open = is_open or inherited is None or inherited.open
    return Signature({}, is_open)


def _fields(source: ClassSource) -> dict[str, Option]:
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
