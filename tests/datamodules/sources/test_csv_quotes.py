"""Quotes in CSV and TSV: part of the text where the user says so, doubted where they take rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from datamodules.cache import Cache
from datamodules.sources.csv import Csv
from pipeline.configuration.composition import compose
from pipeline.inspection.inspection_run import inspect_data
from pollinate.errors import UsageError
from tests.shops import data, loaded, write

QUOTED = {5: '"quote at the start', 9: 'and at the end"', 12: 'in "the" middle'}


def tsv(between: str = "\t") -> str:
    lines = [f"{QUOTED.get(n, f'text {n}')}{between}{'ab'[n % 2]}" for n in range(40)]
    return "\n".join([f"text{between}label", *lines]) + "\n"


@pytest.mark.parametrize("streaming", [False, True])
def test_without_quotes_every_line_is_a_row(streaming: bool, tmp_path: Path) -> None:
    write(tmp_path, {"a.tsv": tsv()})
    source = Csv(str(tmp_path / "a.tsv"), delimiter="\t", quote="none")
    cache = Cache(tmp_path / "cache")
    table = source.stream(cache, ["text"]) if streaming else source.load(cache)
    assert len(table) == 40 and table.doubtful == 0
    assert {n: table.columns["text"][n] for n in QUOTED} == QUOTED


@pytest.mark.parametrize("streaming", [False, True])
def test_swallowed_rows_are_doubted(streaming: bool, tmp_path: Path) -> None:
    write(tmp_path, {"a.tsv": tsv()})
    source = Csv(str(tmp_path / "a.tsv"), delimiter="\t")
    cache = Cache(tmp_path / "cache")
    table = source.stream(cache, ["text"]) if streaming else source.load(cache)
    assert len(table) == 36 and table.doubtful == 1
    assert table.place(5).endswith("a.tsv, line 7")
    assert "takes 5 lines; if its quotes are part of the text" in table.doubts[5]


@pytest.mark.parametrize(("lines", "doubtful"), [(10, 0), (11, 1)])
def test_a_text_of_some_lines_is_none_of_that(lines: int, doubtful: int, tmp_path: Path) -> None:
    text = "\n".join(["a line, no more"] * lines)
    write(tmp_path, {"a.csv": f'text,label\n"{text}",a\nb,b\n'})
    table = Csv(str(tmp_path / "a.csv")).load(Cache(tmp_path / "cache"))
    assert (len(table), table.doubtful) == (2, doubtful)


def test_fit_and_inspect_say_it(tmp_path: Path) -> None:
    write(tmp_path, {"shop.tsv": tsv(), "shop.yaml": yaml.safe_dump(data("tsv"))})
    module = loaded(tmp_path, data("tsv"))
    assert any("1 row is doubtful, the first in" in note for note in module.notes)
    arguments = [f"data={tmp_path / 'shop.yaml'}", f"data.cache={tmp_path / 'cache'}"]
    found = inspect_data(compose("inspect", [*arguments, "tracking=none"]))
    (problem,) = [p for p in found.problems if p.what == "rows may not be what they seem to be"]
    assert problem.severity == "warning" and "line 7" in problem.places[0]
    plain = loaded(tmp_path, data("tsv", quote="none"))
    assert plain.sizes == {"shop": 20} and not any("doubtful" in note for note in plain.notes)


@pytest.mark.parametrize("quote", ["", "''", ","])
def test_a_quote_is_one_character_or_none(quote: str) -> None:
    with pytest.raises(UsageError, match="quote must be one character, another than delimiter"):
        Csv("a.csv", quote=quote)
