"""Checkpoints are whole or absent, and a damaged one is found out."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules import checkpoints
from lightning_modules.checkpoints import (
    AtomicCheckpointIO,
    CorruptCheckpointError,
    is_intact,
    newest_intact,
    read_checkpoint,
    read_index,
    verify_checkpoint,
    write_checkpoint,
)
from pollinate.errors import PollinateError
from pollinate.reproducibility import random_states

FLIPS = 200


def content(number: int = 0) -> dict[str, Any]:
    """What a run's checkpoint holds, in small."""
    generator = torch.Generator().manual_seed(number)
    return {
        "state_dict": {"weight": torch.randn(50, 20, generator=generator)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}}],
        "global_step": number,
        "pollinate": {"config": {"name": "x", "path": None, "lr": 0.1}},
        "rank_states": [{"random": random_states()}],
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "last.ckpt"
    write_checkpoint(content(), path)
    return path


def only(path: Path) -> bool:
    """Say whether nothing else is in the file's folder, such as a temporary file."""
    return list(path.parent.iterdir()) == [path]


def test_round_trip_with_weights_only(good: Path) -> None:
    expected = content()
    expected["rank_states"] = read_checkpoint(good)["rank_states"]
    assert same(read_checkpoint(good), expected)
    assert same(torch.load(good, weights_only=True), expected)
    assert only(good)


def test_lightning_s_interface(tmp_path: Path) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "a.ckpt"
    io.save_checkpoint(content(3), path)
    assert io.load_checkpoint(str(path))["global_step"] == 3
    io.remove_checkpoint(path)
    io.remove_checkpoint(path)
    assert not path.exists()


class CrashError(Exception):
    """Stands for a power cut."""


@pytest.mark.parametrize("place", ["_sync_file", "torch.save"])
def test_a_crash_before_the_rename_leaves_the_old_file(
    place: str, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = good.read_bytes()

    def crash(*_: Any) -> None:
        raise CrashError

    monkeypatch.setattr(f"lightning_modules.checkpoints.{place}", crash)
    with pytest.raises(CrashError):
        write_checkpoint(content(1), good)
    assert good.read_bytes() == before
    verify_checkpoint(good)


def test_content_is_on_disk_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    for name in ("_sync_file", "_sync_folder"):
        monkeypatch.setattr(checkpoints, name, lambda _, name=name: order.append(name))
    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda self, target: (order.append("rename"), replace(self, target))[1]
    )
    write_checkpoint(content(), tmp_path / "a.ckpt")
    assert order == ["_sync_file", "rename", "_sync_folder"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_write_error_is_explained(
    number: int, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoints, "_sync_file", fail)
    with pytest.raises(PollinateError) as caught:
        write_checkpoint(content(1), good)
    assert str(caught.value) == (
        f"checkpoint {good} can't be written: {os.strerror(number)}; {good} from before is intact. "
        f"Free some space, then resume with resume={good.parent.parent}"
    )
    assert same(read_checkpoint(good)["global_step"], 0)
    assert only(good)


def in_child(action: Callable[[], None]) -> str:
    """Run in a fork whose files can't grow beyond 2 KB; return the error's message."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
            action()
        except PollinateError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(process, 0)
    with os.fdopen(read) as answer:
        return answer.read()


def test_a_full_disk_leaves_the_last_good_file(good: Path) -> None:
    before = good.read_bytes()
    message = in_child(lambda: write_checkpoint(content(1), good))
    assert f"checkpoint {good} can't be written: File too large" in message
    assert f"{good} from before is intact" in message
    assert good.read_bytes() == before
    assert only(good)


def test_a_full_disk_at_the_first_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    assert "there was no checkpoint before" in in_child(lambda: write_checkpoint(content(), path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_byte_is_found_or_harmless(seed: int, good: Path) -> None:
    """Bytes between the parts hold no values; a change of any other must be found."""
    whole, expected = good.read_bytes(), read_checkpoint(good)
    drawn, found = random.Random(seed), 0
    for _ in range(FLIPS // 4):
        place = drawn.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= drawn.randrange(1, 256)
        good.write_bytes(damaged)
        try:
            verify_checkpoint(good)
        except CorruptCheckpointError as error:
            assert str(good) in str(error)
            found += 1
        else:
            assert same(read_checkpoint(good), expected), f"byte {place}"
    assert found > FLIPS / 4 / 2


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_torn_file_is_found(share: float, good: Path) -> None:
    os.truncate(good, int(good.stat().st_size * share))
    with pytest.raises(CorruptCheckpointError, match=f"{good} is torn or changed"):
        read_checkpoint(good)


def test_a_file_is_checked_again_when_it_has_changed(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []

    def counted(path: Path) -> Any:
        checked.append(path)
        return opened(path)

    opened = checkpoints._opened
    monkeypatch.setattr(checkpoints, "_opened", counted)
    assert is_intact(good) and is_intact(good)
    read_checkpoint(good)
    assert checked == [good]
    shutil.copy2(good, good.with_name("copy"))
    good.with_name("copy").replace(good)  # as it was, but nobody has looked
    assert is_intact(good) and len(checked) == 2
    tear(good)
    assert not is_intact(good)
    with pytest.raises(CorruptCheckpointError):
        read_checkpoint(good)


def test_zeros_at_the_end_are_found(good: Path) -> None:
    """What a power cut leaves on some file systems: the right size, and no content."""
    size = good.stat().st_size
    os.truncate(good, size // 2)
    os.truncate(good, size)
    with pytest.raises(CorruptCheckpointError):
        verify_checkpoint(good)


def copies(good: Path, *names: str) -> list[Path]:
    """Checkpoints, each of a later step than the one before, and of an earlier time."""
    found = [good.with_name(name) for name in names]
    for step, path in enumerate(found):
        write_checkpoint({**content(), "global_step": step}, path)
        os.utime(path, ns=(-step * 10**9, -step * 10**9))
    return found


def tear(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_the_one_of_the_latest_step_is_taken(good: Path) -> None:
    old, new = copies(good, "old.ckpt", "new.ckpt")
    assert newest_intact([new, old]) == newest_intact([old, new]) == new
    shutil.copy2(new, good)
    assert newest_intact([good, new, old]) == good  # the first of equal ones


def test_what_unpacks_without_end_is_refused(good: Path) -> None:
    with zipfile.ZipFile(good) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    with zipfile.ZipFile(good, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in parts.items():
            archive.writestr(name, value + bytes(10**6))
    with pytest.raises(CorruptCheckpointError, match="fails its checksum"):
        verify_checkpoint(good)


def test_what_could_run_code_is_refused_in_one_line(good: Path) -> None:
    torch.save({"state_dict": {}, "x": CrashError}, good)
    with pytest.raises(PollinateError, match=r"holds more than tensors .* could run code"):
        read_index(good)


def test_a_torn_newest_is_named_and_passed_over(good: Path) -> None:
    old, torn, missing = *copies(good, "old.ckpt", "torn.ckpt"), good.with_name("missing.ckpt")
    tear(torn)
    with pytest.warns(UserWarning, match=f"checkpoint {torn} is torn or changed: .*; trying"):
        assert newest_intact([missing, torn, old]) == old


def test_no_good_one_names_those_tried(good: Path) -> None:
    (torn,) = copies(good, "torn.ckpt")
    tear(torn)
    with (
        pytest.warns(UserWarning, match="torn"),
        pytest.raises(PollinateError, match=f"no good checkpoint among {torn}; start a new run"),
    ):
        newest_intact([torn])


def test_no_file_at_all_says_so(tmp_path: Path) -> None:
    with pytest.raises(PollinateError, match="among no files at all"):
        newest_intact([tmp_path / "a.ckpt"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PollinateError, match=rf"there is no checkpoint {tmp_path}/a\.ckpt"):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("stranger", [{"weight": torch.zeros(1)}, [1, 2]])
def test_a_stranger_s_file_is_refused(stranger: Any, tmp_path: Path) -> None:
    torch.save(stranger, tmp_path / "a.ckpt")
    with pytest.raises(PollinateError, match="is no checkpoint: it holds no state_dict"):
        read_checkpoint(tmp_path / "a.ckpt")
