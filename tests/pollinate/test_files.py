from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path

import pytest

from pollinate.files import write_json, write_text


@pytest.mark.parametrize("private", [False, True])
def test_what_may_hold_secrets_is_the_owner_s(tmp_path: Path, private: bool) -> None:
    path = tmp_path / "study.json"
    write_text(path, "old")  # readable by all
    write_json(path, {"token": "abc"}, private=private)
    assert bool(stat.S_IMODE(path.stat().st_mode) & 0o077) != private


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    path, free = tmp_path / "out[1].csv", 2**22 + 1  # above the largest number of a process
    dead = [tmp_path / f".out[1].csv.{free}.tmp", tmp_path / f".out[1].csv.{free + 1}.tmp"]
    kept = [
        tmp_path / f".out[1].csv.{os.getppid()}.tmp",  # of a living one
        tmp_path / f".out1.csv.{free}.tmp",  # of another file
        tmp_path / ".out[1].csv.mine.tmp",
    ]
    for file in (dead[0], *kept):
        file.touch()
    dead[1].mkdir()
    (dead[1] / "a.png").touch()
    write_text(path, "new")
    assert sorted(tmp_path.iterdir()) == sorted([path, *kept])


def test_json_is_strict_whatever_a_number_or_a_text_is(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"auroc": math.nan, 1: [math.inf, (0.5, "Größe \ud800")]})
    text = path.read_text(encoding="utf-8")
    refused = pytest.fail  # what Python reads beyond the standard
    assert json.loads(text, parse_constant=refused) == {
        "auroc": None,
        "1": [None, [0.5, "Größe \ud800"]],
    }
    assert "Größe \\ud800" in text
