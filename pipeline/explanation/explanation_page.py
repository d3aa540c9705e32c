"""Explanations for people: one HTML file that needs nothing else, and a summary in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor

from lightning_modules.explanation.checks import Check, mean
from lightning_modules.explanation.explainer import Explanation
from lightning_modules.explanation.features import Taken
from lightning_modules.explanation.parts import spread
from pipeline.explanation.findings import (
    ExplainedAnswer,
    Findings,
    OtherExplanation,
    TaskFindings,
    summed,
)
from pipeline.pages import render
from pipeline.pages.pictures import picture, pixels_of_frames, pixels_of_values
from pipeline.terminal import new_table, say

SIDE = 224  # pixels of a picture
CELLS = 56  # a side of the heat map that lies on it
FOR, AGAINST = np.array([0.0, 114.0, 178.0]), np.array([213.0, 94.0, 0.0])  # as in the style
STRONGEST = 5  # words that are listed
SHOWN = 4  # rows that can't be read


def explanation_page(found: Findings) -> str:
    return render(
        "explanation.html",
        name=found.input.rpartition("/")[2],
        checkpoint=found.checkpoint,
        other=found.other,
        verdict=verdict(found),
        doubts=found.doubts(),
        notes=found.notes,
        errors=[(str(row), why) for row, why in sorted(found.errors.items())],
        checks=[check_cells(check) for own in found.tasks.values() for check in own.checks],
        alike=[
            (name, modality, str(len(values)), f"{mean(values):.2f}", f"{min(values):.2f}")
            for name, own in found.tasks.items()
            for modality, values in own.alike.items()
        ],
        tasks=[task_part(name, own, found) for name, own in found.tasks.items()],
    )


def verdict(found: Findings) -> str:
    checked = any(own.checks for own in found.tasks.values())
    answers = sum(len(own.answers) for own in found.tasks.values())
    begin = f"{answers:,} answers to {found.rows:,} rows explained"
    if found.doubts():
        return f"{begin}; not all explanations can be trusted"
    return f"{begin}; all checks passed" if checked else f"{begin}, none of them checked"


def check_cells(check: Check) -> tuple[str, ...]:
    """Return what a check found as a row of a table."""
    shuffled = f"{mean(check.shuffled):.2f}" if check.shuffled else "-"
    gains = [f"{mean(own):+.3g}" if own else "-" for own in (check.deletion, check.insertion)]
    passed = [check.depends_on_weights, check.beats_random]
    said = "failed" if False in passed else "passed" if True in passed else "too few pieces"
    rows = max(len(check.shuffled), len(check.deletion))
    return check.task, check.modality, said, str(rows), shuffled, *gains


def task_part(name: str, found: TaskFindings, whole: Findings) -> dict[str, Any]:
    return {
        "name": name,
        "meaning": found.meaning,
        "takes": list(taken_rows(found.sources)),
        "answers": [answer_part(one, found, whole) for one in found.answers],
    }


def taken_rows(taken: Taken) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Yield (kind of weight, [(source, weight, width of its bar)])."""
    for kind, sources in taken.items():
        widest = max(map(abs, sources.values()), default=0.0) or 1.0
        yield (
            kind.replace("_", " "),
            [
                (source, f"{value:.2f}", f"{100 * abs(value) / widest:.0f}")
                for source, value in sources.items()
            ],
        )


def answer_part(found: ExplainedAnswer, task: TaskFindings, whole: Findings) -> dict[str, Any]:
    own = found.explanation
    cells = task.task.cells(own.label)
    probability = cells.get("_probability")
    says = cells.get("")
    return {
        "row": own.row + 1,
        "answer": own.name,
        "says": "" if says is None or str(says) == own.name else f"{says}",
        "probability": "" if probability is None else f"{probability:.0%}",
        "score": f"{own.score:.3g}",
        "nothing": f"{own.nothing:.3g}",
        "missing": f"{own.gap:.0%}" if own.gap > 0.01 else "",
        "parts": list(shown_parts(own)),
        "modalities": modality_bars(own.modalities),
        "examples": [
            {
                "parts": one.parts,
                "label": one.label,
                "place": one.place.rpartition("/")[2],
                "similarity": f"{one.similarity:.2f}",
            }
            for one in found.examples
        ],
        "other": None if found.other is None else other_part(own, found.other, task),
    }


def modality_bars(values: dict[str, float]) -> list[dict[str, str]]:
    widest = max(map(abs, values.values()), default=0.0) or 1.0
    return [
        {
            "name": name,
            "value": f"{value:+.3g}",
            "width": f"{100 * abs(value) / widest:.0f}",
            "kind": "for" if value >= 0 else "against",
        }
        for name, value in values.items()
    ]


def shown_parts(found: Explanation) -> Iterator[dict[str, Any]]:
    """Yield what a page shows of a row's modalities: words, or pictures with what counts."""
    for modality, pieces in found.pieces.items():
        if pieces.dim() == 1:
            yield {"words": list(word_parts(found, pieces)), "strongest": strongest(found, pieces)}
        elif modality in found.values:
            plain = base_pixels(found.values[modality], modality)
            turned = pieces if modality == "image" else pieces.T.flip(0)
            yield {
                "modality": modality,
                "picture": picture(plain, SIDE),
                "map": picture(heat(plain, turned), SIDE),
            }


def word_parts(found: Explanation, pieces: Tensor) -> Iterator[dict[str, str]]:
    """Yield the text in parts, each with its strength in percent; between pieces there is none."""
    assert found.text is not None
    text, end = found.text.text, 0
    most = float(pieces.abs().max()) if pieces.numel() else 0.0
    for (start, stop), value in zip(found.text.spans.tolist(), pieces.tolist(), strict=True):
        if start > end:
            yield {"text": text[end:start], "kind": "", "strength": "", "value": ""}
        share = round(100 * abs(value) / most) if most else 0
        kind = ("for" if value > 0 else "against") if share >= SLIGHT else ""
        yield {
            "text": text[start:stop],
            "kind": kind,
            "strength": str(share),
            "value": f"{value:+.3g}",
        }
        end = stop
    if end < len(text):
        yield {"text": text[end:], "kind": "", "strength": "", "value": ""}


SLIGHT = 4  # percent of the strongest word's colour that nobody sees


def strongest(found: Explanation, pieces: Tensor) -> list[tuple[str, str]]:
    """Return the words that count most: (word, what it adds)."""
    assert found.text is not None
    order = pieces.abs().argsort(descending=True, stable=True)[:STRONGEST].tolist()
    return [(found.text.names[n], f"{pieces[n]:+.3g}") for n in order if pieces[n]]


def base_pixels(values: Tensor, modality: str) -> np.ndarray:
    return pixels_of_values(values) if modality == "image" else pixels_of_frames(values)


def heat(pixels: np.ndarray, pieces: Tensor) -> np.ndarray:
    """Return a pale grey picture with what speaks for the answer in blue, what against in orange.

    Single pixels' numbers are noisy, so that those of a cell are added up.

    Args:
        pixels: (H, W) or (H, W, 3), 0 ... 255.
        pieces: (h, w), no finer than the picture.
    """
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    cells = summed(pieces, CELLS)
    wide = spread(cells, grey.shape) if cells.shape != grey.shape else cells
    strength = wide.abs().numpy()
    top = np.quantile(strength, 0.99) or strength.max() or 1.0
    share = (strength / top).clip(0, 1)[..., None]
    paint = np.where(wide.numpy()[..., None] > 0, FOR, AGAINST)
    base = np.repeat((170 + grey * (85 / 255))[..., None], 3, axis=2)
    return np.asarray((1 - share) * base + share * paint)


def other_part(own: Explanation, other: OtherExplanation, task: TaskFindings) -> dict[str, Any]:
    theirs = other.explanation
    return {
        "says": str(task.task.cells(theirs.label).get("")),
        "score": f"{theirs.score:.3g}",
        "correlations": [
            (modality, "-" if value is None else f"{value:.2f}")
            for modality, value in other.correlations.items()
        ],
        "parts": list(shown_parts(theirs)),
        "parted": [
            (word, f"{here:+.0%}", f"{there:+.0%}") for word, here, there in other.parting(own)
        ],
    }


def print_findings(console: Console, found: Findings) -> None:
    """Print what checks found, and what there is to doubt."""
    table = new_table(
        "task", "input", "checks", "rows", "shuffled", "deletion", "insertion", numbers=4
    )
    for own in found.tasks.values():
        for check in own.checks:
            table.add_row(*check_cells(check))
    if table.row_count:
        console.print(table)
    for note in found.notes:
        say(console, f"note: {note}")
    for row, why in sorted(found.errors.items())[:SHOWN]:
        say(console, f"row {row}: {why}")
    for doubt in found.doubts():
        say(console, f"doubt: {doubt}")
    say(console, verdict(found))
