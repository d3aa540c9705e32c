"""The public names: which classes ``pollinate.balancers`` and the like export.

What a family's folder holds is exported: its base classes and all that descend from them, so that
a new method needs no entry in any list. Sources are read and nothing is imported, as a
configuration is checked before torch is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from pollinate.suggest import hint


class Family(NamedTuple):
    """Classes of one kind.

    package: whose modules have them; bases: the classes from which all descend.
    """

    package: str
    bases: tuple[str, ...]


FAMILIES: Mapping[str, Family] = {
    "averaging": Family("lightning_modules.parameter_averaging", ("ParameterAveraging",)),
    "balancers": Family("lightning_modules.balancers", ("Balancer",)),
    "calibration": Family(
        "lightning_modules.calibration",
        ("Calibrator", "Reliability", "RiskCoverage", "UncertaintyParts"),
    ),
    "conformal": Family("lightning_modules.conformal", ("ConformalPredictor",)),
    "encoders": Family("lightning_modules.encoders", ("Encoder", "TokenLayer", "WeightNames")),
    "engines": Family("pipeline.engines", ("Engine",)),
    "fusions": Family("lightning_modules.fusions", ("Fusion",)),
    "merging": Family("lightning_modules.merging", ("MergeMethod",)),
    "out_of_scope": Family("lightning_modules.out_of_scope", ("OutOfScopeScore", "ScopeRows")),
    "samplers": Family("datamodules.samplers", ("Sampler",)),
    "schedules": Family("lightning_modules.schedules", ("Schedule",)),
    "scores": Family("lightning_modules.transferability", ("Score",)),
    "sources": Family("datamodules.sources", ("Source",)),
    "tasks": Family("lightning_modules.tasks", ("Task",)),
    "tracking": Family("pipeline.tracking", ("RunLogger",)),
    "transfer": Family(
        "lightning_modules.transfer", ("Transfer", "SourceMixer", "CoefficientSearch")
    ),
    "trunks": Family("lightning_modules.trunks", ("Trunk",)),
    "tuning": Family("lightning_modules.tuning", ("Tuning", "PeftAdapter")),
}
ROOT = "pollinate"
CLASS = re.compile(r"^class (\w+)(?:\[[^\]]*\])?(?:\(([^)]*)\))?:", re.MULTILINE)


@cache
def exported(namespace: str) -> dict[str, str]:
    """Return {class: module that defines it} of a namespace."""
    family = FAMILIES[namespace]
    found: dict[str, tuple[str, list[str]]] = {}
    for path, module in sorted(modules_of(family.package)):
        for name, bases in CLASS.findall(path.read_text(encoding="utf-8")):
            found[name] = module, [re.split(r"[\[.]", one.strip())[0] for one in bases.split(",")]
    chosen = set(family.bases)
    while more := {n for n, (_, bases) in found.items() if n not in chosen and chosen & {*bases}}:
        chosen |= more
    return {name: found[name][0] for name in found if name in chosen and not name.startswith("_")}


def modules_of(package: str) -> list[tuple[Path, str]]:
    """Return (file, dotted name) of a package's modules, which are not imported."""
    top, *rest = package.split(".")
    spec = find_spec(top)
    roots = spec.submodule_search_locations if spec else None
    folders = [Path(root, *rest) for root in roots or ()]
    return [
        (path, ".".join([package, *path.relative_to(folder).with_suffix("").parts]))
        for folder in folders
        for path in folder.rglob("*.py")
        if path.name != "__init__.py"
    ]


def resolve(target: str) -> str | None:
    """Return where a public class is defined: ``pollinate.trunks.MMoE`` -> its dotted name.

    None: ``target`` is no public class of this project.
    """
    root, _, rest = target.partition(".")
    namespace, _, name = rest.partition(".")
    if root != ROOT or namespace not in FAMILIES:
        return None
    module = exported(namespace).get(name)
    return None if module is None else f"{module}.{name}"


def public_name(kind: type[Any]) -> str:
    """Return the name by which a configuration calls a class."""
    for namespace, family in FAMILIES.items():
        if kind.__module__.startswith(f"{family.package}.") and kind.__name__ in exported(
            namespace
        ):
            return f"{ROOT}.{namespace}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def lazily(namespace: str) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__all__``, ``__getattr__`` and ``__dir__`` of a namespace's module."""
    names = exported(namespace)

    def get(name: str) -> Any:
        """Import a class when it is asked for first."""
        if name not in names:
            raise AttributeError(
                f"{ROOT}.{namespace} has no {name!r}{hint(name, names, 'classes')}"
            )
        return getattr(import_module(names[name]), name)

    return list(names), get, lambda: list(names)
