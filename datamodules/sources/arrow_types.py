"""Types of columns in Arrow and Parquet files: what we hold, and one type for several files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # no types

from datamodules.sources.row_files import TableSchema

WHOLE_DIGITS = 15  # decimal digits that float64 holds exactly


def held_type(kind: pa.DataType) -> pa.DataType:
    """Return the plain type that holds a column's values, whatever way a file stores them.

    Raises:
        ValueError: they are none of numbers, texts, bytes, times, lists and structs.
    """
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return held_type(kind.value_type)
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_float16(kind):
        return pa.float32()
    if is_list(kind):
        return like_list(kind, held_type(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([own.with_type(held_type(own.type)) for own in kind])
    if types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
        raise ValueError(f"is {kind}, which is none of numbers, texts, times, lists and structs")
    return kind


def unheld(schema: pa.Schema) -> dict[str, str]:
    """Return {column: why it can't be held}."""
    found = {}
    for own in schema:
        try:
            held_type(own.type)
        except ValueError as error:
            found[own.name] = f"it {error}"
    return found


def is_list(kind: pa.DataType) -> bool:
    types = pa.types
    views = types.is_list_view(kind) or types.is_large_list_view(kind)
    fixed = types.is_fixed_size_list(kind)
    return bool(types.is_list(kind) or types.is_large_list(kind) or fixed or views)


def like_list(kind: pa.DataType, inner: pa.DataType) -> pa.DataType:
    large = pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind)
    return pa.large_list(inner) if large else pa.list_(inner)


def one_type(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return the narrowest type that holds the values of two held types without loss.

    A number beside a text is its text. Values that don't fit, such as whole numbers beyond 2^53 in
    a column of float64, are refused when they are cast.

    Raises:
        ValueError: there is none: zones beside none, truth values beside numbers, say.
    """
    types = pa.types
    if first == second:
        return first
    if is_list(first) and is_list(second):
        larger = first if pa.types.is_large_list(first) else second
        return like_list(larger, one_type(first.value_type, second.value_type))
    if types.is_struct(first) and types.is_struct(second):
        return one_struct(first, second)
    for one, other in ((first, second), (second, first)):
        if is_text(one) and is_number(other):
            return one
        if types.is_date(one) and types.is_timestamp(other) and other.tz is None:
            return other
        if types.is_decimal(one) and types.is_floating(other) and one.precision > WHOLE_DIGITS:
            raise ValueError(f"{one} has more digits than {other} holds")
    try:
        found = pa.unify_schemas(
            [pa.schema([("column", first)]), pa.schema([("column", second)])],
            promote_options="permissive",
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"no type holds both {first} and {second}") from error
    return found.field(0).type


def one_struct(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    fields = {own.name: own.type for own in first}
    for own in second:
        known = fields.get(own.name)
        fields[own.name] = own.type if known is None else one_type(known, own.type)
    return pa.struct(list(fields.items()))


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


Types = Mapping[str, pa.DataType]  # {column: type}


def unify_types(parts: Sequence[tuple[str, Types]]) -> TableSchema:
    """Return the types that hold the columns of all parts.

    Args:
        parts: (what a part is called, the types of its columns), at least one.
    """
    found: dict[str, pa.DataType] = {}
    wrong: dict[str, str] = {}
    names = dict.fromkeys(name for _, types in parts for name in types)
    for name in names:
        lacking = [part for part, types in parts if name not in types]
        if lacking:
            wrong[name] = f"{lacking[0]} lacks it; give it to every file, or to none"
            continue
        origin: dict[pa.DataType, str] = {}  # {type: the first part that has it}
        for part, types in parts:
            origin.setdefault(types[name], part)
        try:
            kinds = [held_type(kind) for kind in origin]
            for kind in kinds[1:]:
                kinds[0] = one_type(kinds[0], kind)
            found[name] = kinds[0]
        except ValueError as error:
            where = "; ".join(f"{kind} in {part}" for kind, part in origin.items())
            alone = len(origin) == 1
            wrong[name] = (
                f"it {error}; write it as one of these, or leave it out"
                if alone
                else f"{error}: it is {where}; write all files with one type"
            )
    return TableSchema(found, wrong)


def cast_value(value: Any, kind: pa.DataType) -> Any:
    """Return a value as a column of this type holds it.

    Raises:
        ValueError: it would be another value there.
    """
    types = pa.types
    if value is None:
        return None
    if is_list(kind):
        return [cast_value(item, kind.value_type) for item in value]
    if types.is_struct(kind) and isinstance(value, Mapping):
        return {own.name: cast_value(value.get(own.name), own.type) for own in kind}
    if is_text(kind) and not isinstance(value, str | bytes):
        return as_json(value)
    if types.is_floating(kind) and not isinstance(value, float):
        number = float(value)
        if isinstance(value, int) and int(number) != value:
            raise ValueError(
                f"{value} has more digits than a number with a point holds; write it in quotes"
            )
        return number
    if types.is_timestamp(kind) and isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value


def as_json(value: Any) -> str:
    """Return a value as text: JSON, and decimals and times as Python writes them."""
    plain = isinstance(value, Decimal | date | time)
    return str(value) if plain else json.dumps(value, ensure_ascii=False, default=str)


def caster(own: pa.DataType, kind: pa.DataType) -> Callable[[Any], Any] | None:
    """Return what turns values of one type into those of another; None: they are the same."""
    return None if own == kind else lambda value: cast_value(value, kind)
