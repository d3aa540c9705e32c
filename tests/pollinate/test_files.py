from __future__ import annotations

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
