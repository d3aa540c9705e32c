from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

from pipeline.configuration.signatures import (
    class_names,
    class_signature,
    describe_type,
    find_class,
    fits_type,
    module_file,
    parse_type,
)

ALIASES = {"Width": parse_type("Literal[8, 16]"), "Rate": parse_type("float | None")}
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
    node = parse_type(annotation)
    assert [value for value in good if not fits_type(value, node, ALIASES)] == []
    assert [value for value in bad if fits_type(value, node, ALIASES)] == []


def test_without_annotation_everything_fits() -> None:
    assert all(fits_type(value, None, {}) for value in (1, "a", None, [], {}))


def test_an_alias_of_itself_ends() -> None:
    assert fits_type(1, parse_type("Loop"), {"Loop": ast.Name("Loop")})


def test_describe_speaks_yaml() -> None:
    assert describe_type(parse_type("tuple[int, int] | None")) == "list[int, int] | null"


STANDINS = "tests.pipeline.standins"


@pytest.mark.parametrize(
    ("target", "names", "is_open"),
    [
        (f"{STANDINS}.Trunk", ["dim", "depth", "dropout"], False),
        (f"{STANDINS}.Transfer", [], False),
        (f"{STANDINS}.Schedule", ["warmup"], False),  # of its base
        (f"{STANDINS}.Wrapper", ["warmup", "inner"], False),  # **options go to its base
        (f"{STANDINS}.Open", [], True),
        (f"{STANDINS}.Tracker", ["uri", "labels"], False),  # a dataclass
    ],
)
def test_own_classes(target: str, names: list[str], is_open: bool) -> None:
    found = class_signature(target)
    assert found is not None
    assert (list(found.options), found.open) == (names, is_open)


@pytest.mark.parametrize(
    "target",
    [
        "torch.optim.AdamW",
        "torch.optim.SGD",
        "torch.optim.Adafactor",
        "torchvision.transforms.v2.RandomAffine",
        "torchvision.transforms.v2.ColorJitter",
        "torchvision.transforms.v2.RandomErasing",
        "lightning.pytorch.Trainer",
        "lightning.pytorch.callbacks.EarlyStopping",
    ],
)
def test_agrees_with_inspect(target: str) -> None:
    module, _, name = target.rpartition(".")
    expected = inspect.signature(getattr(import_module(module), name)).parameters
    found = class_signature(target)
    assert found is not None
    assert list(found.options) == list(expected)


@pytest.mark.parametrize(
    "target",
    [
        "nope.Class",
        "Class",
        "torch.optim.Nope",
        "torch.optim.lr_scheduler",
        f"{STANDINS}.function",
        f"{STANDINS}.nope.Class",
        f"{STANDINS}.system",
        "sys.Nope",
        "__main__.Nope",
    ],
)
def test_not_found(target: str) -> None:
    assert class_signature(target) is None


def test_re_exports_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "reexporting"
    package.mkdir()
    (package / "__init__.py").write_text(
        "if TYPE_CHECKING:\n    from .inner import Inner as Lazy\n"
        "from .inner import Inner as Outer\nfrom .stars import *\nfrom reexporting import loop\n"
        "raise RuntimeError('imported')\n"
    )
    (package / "inner.py").write_text("class Inner:\n    def __init__(self, a: int): ...\n")
    (package / "stars.py").write_text("from .deep.deeper import Deep\n")
    (package / "deep").mkdir()
    (package / "deep/deeper.py").write_text("from ..inner import Inner as Deep\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("Outer", "Deep", "Lazy"):
        found = find_class(f"reexporting.{name}")
        assert found is not None
        assert found.module == "reexporting.inner"
    assert find_class("reexporting.loop") is None


def test_broken_source_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_source.py").write_text("class A(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_class("broken_source.A") is None


def test_class_names_are_classes() -> None:
    names = class_names("torch.optim")
    assert "AdamW" in names
    assert "lr_scheduler" not in names


def test_module_file_of_package_and_module() -> None:
    for module in (
        "pipeline",
        "pipeline.configuration.composition",
        "json",
        "json.decoder",
        "difflib",
    ):
        file = module_file(module)
        assert file is not None
        assert file.samefile(import_module(module).__file__ or "")
