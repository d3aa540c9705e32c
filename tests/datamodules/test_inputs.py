"""Paths in cells: without links, and below their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from datamodules.inputs import resolve_path, without_links
from pollinate.errors import PollinateError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a file, links inside and out, and a link to the folder itself."""
    home = tmp_path / "home"
    (home / "inner").mkdir(parents=True)
    (home / "inner" / "a.jpg").touch()
    (tmp_path / "secret.jpg").touch()
    (home / "near.jpg").symlink_to("inner/a.jpg")
    (home / "far.jpg").symlink_to(tmp_path / "secret.jpg")
    (home / "out").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(home)
    return tmp_path / "again"


INSIDE = ["inner/a.jpg", "near.jpg", "inner/../near.jpg", "./inner/./a.jpg", "absent.jpg", "inner/"]
OUTSIDE = ["far.jpg", "out/secret.jpg", "../secret.jpg", "inner/../../secret.jpg", ".."]


@pytest.mark.parametrize("cell", [*INSIDE, *OUTSIDE])
def test_links_are_followed_as_the_system_does(folder: Path, cell: str) -> None:
    assert str(without_links(folder / cell)) == os.path.realpath(folder / cell)


@pytest.mark.parametrize("cell", INSIDE)
def test_a_path_below_its_folder_is_found(folder: Path, cell: str) -> None:
    assert resolve_path(cell, folder) == Path(os.path.realpath(folder / cell))


@pytest.mark.parametrize("cell", [*OUTSIDE, "/etc/passwd"])
def test_a_path_out_of_its_folder_is_refused(folder: Path, cell: str) -> None:
    with pytest.raises(PollinateError, match="must stay below"):
        resolve_path(cell, folder)
