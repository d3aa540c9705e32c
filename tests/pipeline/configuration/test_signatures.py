from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest

from pipeline.configuration.class_source import class_names, find_class, module_file
from pipeline.configuration.signatures import signature

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
    found = signature(target)
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
    found = signature(target)
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
    assert signature(target) is None


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
    for module in ("pipeline", "pipeline.config", "json", "json.decoder", "difflib"):
        file = module_file(module)
        assert file is not None
        assert file.samefile(import_module(module).__file__ or "")
