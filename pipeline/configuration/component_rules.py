"""Rules for nodes with ``_target_``: may it be named, does the class have these options?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.configuration.annotations import describe, fits
from pipeline.configuration.class_source import class_names, find_class, module_file
from pipeline.configuration.data_rules import MODALITIES
from pipeline.configuration.schema_check import UNSET
from pipeline.configuration.signatures import Option, Signature, signature_of
from pipeline.configuration.suggest import hint, shown
from pipeline.configuration.targets import RULE, may_reach, refusal

# options that the builders use themselves instead of handing them to the class
CONSUMED = {
    "optimizer": {"lr_scale"},
    **{f"encoder.{modality}": {"tune"} for modality in MODALITIES},
}


def component_problems(config: Mapping[str, Any], allow: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with any node that names a class, wherever it is."""
    for path, node in _components(config, ""):
        target = node["_target_"]
        if target == UNSET:
            continue
        if reason := refusal(target, allow):
            yield f"{path}._target_ {reason}"
        elif (found := find_class(target)) is None:
            yield _not_found(path, target)
        elif not may_reach(found.module, allow):
            yield f"{path}._target_ {target} is refused, defined in {found.module}: {RULE}"
        else:
            yield from _option_problems(path, node, target, signature_of(found))


def _components(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, dict) and "_target_" in node:
        yield path, node
    items = node.items() if isinstance(node, dict) else ()
    numbered = enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from _components(value, f"{path}.{key}" if path else str(key))
    for i, value in numbered:
        yield from _components(value, f"{path}[{i}]")


def _not_found(path: str, target: str) -> str:
    module, _, name = target.rpartition(".")
    if module_file(module) is None:
        return f"{path}._target_ names no module: {module} is not installed or not on PYTHONPATH"
    known = class_names(module)
    return f"{path}._target_ names no class: {module} has no {name!r}{hint(name, known, 'classes')}"


def _option_problems(
    path: str, node: Mapping[str, Any], target: str, found: Signature
) -> Iterator[str]:
    own = {"_target_", *CONSUMED.get(path, ())}
    names = [*found.options, *CONSUMED.get(path, ())]
    for name, value in node.items():
        if name in own or value == UNSET:
            continue
        if name in found.options:
            yield from value_problems(f"{path}.{name}", value, found.options[name])
        elif not found.open:
            yield (
                f"unknown option {path}.{name}={shown(value)} of {target}"
                f"{hint(name, names, 'allowed')}"
            )


def value_problems(path: str, value: Any, option: Option) -> Iterator[str]:
    """Yield a problem when the value doesn't fit the argument's annotation."""
    if value is None and option.nullable:
        return
    if not fits(value, option.annotation, option.aliases):
        yield f"{path} must be {describe(option.annotation)}, got {shown(value)}"
