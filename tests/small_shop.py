"""A shop's reviews with two tasks, for runs of some seconds in Python."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd

SMALL = [
    "trainer.max_epochs=3",
    "dim=16",
    "encoder.text.width=16",
    "encoder.text.pairs=64",
    "gradients.every_n_steps=0",
    "sampler.batch_size=32",
    "optimizer.lr=0.03",
    "tracking=none",
    "baseline=none",
    "preset=none",
]
GOOD, BAD = ("good", "fresh", "warm", "fine"), ("bad", "stale", "cold", "poor")
THINGS = ("bread", "cake", "coffee", "tea", "soup", "pie")


def reviews(count: int = 240, seed: int = 0) -> pd.DataFrame:
    """Reviews with a mood and a number of stars that follow from their words."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        good = draw.random() < 0.5
        words = draw.choices(GOOD if good else BAD, k=draw.randint(1, 3))
        text = " ".join(f"{word} {draw.choice(THINGS)}" for word in words)
        stars = 3 + (len(words) if good else -len(words)) * 0.6
        rows.append({"review": text, "mood": "glad" if good else "angry", "stars": stars})
    return pd.DataFrame(rows)


def shop(folder: Path, **more: Any) -> dict[str, Any]:
    """What a data file of the reviews holds; writes them into the folder."""
    reviews().to_csv(folder / "reviews.csv", index=False)
    dataset = {
        "source": "csv",
        "path": str(folder / "reviews.csv"),
        "split": {"train": 0.6, "valid": 0.2, "test": 0.2},
        "inputs": {"text": "review"},
    }
    return {
        "datasets": {"reviews": dataset},
        "tasks": {
            "mood": {"dataset": "reviews", "type": "classification", "target": "mood"},
            "stars": {"dataset": "reviews", "type": "regression", "target": "stars"},
        },
        "text": {"vocab_size": 300, "max_length": 16},
        **more,
    }
