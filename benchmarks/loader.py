"""Rows a second of our loader against a plain DataLoader, and the memory of a large CSV.

    python -m benchmarks.loader [rows=4000] [rounds=5] [workers=0]
    python -m benchmarks.loader csv=2000000 [streaming=true]

The first form makes pictures and texts and compares, round by round, in turns:
  plain   torch's DataLoader over a Dataset that decodes, resizes, tokenises and collates by hand,
  ours    the data module's mixed batches of the same files, prepared on disk by an earlier pass,
  streamed   ours with ``streaming: true``, which decodes and tokenises batch by batch, too,
  first   the earlier pass: reading and preparing all rows, then the same batches.
The second makes a CSV of that many rows, trains three steps on it, and prints the peak memory.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from datamodules.batch import MixedBatch
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.text import TextModality
from datamodules.modalities.tokenization import pad_tokens
from pipeline.build import build_datamodule
from pipeline.command import silence_libraries
from pipeline.configuration.composition import compose
from pipeline.fit import main as fit

SIZE, BATCH = 64, 64
WORDS = 400


def make_shop(folder: Path, rows: int) -> None:
    """Write pictures of 96 x 96, texts of 5 to 40 words, and the CSV that names them."""
    generator = np.random.default_rng(0)
    lines = ["text,photo,label,part"]
    for row in range(rows):
        pixels = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96)).save(folder / f"{row}.jpg")
        words = generator.integers(0, WORDS, generator.integers(5, 40))
        part = "train" if row % 10 else "valid" if row % 20 else "test"
        lines.append(f"{' '.join(f'w{word}' for word in words)},{row}.jpg,{'ab'[row % 2]},{part}")
    (folder / "shop.csv").write_text("\n".join(lines) + "\n")


def data_file(folder: Path, **options: Any) -> Path:
    """Write the data file; return its path."""
    dataset = {
        "source": "csv",
        "path": "shop.csv",
        "inputs": {"text": "text", "image": "photo"},
        "split": {"column": "part"},
        **options,
    }
    task = {"dataset": "shop", "type": "classification", "target": "label"}
    image = {"size": [SIZE, SIZE], "shift": 0.0, "rotate": 0.0, "scale": 0.0}
    spec = {"datasets": {"shop": dataset}, "tasks": {"label": task}, "image": image}
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


class Plain(Dataset[tuple[np.ndarray, torch.Tensor, int]]):
    """Reads a row when it is asked for."""

    def __init__(self, data: MixedDataModule, folder: Path) -> None:
        loaded, text = data.loaded["shop"], data.modalities["text"]
        assert isinstance(text, TextModality)
        self.folder, self.tokenizer = folder, text.tokenizer
        rows = loaded.rows["train"]
        self.texts, self.photos, self.labels = (
            [loaded.table.columns[name][int(row)] for row in rows]
            for name in ("text", "photo", "label")
        )

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, row: int) -> tuple[np.ndarray, torch.Tensor, int]:
        (ids,) = self.tokenizer.encode([self.texts[row]], 160)
        with Image.open(self.folder / self.photos[row], formats=["PNG", "JPEG"]) as opened:
            small = opened.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(small)).movedim(-1, 0)
        return ids, pixels, int(self.labels[row] == "b")


def collate(
    rows: Sequence[tuple[np.ndarray, torch.Tensor, int]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids, pixels, labels = zip(*rows, strict=True)
    return pad_tokens(ids), torch.stack(pixels).float() / 255, torch.tensor(labels)


def seconds_a_row(batches: Iterable[Any], rows: Callable[[Any], int]) -> float:
    """Go through all batches; return the time for a row."""
    started = time.perf_counter()
    count = sum(rows(batch) for batch in batches)
    return (time.perf_counter() - started) / count


def mixed_rows(batch: MixedBatch) -> int:
    return sum(len(own.index) for own in batch.batches.values())


def plain_rows(batch: tuple[torch.Tensor, ...]) -> int:
    return len(batch[-1])


def data_module(folder: Path, workers: int, streaming: bool) -> MixedDataModule:
    options = [f"data={data_file(folder, streaming=streaming)}", f"data.cache={folder / 'cache'}"]
    options += [f"sampler.batch_size={BATCH}", f"loader.workers={workers}"]
    data = build_datamodule(compose("fit", options))
    data.setup()
    return data


def compare(rows: int, rounds: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_shop(folder, rows)
        started = time.perf_counter()
        data = data_module(folder, workers, streaming=False)
        rows_read = sum(map(mixed_rows, data.train_dataloader()))
        first = (time.perf_counter() - started) / rows_read
        streamed = data_module(folder, workers, streaming=True)
        plain = Plain(data, folder)
        bare = DataLoader(plain, BATCH, shuffle=True, num_workers=workers, collate_fn=collate)
        ratios: dict[str, list[float]] = {"ours": [], "streamed": [], "first": []}
        for _ in range(rounds):
            theirs = seconds_a_row(bare, plain_rows)
            for name, module in (("ours", data), ("streamed", streamed)):
                own = seconds_a_row(module.train_dataloader(), mixed_rows)
                ratios[name].append(theirs / own)
            ratios["first"].append(theirs / first)
        print(f"plain {1 / theirs:,.0f} rows/s (last round)")
        for name, found in ratios.items():
            spread = f"{min(found):.2f}-{max(found):.2f}"
            print(f"{name} / plain: {statistics.median(found):.2f} ({spread})")


def measure_csv(rows: int, streaming: bool) -> None:
    """Print time and peak memory of three steps on a CSV of so many rows."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with (folder / "shop.csv").open("w") as file:
            file.write("text,label\n")
            for row in range(rows):
                words = " ".join(
                    f"word{(row * 7919 + place * 104729) % 5000}" for place in range(11)
                )
                file.write(f"{words},{'abcde'[row % 5]}\n")
        size = (folder / "shop.csv").stat().st_size / 1e6
        split = {"train": 0.98, "valid": 0.01, "test": 0.01}
        path = data_file(folder, inputs={"text": "text"}, split=split, streaming=streaming)
        started = time.perf_counter()
        fit(
            [
                *(f"data={path}", f"data.cache={folder / 'cache'}", f"run_dir={folder / 'run'}"),
                *("tracking=none", "trainer.max_steps=3"),
            ]
        )
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9
        took = time.perf_counter() - started
        print(f"{rows:,} rows, {size:.0f} MB: {took:.0f} s, peak memory {peak:.2f} GB")


def main(argv: Sequence[str]) -> None:
    given: Mapping[str, str] = dict(argument.split("=", 1) for argument in argv)
    silence_libraries()
    if "csv" in given:
        measure_csv(int(given["csv"]), given.get("streaming") == "true")
    else:
        numbers = {"rows": 4000, "rounds": 5, "workers": 0}
        compare(**{name: int(given.get(name, default)) for name, default in numbers.items()})


if __name__ == "__main__":
    main(sys.argv[1:])
