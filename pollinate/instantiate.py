"""Builds the object that a config node describes; classes that a config may not name are refused.

A config from somebody else's run must not be able to call ``os.system`` or ``torch.load``. Each key
has its family of classes: a tracker is no balancer, so a checkpoint can't start one by naming it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from pollinate.errors import UsageError
from pollinate.namespaces import ROOT, exported, resolve
from pollinate.recipes import TARGET, Recipe
from pollinate.suggest import did_you_mean

OWN_PACKAGES = (
    "datamodules",
    "lightning_modules",
    "pipeline",
)  # their public names are pollinate's
TRANSFORMS = "torchvision.transforms.v2"
OPTIMIZERS = "torch.optim"
SLOTS = {  # {key, of a configuration or of a checkpoint: family whose classes stand there}
    r"data\.datasets\..+\.source": "sources",
    r"data\.tasks\..+\.type": "tasks",
    r"data\.image\.augment": TRANSFORMS,
    r"encoder\.[^.]+\.tune": "tuning",
    r"encoder\.[^.]+": "encoders",
    r"trunk": "trunks",
    r"fusion": "fusions",
    r"balancer": "balancers",
    r"sampler": "samplers",
    r"optimizer": OPTIMIZERS,
    r"schedule": "schedules",
    r"transfer|head_input": "transfer",
    r"trainer\.averaging": "averaging",
    r"tracking": "tracking",
    r"engine": "engines",
    r"scores\.[^.]+": "scores",
    r"method|combine": "merging",
}
_SLOTS = [(re.compile(rf"(?:{key})(?:[.\[].*)?"), family) for key, family in SLOTS.items()]


def family_at(key: str) -> str | None:
    """Return whose classes may stand at a key or inside it; None: none but the user's own."""
    return next((family for pattern, family in _SLOTS if pattern.fullmatch(key)), None)


def allowed_at(key: str) -> str:
    """Return what a message says of the classes that may stand at a key."""
    family = family_at(key)
    ours = {None: "none of pollinate's", OPTIMIZERS: f"optimizers of {OPTIMIZERS}"}
    ours[TRANSFORMS] = f"transforms of {TRANSFORMS}"
    known = ours.get(family, f"classes of {ROOT}.{family}")
    return (
        f"allowed are {known}, and your own packages' when the command line names them: "
        "allow_targets=[my_pkg]"
    )


def is_below(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def may_reach(module: str, allow: Sequence[str]) -> bool:
    """Return whether a class defined in ``module`` may be named, wherever it is re-exported."""
    return is_below(module, [*OWN_PACKAGES, TRANSFORMS, OPTIMIZERS, *allow])


def refusal(target: object, allow: Sequence[str], key: str) -> str | None:
    """Return why ``_target_`` is refused at a key by its name, None when it may be looked up."""
    if not isinstance(target, str):
        return f"must be the dotted name of a class, got {target!r}"
    parts = target.split(".")
    if not all(part.isidentifier() and not part.startswith("_") for part in parts):
        return f"{target!r} is not the dotted name of a public class"
    package, _, name = target.rpartition(".")
    family = family_at(key)
    if package and is_below(package, allow):
        return None
    if family in (OPTIMIZERS, TRANSFORMS):
        known, names = package == family, []
    else:
        names = [f"{ROOT}.{family}.{one}" for one in exported(family)] if family else []
        known = target in names
    if known:
        return None
    return f"{target!r} is refused; {allowed_at(key)}{did_you_mean(name, names)}"


def instantiate(
    node: Mapping[str, Any], allow: Sequence[str] = (), key: str = "", /, **extra: Any
) -> Any:
    """Return ``Class(**options, **extra)`` for ``{_target_: package.module.Class, **options}``.

    Args:
        node: the options; a nested node with ``_target_`` is built first.
        allow: packages that the command line allows besides our own.
        key: the node's path in the config, which says whose classes may stand there.
        extra: arguments known only at run time; they win over options.
    """
    where = key or "config"
    kind = find_target(node.get("_target_"), allow, where)
    options = {
        name: _build(value, allow, f"{where}.{name}")
        for name, value in node.items()
        if name != "_target_"
    }
    try:
        return kind(**{**options, **extra})
    except (TypeError, ValueError, UsageError) as error:
        raise UsageError(f"{where}: {node['_target_']} refuses its options: {error}") from error


def build(given: Any, allow: Sequence[str] = (), key: str = "", /, **known: Any) -> Any:
    """Return what a node, a recipe or the thing itself stands for.

    Args:
        given: a node with ``_target_``, a ``Recipe``, or an object that is complete.
        allow: packages that nodes may name besides our own.
        key: the part's name, which says whose classes may stand there.
        known: arguments known only now; a complete object has them already.
    """
    if isinstance(given, Mapping) and TARGET in given:
        return instantiate(given, allow, key, **known)
    if not isinstance(given, Recipe):
        return given
    options = {
        name: build(value, allow, f"{key}.{name}", **known) if isinstance(value, Recipe) else value
        for name, value in given.options.items()
    }
    try:
        return given.kind(**{**options, **known})
    except (TypeError, ValueError, UsageError) as error:
        raise UsageError(f"{key}: {given.kind.__name__} refuses its options: {error}") from error


def find_target(target: object, allow: Sequence[str], key: str) -> type[Any]:
    """Return the class named ``target``, only if it is defined where configs may reach.

    A name is looked up in its module, never through attributes, and the class must have been
    defined in an allowed package: ``import os`` in one of our files opens no way to ``os``.
    """
    reason = refusal(target, allow, key)
    if reason:
        raise UsageError(f"{key}._target_ {reason}")
    module, _, name = (resolve(str(target)) or str(target)).rpartition(".")
    found = getattr(_module(module, key), name, None)
    if not isinstance(found, type):
        raise UsageError(f"{key}._target_ must be a class, got {target}: {module} has none such")
    if not may_reach(found.__module__, allow):
        origin = found.__module__
        raise UsageError(
            f"{key}._target_ {target} is refused, defined in {origin}: {allowed_at(key)}"
        )
    base = _base(found.__module__)
    if base is not None and not issubclass(found, base):
        raise UsageError(f"{key}._target_ must be a subclass of {base.__name__}, got {target}")
    return found


def _module(name: str, key: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not is_below(name, [error.name]):
            raise  # the module exists, something that it needs does not
        raise UsageError(f"{key}._target_ names no module: {error}") from error


def _base(module: str) -> type[Any] | None:
    """Return from which class those of another library must descend; None: the family says it."""
    if is_below(module, [OPTIMIZERS]):
        from torch.optim import Optimizer  # here, so that checking a config needs no torch

        return Optimizer
    if is_below(module, [TRANSFORMS]):
        from torchvision.transforms.v2 import Transform  # type: ignore[import-untyped]  # no types

        transform: type[Any] = Transform
        return transform
    return None


def _build(value: Any, allow: Sequence[str], key: str) -> Any:
    if isinstance(value, list):
        return [_build(item, allow, f"{key}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    if "_target_" in value:
        return instantiate(value, allow, key)
    return {name: _build(item, allow, f"{key}.{name}") for name, item in value.items()}
