"""Rows of valid and test that stand in training rows, too, are noted, and refused if asked for."""

from __future__ import annotations

from pathlib import Path

from pipeline.configuration.composition import compose
from pipeline.inspection.inspection_run import inspect_data
from tests.shops import data, loaded, refusal, reviews, write


def test_leaks_are_noted_and_refused_when_strict(tmp_path: Path) -> None:
    rows = [(f"t{n}", "ab"[n % 2], "train") for n in range(8)]
    rows += [("v", "a", "valid"), ("t3", "b", "test"), ("x", "a", "test"), ("t0", "b", "train")]
    write(
        tmp_path, {"shop.csv": "text,label,part\n" + "".join(",".join(row) + "\n" for row in rows)}
    )
    spec = data(split={"column": "part"})
    notes = loaded(tmp_path, spec).notes
    assert any("1 rows of test stand in an earlier split, too (train)" in note for note in notes)
    assert any("2 rows with 1 inputs have several labels of kind" in note for note in notes)
    found = refusal(tmp_path, spec, "data.strict=true")
    assert "line 11" in found
    assert "line 5" in found
    assert "data.strict=false" in found


def test_rows_that_another_data_set_trains_on_are_noted(tmp_path: Path) -> None:
    table = "text,label,part\n" + "".join(f"{{0}}{n},{'ab'[n % 2]},train\n" for n in range(8))
    write(tmp_path, {"shop.csv": table.replace("{0}", "s") + "s8,a,valid\nm3,b,test\ns9,a,test\n"})
    write(tmp_path, {"mall.csv": table.replace("{0}", "m") + "m8,a,valid\nm9,b,test\n"})
    spec = data(split={"column": "part"})
    spec["datasets"]["mall"] = {**spec["datasets"]["shop"], "path": "mall.csv"}
    spec["tasks"]["kind"]["dataset"] = ["shop", "mall"]
    (note,) = loaded(tmp_path, spec).notes
    assert note == "shop: 1 rows of test are training rows of mall, so its scores flatter"
    found = refusal(tmp_path, spec, "data.strict=true")
    assert "shop.csv, line 11 = " in found
    assert "mall.csv, line 5)" in found
    inspected = inspect_data(compose("inspect", [f"data={tmp_path / 'shop.yaml'}"]))
    assert any("are training rows of mall" in problem.what for problem in inspected.problems)


def test_a_strict_file_needs_copies_to_be_looked_for(tmp_path: Path) -> None:
    write(tmp_path, {"shop.csv": reviews()})
    found = refusal(tmp_path, data(streaming=True, strict=True))
    assert "data.strict can't be kept for data set shop" in found
    assert "streaming leaves them out" in found
