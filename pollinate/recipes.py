"""Recipes: a class and its options, kept until what else it needs is known.

``po.trunks.MMoE(experts=4)`` says how tasks share; for which tasks and at which width, only the
model knows. Such a call gives a ``Recipe``. A call with everything, ``MMoE(tasks, dim)``, gives the
module itself, usable on plain tensors. Both remember their options as plain values, so
that a checkpoint can say how to build the model again.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, Signature, signature
from pathlib import PurePath
from typing import Any, ClassVar

from pollinate.errors import UsageError
from pollinate.namespaces import public_name
from pollinate.suggest import hint

TARGET = "_target_"  # key of a node that names its class
Node = dict[str, Any]  # a class and its options as plain values


@dataclass(frozen=True)
class Recipe:
    """A class and its options.

    Args:
        kind: the class.
        options: its keyword arguments, as far as they are known.

    Examples:
        >>> import pollinate as po
        >>> trunk = po.trunks.MMoE(experts=3)  # for which tasks, only the model knows
        >>> isinstance(trunk, po.Recipe), trunk.takes("depth")
        (True, True)
        >>> trunk.node()
        {'_target_': 'pollinate.trunks.MMoE', 'experts': 3, 'depth': 1, 'dropout': 0.1}
    """

    kind: Buildable
    options: Mapping[str, Any]

    def node(self) -> Node:
        """Return plain values: ``{_target_: pollinate.trunks.MMoE, experts: 4}``.

        Raises:
            UsageError: an option is no plain value, and no class of this project either.
        """
        options = {name: plain(value, name) for name, value in self.options.items()}
        return {TARGET: public_name(self.kind), **options}

    def takes(self, argument: str) -> bool:
        """Say whether the class has an argument of this name."""
        return argument in parameters(self.kind).parameters

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.kind.__name__}({given})"


class Buildable(ABCMeta):
    """Metaclass of what models are made of: trunks, encoders, balancers and the like.

    Attributes:
        given_later: arguments that the model fills in; a call without them gives a ``Recipe``.
        for_builder: options that are no arguments of the class, but of whoever builds it.
    """

    given_later: ClassVar[frozenset[str]] = frozenset()
    for_builder: ClassVar[frozenset[str]] = frozenset()

    def __call__(cls, *args: Any, **options: Any) -> Any:
        """Return an instance, or a recipe where an argument of ``given_later`` is missing."""
        known = parameters(cls)
        extra = [name for name in options if name in cls.for_builder]
        own = {name: value for name, value in options.items() if name not in extra}
        bound = bind(cls, known, args, own)
        missing = {
            name
            for name, one in known.parameters.items()
            if name not in bound and one.default is Parameter.empty and one.kind in NAMED
        }
        chosen = {**defaults(known), **bound, **{name: options[name] for name in extra}}
        recipe = Recipe(cls, {n: value for n, value in chosen.items() if n not in cls.given_later})
        if extra or (missing and missing <= cls.given_later):
            return recipe
        instance = super().__call__(*args, **options)
        instance.__dict__["recipe"] = recipe
        return instance

    def family(cls) -> str:
        """Return the public namespace that exports the class: ``trunks``."""
        return public_name(cls).split(".")[1]


NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


@cache
def parameters(kind: Buildable) -> Signature:
    """Return the signature of a class's constructor, without ``self``."""
    found = signature(kind.__init__)  # type: ignore[misc]  # of a class, not of an instance
    return found.replace(parameters=list(found.parameters.values())[1:])


def defaults(known: Signature) -> dict[str, Any]:
    """Return {argument: its default} of those that have one."""
    every = known.parameters.items()
    return {name: one.default for name, one in every if one.default is not Parameter.empty}


def bind(
    kind: Buildable, known: Signature, args: tuple[Any, ...], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return {argument: value} of a call."""
    takes_any = any(one.kind is Parameter.VAR_KEYWORD for one in known.parameters.values())
    names = [*known.parameters, *sorted(kind.for_builder)]
    for name in options if not takes_any else ():
        if name not in known.parameters:
            raise UsageError(
                f"{kind.__name__} has no option {name!r}{hint(name, names, 'options')}"
            )
    return dict(known.bind_partial(*args, **options).arguments)


def recipe_of(instance: Any) -> Recipe:
    """Return the options with which an instance of a ``Buildable`` class was made."""
    found: Recipe = vars(instance)["recipe"]
    return found


def plain(value: Any, name: str = "value") -> Any:
    """Return an option as plain values: numbers, texts, lists, and nodes of classes."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Recipe):
        return value.node()
    if isinstance(type(value), Buildable):
        return recipe_of(value).node()
    if isinstance(value, Mapping):
        return {str(key): plain(one, f"{name}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, f"{name}[{place}]") for place, one in enumerate(value)]
    if isinstance(value, PurePath):
        return str(value)
    raise UsageError(
        f"{name} must be plain values or a class of pollinate, so that a checkpoint can say how to "
        f"build it again, got {type(value).__name__}"
    )
