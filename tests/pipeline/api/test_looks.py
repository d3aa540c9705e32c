from __future__ import annotations

from pathlib import Path

import pollinate as po
from tests.small_shop import SMALL, shop


def test_an_inspection_has_rows_and_problems(tmp_path: Path) -> None:
    spec = shop(tmp_path)
    with (tmp_path / "reviews.csv").open("a") as file:
        file.write("fine tea,glad,many\n")
    found = po.inspect(spec, ["tracking=none", "run_dir=looks"], quiet=True)
    assert found.page == tmp_path / "looks/inspect.html"
    assert found.rows.columns.tolist() == ["train", "valid", "test"]
    worst = found.problems.iloc[0]
    assert (worst.severity, worst["count"]) == ("error", 1)
    assert "many" in f"{worst.what} {worst.places}"


def test_sources_are_ranked_in_a_table(run: po.Run, tmp_path: Path) -> None:
    options = ["scores=[size_rows,log_me]", "steps=0", "run_dir=ranks"]
    found = po.rank_sources(shop(tmp_path), [run], [*SMALL, *options], quiet=True)
    assert set(found.task) == {"mood", "stars"}
    assert set(found.score) == {"size_rows", "log_me"}
    assert set(found.columns) >= {"source", "rank", "value", "reason"}


def test_a_plan_says_what_fits(tmp_path: Path) -> None:
    found = po.plan(shop(tmp_path), [*SMALL, "memory=1GB"], quiet=True)
    assert found.largest_batch is not None
    assert found.largest_batch > 32
    assert po.plan(shop(tmp_path), SMALL, quiet=True).largest_batch is None
