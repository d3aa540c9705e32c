"""Write the tiny shop that sources are tested on: python -m tests.data.make.

24 articles with a title, a photo, a mask and distances of its pixels, a sound, a price, a category
with gaps and a split, in every format that a source reads; and a language and an audio model,
without weights.
"""

from __future__ import annotations

import csv
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from PIL import Image

from tests.models import ast, bert, llama

HERE = Path(__file__).parent
KINDS = ("cup", "hat", "pen")
SPLITS = ("train",) * 6 + ("valid", "test")
RATE = 8000


def articles() -> list[dict[str, Any]]:
    """The rows."""
    return [
        {
            "title": f"{'big' if row % 2 else 'small'} {KINDS[row % 3]} no {row}",
            "photo": f"photos/{SPLITS[row % 8]}/{KINDS[row % 3]}/{row:02}.png",
            "sound": f"sounds/{SPLITS[row % 8]}/{KINDS[row % 3]}/{row:02}.wav",
            "price": row + 0.5,
            "size": "big" if row % 2 else "small",
            "category": KINDS[row % 3] if row % 4 else None,
            "stars": 1 + row % 3,
            "marks": "|".join(mark for mark, every in (("new", 2), ("sale", 3)) if row % every == 0)
            or "none",
            "slots": f"O B-thing O {'B' if row % 3 else 'I'}-number",
            "mask": f"maps/{row:02}.png" if row % 5 else None,
            "depth": f"maps/{row:02}.npy" if row % 7 else None,
            "split": SPLITS[row % 8],
        }
        for row in range(24)
    ]


def photo(row: int, path: Path) -> None:
    """Grey for cups, a gradient for hats, stripes for pens."""
    grid = np.arange(64).reshape(8, 8)
    pixels = (grid * 0 + 100, grid * 3, (grid % 2) * 200)[row % 3] + row
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def maps(row: int, folder: Path) -> None:
    """A mask with a stripe for cups, a corner for hats, a block for pens, and a frame that is not
    labelled; distances in metres, of which one is not measured.
    """
    kind = np.zeros((8, 8), np.uint8)
    kind[
        (slice(3, 5), slice(0, 4), slice(2, 6))[row % 3], (..., slice(0, 4), slice(2, 6))[row % 3]
    ] = 1
    depth = 2.0 + kind + np.arange(8) / 10 + row / 100
    kind[0], depth[7, 7] = 255, np.nan
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(kind).save(folder / f"{row:02}.png")
    np.save(folder / f"{row:02}.npy", depth.astype(np.float32))


def sound(row: int, path: Path) -> None:
    """A tone of an eighth of a second, its pitch by the kind."""
    times = np.arange(RATE // 8) / RATE
    samples = 9000 * np.sin(2 * np.pi * (300 + 500 * (row % 3) + row) * times)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())


def table(path: Path, rows: list[dict[str, Any]], delimiter: str) -> None:
    """A CSV or TSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Write all files."""
    bert(HERE / "text_model")
    ast(HERE / "audio_model")
    llama(HERE / "decoder_model")
    rows = articles()
    for number, row in enumerate(rows):
        photo(number, HERE / row["photo"])
        sound(number, HERE / row["sound"])
        maps(number, HERE / "maps")
    table(HERE / "shop.csv", rows, ",")
    table(HERE / "shop.tsv", rows, "\t")
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (HERE / "shop.jsonl").write_text(lines, encoding="utf-8")
    (HERE / "hub").mkdir(exist_ok=True)
    for split in sorted(set(SPLITS)):
        own = pa.Table.from_pylist([row for row in rows if row["split"] == split])
        pq.write_table(own, HERE / f"{split}.parquet")
        pq.write_table(own.drop_columns(["split"]), HERE / "hub" / f"{split}.parquet")
    arrow = pa.Table.from_pylist(rows)
    with (
        pa.OSFile(str(HERE / "shop.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, arrow.schema) as writer,
    ):
        writer.write_table(arrow)
    assert Dataset.from_file(str(HERE / "shop.arrow")).num_rows == len(rows)
    tones = [np.full(5 + number, number, np.int16) for number in range(len(rows))]
    np.savez_compressed(
        HERE / "shop.npz",
        photo=np.stack([np.asarray(Image.open(HERE / row["photo"])) for row in rows]),
        kind=np.array([number % 3 for number in range(len(rows))]),
        kinds=np.array(KINDS),
        tone=np.concatenate(tones),
        length=np.array([len(tone) for tone in tones]),
        split=np.array([row["split"] for row in rows]),
    )


if __name__ == "__main__":
    main()
