"""Rows of sources of data."""

from __future__ import annotations

from typing import Any

from tests.rows.row import DATA, Row

SHOP = {
    *("title", "photo", "sound", "price", "size", "category"),
    *("stars", "marks", "slots", "mask", "depth", "split"),
}


def shop(option: str, file: str, columns: set[str], **options: Any) -> Row:
    """A source that reads the shop of tests/data."""
    options = {"path": str(DATA / file), **options} if option != "hub" else options
    train = [f"data={DATA / option}.yaml"]
    train += [f"data.datasets.shop.source.repo={DATA / 'hub'}"] if option == "hub" else []
    return Row("source", option, None, (24, columns), options, train)


# given: nothing; expected: number of rows, and columns
SOURCES = (
    Row(
        "source",
        "quickstart",
        None,
        (60, {"review", "score", "part"}),
        {"name": "reviews", "rows": 60},
        ("data.datasets.mnist.source=quickstart",),
    ),
    shop("csv", "shop.csv", SHOP),
    shop("tsv", "shop.tsv", SHOP),
    shop("json", "shop.jsonl", SHOP),
    shop("parquet", "*.parquet", SHOP),
    shop("arrow", "shop.arrow", SHOP),
    shop("hub", "", SHOP, repo=str(DATA / "hub")),
    shop("image_folder", "photos", {"image", "label", "split"}),
    shop("audio_folder", "sounds", {"audio", "label", "split"}),
    shop(
        "npz",
        "shop.npz",
        {"photo", "kind", "length", "split", "tone"},
        lengths={"tone": "length"},
        names={"kind": "kinds"},
    ),
)
