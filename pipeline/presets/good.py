"""The preset that starts from pre-trained encoders."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.presets.choice import Choice
from pipeline.presets.facts import (
    EFFICIENTNET,
    MINILM,
    DataFacts,
    ImageFacts,
    MachineFacts,
    TextFacts,
)
from pipeline.presets.fast import (
    BUCKET,
    FEW_ROWS,
    LARGE_SIDE,
    STEP,
    audio_choices,
    bounded,
    fast,
    few_to_stop_by,
    image_choices,
    mixing_choices,
    schedule,
    smoothing_choices,
    stopping,
    text_choices,
    transition_choices,
)
from pollinate.errors import UsageError

LETTERS = 3.3  # of a token, from which on a text is in a language that MiniLM knows
BUDGET = 1_600  # seconds of a core that training 5,000 rows may take; two cores do it in 16 minutes
BUDGET_ROWS = 5_000
RATE, RISE = 1e-3, 0.1  # of what stands on the encoders; share of the steps in which it goes up
BATCH, SMALL_BATCH, VERY_FEW_ROWS = 32, 16, 500
MOST_TOKENS = 128
MANY_CLASSES = 50  # classes from which on a text's encoder must change more
TOKENS_A_SECOND = {False: 850, True: 1_600}  # that MiniLM learns from on a core, by bf16
EVALUATED_TOKENS = 5_500
PICTURES_A_SECOND = {96: 79, 128: 50, 160: 32}  # that EfficientNet-lite0 learns from on a core
EPOCHS, FEWEST_EPOCHS = (3, 10), 2
TEXT_WORK = 12_000  # texts that are learnt from besides two epochs
PICTURE_WORK = 25_000
ALL_BLOCKS, LAST_BLOCKS, LAST_STAGES = 6, 3, 5
SMOOTHED = 20  # classes


def good(data: DataFacts, machine: MachineFacts, packages: frozenset[str]) -> Iterator[Choice]:
    """Yield what is chosen.

    English texts start from MiniLM, with the linear model of words beside it; pictures from
    EfficientNet-lite0. All their blocks are trained at a tenth to a third of the rate of what
    stands on them. Recordings, and other languages, are learnt from scratch.

    Raises:
        UsageError: no pre-trained encoder is installed that the data could start from.
    """
    require_any(data, packages)
    text = data.text if data.text is not None and knows_texts(data.text, packages) else None
    image = data.image if data.image is not None and knows_pictures(data.image, packages) else None
    if text is None and image is None:
        yield Choice({}, f"nothing pre-trained fits: {' and '.join(unknown(data, packages))}")
        yield from fast(data, machine, packages)
        return
    runs: list[Training] = []
    if text is not None:
        runs.append(text_training(data, text, machine))
        yield from pretrained_text_choices(data, text, runs[-1])
        yield from transition_choices(data)
    elif data.text is not None:
        yield from text_choices(data, data.text)
    if image is not None:
        runs.append(image_training(data, image, machine))
        yield from pretrained_image_choices(data, image, runs[-1])
    elif data.image is not None:
        yield from image_choices(data, data.image)
    if data.audio is not None:
        yield from audio_choices(data.audio)
    for reason in unknown(data, packages):
        yield Choice({}, f"from scratch: {reason}")
    yield from training_choices(data, machine, runs)


def knows_texts(text: TextFacts, packages: frozenset[str]) -> bool:
    """Say whether MiniLM is there, and has whole words of its own, English ones, for the texts."""
    return MINILM in packages and text.letters_a_token >= LETTERS


def knows_pictures(image: ImageFacts, packages: frozenset[str]) -> bool:
    """Say whether EfficientNet is there, and has seen the like: small grey pictures it hasn't."""
    small = max(image.height, image.width) <= LARGE_SIDE
    return EFFICIENTNET in packages and not (image.grey and small)


def unknown(data: DataFacts, packages: frozenset[str]) -> Iterator[str]:
    """Yield what is learnt from scratch, and why."""
    install = 'pip install "pollinate[pretrained,encoders]"'
    if data.text is not None and not knows_texts(data.text, packages):
        there = MINILM in packages
        yield (
            "texts that are not in English"
            if there
            else f"no encoder of texts is there ({install})"
        )
    if data.image is not None and not knows_pictures(data.image, packages):
        there = EFFICIENTNET in packages
        yield "small grey pictures" if there else f"no encoder of pictures is there ({install})"
    if data.audio is not None:
        yield "recordings"


def require_any(data: DataFacts, packages: frozenset[str]) -> None:
    needed = {"text": data.text, "image": data.image}
    if any(one is not None for one in needed.values()) and not packages:
        raise UsageError(
            "preset=good starts from pre-trained encoders, and none is installed; run pip install "
            '"pollinate[pretrained,encoders]", or start from scratch: preset=fast'
        )


@dataclass(frozen=True)
class Training:
    """How a pre-trained encoder is trained.

    part: of the model; epochs: as many as its rows need, within the budget.
    blocks: that train; factor: on the learning rate; size: of the input.
    """

    part: str
    epochs: int
    blocks: int
    factor: float
    size: int


def seconds(data: DataFacts, machine: MachineFacts) -> float:
    """Return the seconds of a core that a run may take; a GPU is as thirty cores."""
    cores = 30 * machine.cores if machine.gpu else machine.cores
    return BUDGET * max(1.0, data.rows["train"] / BUDGET_ROWS) * cores / 2


def text_training(data: DataFacts, text: TextFacts, machine: MachineFacts) -> Training:
    rows = max(1, data.rows_with["text"])
    hard = data.labels_words or any(task.classes >= MANY_CLASSES for task in data.tasks.values())
    epochs = bounded(2 + TEXT_WORK / rows, EPOCHS) + 2 * hard
    usual = STEP * math.ceil((text.most / LETTERS + STEP / 2) / STEP)
    tokens = MOST_TOKENS if data.labels_words else min(MOST_TOKENS, usual)
    mean = min(tokens, text.characters / LETTERS + 2)
    cost = rows * mean * (1 + mean / 900) / TOKENS_A_SECOND[machine.bf16]
    cost += data.rows["valid"] * mean / EVALUATED_TOKENS
    blocks, affordable = ALL_BLOCKS, int(seconds(data, machine) / cost)
    if affordable < FEWEST_EPOCHS:
        blocks, affordable = LAST_BLOCKS, int(seconds(data, machine) * 1.5 / cost)
    epochs = max(1, min(epochs, affordable))
    return Training("encoders.text", epochs, blocks, 0.2 if hard else 0.1, tokens)


def image_training(data: DataFacts, image: ImageFacts, machine: MachineFacts) -> Training:
    rows = max(1, data.rows_with["image"])
    epochs = bounded(PICTURE_WORK / rows, EPOCHS)
    sizes = [96] if max(image.height, image.width) <= LARGE_SIDE else [160, 128, 96]
    for size in sizes:
        affordable = int(seconds(data, machine) / (rows / PICTURES_A_SECOND[size]))
        if affordable >= epochs:
            break
    return Training("encoders.image", max(1, min(epochs, affordable)), LAST_STAGES, 0.3, size)


def pretrained_text_choices(
    data: DataFacts, text: TextFacts, training: Training
) -> Iterator[Choice]:
    yield Choice(
        {
            "encoder/text": "minilm",
            "encoder.text.tune": last_blocks(training.blocks),
            "data.text.wide": True,
        },
        "English texts; a linear model of words beside the encoder",
    )
    why = f"19 of 20 texts have at most {text.most:,} letters, and long ones take long"
    if data.labels_words:
        why = "words that are cut off can't be labelled, and long texts take long"
    yield Choice({"data.text.max_length": training.size, "sampler.bucket": BUCKET}, why)


def pretrained_image_choices(
    data: DataFacts, image: ImageFacts, training: Training
) -> Iterator[Choice]:
    yield Choice(
        {
            "encoder/image": "efficientnet_lite0",
            "encoder.image.tune": last_blocks(training.blocks),
            "data.image.size": [training.size, training.size],
        },
        f"pictures of {image.height} x {image.width} pixels",
    )
    if image.flips and not data.labels_pixels:
        yield Choice({"data.image.flip": 0.5}, "flipped pictures keep their labels")


def last_blocks(blocks: int) -> Mapping[str, Any]:
    return {"name": "last_blocks", "blocks": blocks}


def training_choices(
    data: DataFacts, machine: MachineFacts, runs: list[Training]
) -> Iterator[Choice]:
    yield from mixing_choices(data)
    rows = data.rows["train"]
    smoothed = [t for t, one in data.tasks.items() if one.classes >= SMOOTHED and not one.words]
    yield from smoothing_choices(smoothed, f"{SMOOTHED} classes or more")
    scratch = {"audio": 2.0} if data.audio is not None else {}
    if data.image is not None and all(one.part != "encoders.image" for one in runs):
        scratch["image"] = 4.0
    scales = {one.part: one.factor for one in runs}
    scales |= {f"encoders.{name}": factor for name, factor in scratch.items()}
    yield Choice(
        {
            "dim": 384,
            "optimizer.lr": RATE,
            "optimizer.lr_scale": scales,
            "optimizer.fused": True,
            "schedule.rise": RISE,
        },
        "pre-trained weights move less than new ones",
    )
    epochs = max(one.epochs for one in runs)
    if scratch:
        epochs = max(epochs, schedule(data, machine)[0] // 2)
    batch = SMALL_BATCH if rows < VERY_FEW_ROWS else BATCH * (1 if rows < 20 * FEW_ROWS else 2)
    yield Choice(
        {"trainer.max_epochs": epochs, "sampler.batch_size": batch},
        f"{rows:,} training rows on {machine.cores} cores",
    )
    if machine.bf16 and data.image is None and not machine.gpu:
        yield Choice({"trainer.precision": "bf16-mixed"}, "the CPU computes fast in 16 bits")
    if few_to_stop_by(data) is not None:  # else the few epochs end by themselves
        yield stopping(data, epochs)
