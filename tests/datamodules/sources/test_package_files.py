import lzma
import os
import pickle
import sys
from pathlib import Path

import pandas as pd
import pytest

from datamodules.sources.package_files import package_file, read_frame
from pipeline.errors import UsageError


def test_package_that_is_not_installed() -> None:
    with pytest.raises(UsageError, match=r'no_such_package.*pip install "pollinate\[quickstart\]"'):
        package_file("no_such_package", "data.csv")


def test_file_that_is_not_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "some_package" / "here.csv").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert package_file("some_package", "here.csv").is_file()
    assert "some_package" not in sys.modules
    with pytest.raises(UsageError, match=r"gone\.csv in the package some_package"):
        package_file("some_package", "gone.csv")


@pytest.mark.parametrize("content", [os.system, {"a": 1}], ids=["function", "not a frame"])
def test_only_frames_are_unpickled(content: object, tmp_path: Path) -> None:
    path = tmp_path / "frame.pkl.xz"
    path.write_bytes(lzma.compress(pickle.dumps(content)))
    with pytest.raises(pickle.UnpicklingError, match="DataFrame"):
        read_frame(path)


def test_a_call_is_not_made(tmp_path: Path) -> None:
    class Call:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "touched",))

    path = tmp_path / "frame.pkl.xz"
    path.write_bytes(lzma.compress(pickle.dumps(pd.DataFrame({"a": [Call()]}, dtype=object))))
    with pytest.raises(pickle.UnpicklingError):
        read_frame(path)
    assert not (tmp_path / "touched").exists()
