"""Measure what ``data=mine.yaml preset=NAME`` and nothing else reaches, on public data sets.

    python -m benchmarks.out_of_the_box data=FOLDER folder=FOLDER [presets=[fast,good]]
        [seeds=[0,1,2]] [sets=[hotel,pacs]] [apart=true] [report=true] [page=PAGE.md]

data: the folder with the data sets; those that aren't there are left out.
folder: of task files and results. The same command goes on where it was stopped; several at once,
    with the same folder, divide the work.
presets: none chooses nothing.
apart: also each task alone, where a set has several.
report: only write the page, from what is in the folder.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from benchmarks.out_of_the_box.pieces import (
    ROOT,
    Piece,
    Place,
    all_pieces,
    run_piece,
    seconds_left,
)
from benchmarks.out_of_the_box.report import page_text
from benchmarks.out_of_the_box.sets import SETS, write_task_files
from pipeline.configuration.composition import compose
from pipeline.text_format import duration
from pollinate.errors import PollinateError, UsageError
from pollinate.files import write_text
from pollinate.interrupt import SIGNAL_EXIT_CODES, StopRequest
from pollinate.suggest import hint

STOPPING = "\nstopping: the run under way is saved; the same command goes on with it\n"


@dataclass
class Options:
    """The command line; see this module's docstring."""

    folder: str
    data: str | None = None
    presets: list[str] = field(default_factory=lambda: ["fast", "good"])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    sets: list[str] = field(default_factory=lambda: list(SETS))
    apart: bool = False
    report: bool = False
    page: str = str(ROOT / "docs" / "out_of_the_box.md")


def read_options(arguments: Sequence[str]) -> Options:
    """Return the options.

    Raises:
        UsageError: one isn't known, is of another type, or a folder is missing.
    """
    keys = [one.name for one in fields(Options)]
    given: dict[str, Any] = {}
    for argument in arguments:
        key, _, text = argument.partition("=")
        if key not in keys:
            raise UsageError(f"there is no option {key!r}{hint(key, keys, 'options')}")
        value = text if key in ("folder", "data", "page") else yaml.safe_load(text)
        if key in ("presets", "seeds", "sets") and not isinstance(value, list):
            raise UsageError(f"{key} must be a list such as {key}=[a,b], got {text}")
        given[key] = value
    if "folder" not in given:
        raise UsageError("folder=FOLDER is missing: where task files and results are kept")
    options = Options(**given)
    if not options.report and options.data is None:
        raise UsageError("data=FOLDER is missing: where the data sets are; or set report=true")
    for name in options.sets:
        if name not in SETS:
            raise UsageError(f"there is no set {name!r}{hint(str(name), SETS, 'sets')}")
    options.presets = ["none" if one is None else str(one) for one in options.presets]
    return options


def measure(options: Options, place: Place) -> int:
    """Run all pieces that haven't ended; return the exit code."""
    files = write_task_files(options.sets, Path(str(options.data)), place.data)
    absent = [name for name in options.sets if name not in files]
    if absent:
        say(f"left out, as their files are not in {options.data}: {', '.join(absent)}")
    for preset in options.presets:
        compose("fit", [f"preset={preset}"])  # a wrong name is told before the first run
    sets = {name: SETS[name] for name in files}
    pieces = all_pieces(sets, options.presets, options.seeds, options.apart)
    known = {one: found for one in pieces if (found := place.result(one)) is not None}
    seconds = {one: found["wall"] for one, found in known.items() if place.is_done(one)}
    left = [one for one in pieces if not place.is_done(one)]
    say(f"{len(pieces)} pieces, {len(left)} left")
    stop, began = StopRequest(STOPPING), time.monotonic()
    failed, elsewhere = [], []
    stop.install()
    try:
        for number, piece in enumerate(left):
            lock = place.lock(piece)
            if not lock.acquire():
                elsewhere.append(piece)
                continue
            if place.is_done(piece):  # by another process, since
                lock.release()
                continue
            remaining = seconds_left(left[number:], seconds)
            rest = "" if remaining is None else f", about {duration(remaining)} left"
            passed = duration(time.monotonic() - began)
            say(f"[{number + 1}/{len(left)}] {piece.words} ({passed} passed{rest})")
            try:
                found = run_piece(piece, place, lock, lambda: stop.signal_name is not None)
            finally:
                lock.release()
            if found is None:
                break
            seconds[piece] = found["wall"]
            failed += [piece] if found["status"] == "failed" else []
            say(f"    {outcome_line(found)}")
            if stop.signal_name:
                break
    finally:
        stop.restore()
    say_end(place, pieces, failed, elsewhere)
    return SIGNAL_EXIT_CODES[stop.signal_name] if stop.signal_name else int(bool(failed))


def say(text: str) -> None:
    print(text, flush=True)


def outcome_line(found: dict[str, Any]) -> str:
    if found["status"] == "failed":
        return f"failed: {found['reason']}"
    scores = "  ".join(
        f"{task} {one['test']:.3f}" + (f" (linear {one['linear']:.3f})" if one["linear"] else "")
        for task, one in found["scores"].items()
    )
    return f"{scores}  {duration(found['wall'])}"


def say_end(
    place: Place, pieces: Sequence[Piece], failed: Sequence[Piece], elsewhere: Sequence[Piece]
) -> None:
    left = [one for one in pieces if not place.is_done(one)]
    say(f"{len(pieces) - len(left)} of {len(pieces)} pieces are finished")
    for piece in failed:
        say(f"  failed: {piece.words}; all that it said: {place.log(piece)}")
    for piece in elsewhere:
        if piece in left:
            say(f"  another process is at work on {piece.words}")


def main(arguments: Sequence[str]) -> int:
    """Measure and write the page; return 0, 1 if a run failed, 2 for wrong usage."""
    try:
        options = read_options(arguments)
        place = Place(Path(options.folder).resolve())
        code = 0 if options.report else measure(options, place)
        write_text(Path(options.page), page_text(place.results()))
    except PollinateError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    say(f"written: {options.page}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
