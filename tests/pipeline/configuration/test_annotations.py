from __future__ import annotations

import ast

import pytest

from pipeline.configuration.annotations import describe, fits, parse

ALIASES = {"Width": parse("Literal[8, 16]"), "Rate": parse("float | None")}
NODE = {"_target_": "a.B"}


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ("int", [0, -1], [True, 1.0, "1", None, []]),
        ("float", [0, 1.5], [True, "1", None]),
        ("bool", [True], [1, "true", None]),
        ("str", ["", "a"], [1, None, []]),
        ("None", [None], [0, ""]),
        ("int | None", [1, None], ["a", 1.5]),
        ("Optional[int]", [1, None], ["a"]),
        ("typing.Optional[int]", [1, None], ["a"]),
        ("Union[int, str]", [1, "a"], [None, 1.5]),
        ("'int | None'", [1, None], ["a"]),
        ("Literal['a', 'b']", ["a"], ["c", 1]),
        ("list", [[], [1]], ["a", {}]),
        ("list[int]", [[], [1, 2]], [["a"], 1]),
        ("Sequence[str]", [["a"]], [[1], "a"]),
        ("tuple[int, int]", [[1, 2]], [[1], [1, 2, 3], ["a", 1]]),
        ("tuple[int, ...]", [[], [1, 2, 3]], [["a"]]),
        ("dict[str, float]", [{}, {"a": 1}], [{"a": "b"}, []]),
        ("Mapping[str, int | None]", [{"a": None}], [{"a": "b"}]),
        ("Path", ["a/b"], [1]),
        ("float | Tensor", [0.1, 1], ["a", None]),
        ("Tensor", [NODE], [1, "a", {"a": 1}]),
        ("nn.Module", [NODE], [1]),
        ("Callable[[int], int]", [NODE], [1, "a"]),
        ("Width", [8, 16], [9, "a"]),
        ("Rate", [0.1, None], ["a"]),
        ("SomethingElse", [1, "a", None, {}], []),
        ("Any", [1, "a", None, {}], []),
        ("object", [1, "a", None, {}], []),
    ],
)
def test_fits(annotation: str, good: list[object], bad: list[object]) -> None:
    node = parse(annotation)
    assert [value for value in good if not fits(value, node, ALIASES)] == []
    assert [value for value in bad if fits(value, node, ALIASES)] == []


def test_without_annotation_everything_fits() -> None:
    assert all(fits(value, None, {}) for value in (1, "a", None, [], {}))


def test_an_alias_of_itself_ends() -> None:
    assert fits(1, parse("Loop"), {"Loop": ast.Name("Loop")})


def test_describe_speaks_yaml() -> None:
    assert describe(parse("tuple[int, int] | None")) == "list[int, int] | null"
