"""The preset that trains from scratch, in minutes on a CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipeline.presets.choice import Choice
from pipeline.presets.facts import AudioFacts, DataFacts, ImageFacts, MachineFacts, TextFacts

DROPOUT = 0.8  # of tokens, whose texts are else soon known by heart
WORD_DROPOUT = 0.2  # of tokens, and of numbers, where words are labelled
STEP = 16  # tokens by which lengths are rounded up
MOST_TOKENS = 256
TOKENS_A_LETTER = {False: 0.27, True: 0.7}  # by whether the script puts no spaces between words
SIDE, LARGE_SIDE = 48, 40  # what larger pictures are reduced to; from which side on
CELLS = 16  # a side of the first grid, about
TEMPERATURE = 2.0  # rows of a data set in a step are as the square root of its size
MOST_TAGS = 200  # whose pairs are cheap
BUCKET = 16  # steps whose texts are sorted by length, which saves half of the padding
BATCH, FEW_ROWS, SMALL_BATCH = 64, 1_000, 32
SMOOTHING = 0.1  # of labels that pictures and recordings are learnt from
PICTURES = 130_000  # that are learnt from in a run of 5,000 rows, on a grid of 16 x 16
GREY_SHARE = 0.2  # of that for pictures without colours, which are learnt sooner
IMAGE_EPOCHS, AUDIO_EPOCHS, WORD_EPOCHS, TEXT_EPOCHS = (8, 60), (12, 40), (8, 60), 4
AUDIO_ROWS = 30_000  # recordings that are learnt from
WORD_ROWS = 100_000  # texts that are learnt from, where words are labelled
IMAGE_RATE, AUDIO_RATE, WORD_RATE, TEXT_RATE = 4e-3, 2e-3, 3e-3, 1e-3
FEWEST = 20  # validation rows by which training is stopped early


def fast(data: DataFacts, machine: MachineFacts, packages: frozenset[str]) -> Iterator[Choice]:
    """Yield what is chosen.

    Texts: a linear model beside a small encoder that learns slowly. Pictures: a small residual
    network. Recordings: convolutions over spectrograms. One cycle of the learning rate, as long as
    the most demanding modality needs.
    """
    if data.text is not None:
        yield from text_choices(data, data.text)
    if data.image is not None:
        yield from image_choices(data, data.image)
    if data.audio is not None:
        yield from audio_choices(data.audio)
    yield from training_choices(data, machine)


def text_choices(data: DataFacts, text: TextFacts) -> Iterator[Choice]:
    yield Choice({"data.text.wide": True}, "a linear model of words beside the encoder")
    if data.labels_words:
        yield from word_choices(data)
        return
    yield Choice(
        {"encoder/text": "bag", "encoder.text.dropout": DROPOUT},
        "a small encoder, as what is left to say is little",
    )
    yield Choice(
        {"data.text.max_length": token_length(text)},
        f"19 of 20 texts have at most {text.most:,} letters",
    )


def word_choices(data: DataFacts) -> Iterator[Choice]:
    yield Choice(
        {"encoder/text": "gru", "encoder.text.dropout": WORD_DROPOUT},
        "a task labels words, which need their neighbours",
    )
    yield from transition_choices(data)
    yield Choice(
        {"data.text.max_length": MOST_TOKENS, "sampler.bucket": BUCKET},
        "words that are cut off can't be labelled, and long texts take long",
    )


def transition_choices(data: DataFacts) -> Iterator[Choice]:
    tasks = [t for t, one in data.tasks.items() if one.words and one.classes <= MOST_TAGS]
    if tasks:
        yield Choice(
            {f"data.tasks.{task}.transitions": True for task in tasks},
            "which tag may follow which is learnt",
        )


def token_length(text: TextFacts) -> int:
    """Return the tokens that nearly all texts have at most."""
    tokens = math.ceil(text.most * TOKENS_A_LETTER[text.unspaced]) + STEP // 2
    return min(MOST_TOKENS, STEP * math.ceil(tokens / STEP))


def image_choices(data: DataFacts, image: ImageFacts) -> Iterator[Choice]:
    height, width = image_size(image)
    yield Choice(
        {
            "data.image.size": [height, width],
            "data.image.channels": 1 if image.grey else 3,
            "encoder/image": "resnet",
            "encoder.image.stride": image_stride(height, width),
        },
        f"{'grey' if image.grey else 'colour'} pictures of {image.height} x {image.width} pixels",
    )
    if data.labels_pixels:
        return  # what moves pictures moves their maps; how much is the user's to say
    moves = {"data.image.shift": round(0.1 * min(height, width), 1), "data.image.scale": 0.1}
    if image.flips:
        yield Choice({**moves, "data.image.flip": 0.5}, "flipped pictures keep their labels")
    else:
        yield Choice(moves, "augmentation; flipped pictures might change their labels")


def image_size(image: ImageFacts) -> tuple[int, int]:
    """Return the size to which pictures are brought: small ones keep theirs."""
    side = max(image.height, image.width)
    return (image.height, image.width) if side <= LARGE_SIDE else (SIDE, SIDE)


def image_stride(height: int, width: int) -> int:
    """Return the stride of the first convolution; only the grid behind it sets the cost."""
    return max(1, round(min(height, width) / CELLS))


def audio_choices(audio: AudioFacts) -> Iterator[Choice]:
    yield Choice(
        {"data.audio.time_masks": 1, "data.audio.band_masks": 1},
        "augmentation: parts of recordings are covered",
    )
    if audio.rate < 16_000:
        yield Choice({"data.audio.rate": audio.rate}, "the recordings' own")


def mixing_choices(data: DataFacts) -> Iterator[Choice]:
    if data.datasets > 1:
        yield Choice(
            {"sampler": "temperature", "sampler.temperature": TEMPERATURE},
            "small data sets are gone through more often than large ones, but not all too often",
        )


def smoothing_choices(tasks: Sequence[str], why: str) -> Iterator[Choice]:
    if tasks:
        yield Choice({f"data.tasks.{task}.label_smoothing": SMOOTHING for task in tasks}, why)


def training_choices(data: DataFacts, machine: MachineFacts) -> Iterator[Choice]:
    yield from mixing_choices(data)
    rows = data.rows["train"]
    senses = [t for t, one in data.tasks.items() if {"image", "audio"} & set(one.modalities)]
    smoothed = [t for t in senses if data.tasks[t].kind == "classification"]
    yield from smoothing_choices(smoothed, "against overconfidence")
    epochs, rate = schedule(data, machine)
    batch = SMALL_BATCH if rows < FEW_ROWS or data.audio is not None else BATCH
    yield Choice(
        {"trainer.max_epochs": epochs, "sampler.batch_size": batch, "optimizer.lr": rate},
        f"{rows:,} training rows",
    )
    if data.text is not None and not data.labels_words and senses:
        # the linear model says what it knows from the start, so that texts soon are known by heart
        slow = TEXT_RATE * TEXT_EPOCHS / (rate * epochs)
        texts = [t for t, one in data.tasks.items() if one.modalities == ("text",)]
        parts = ["encoders.text", *(f"heads.{task}" for task in texts)]
        yield Choice(
            {"optimizer.lr_scale": {part: float(f"{slow:.2g}") for part in parts}},
            "texts need fewer steps than pictures or recordings",
        )
    yield stopping(data, epochs)


def schedule(data: DataFacts, machine: MachineFacts) -> tuple[int, float]:
    """Return epochs, and the learning rate, of the modality that needs most."""
    found = []
    if data.text is not None:
        if data.labels_words:
            texts = max(1, data.rows_with["text"])
            found.append((bounded(WORD_ROWS / texts, WORD_EPOCHS), WORD_RATE))
        else:
            found.append((TEXT_EPOCHS, TEXT_RATE))
    if data.audio is not None:
        recordings = max(1, data.rows_with["audio"])
        found.append((bounded(AUDIO_ROWS / recordings, AUDIO_EPOCHS), AUDIO_RATE))
    if data.image is not None:
        height, width = image_size(data.image)
        stride = image_stride(height, width)
        cells = math.ceil(height / stride) * math.ceil(width / stride)
        pictures = max(1, data.rows_with["image"])
        budget = PICTURES * math.sqrt(max(1.0, pictures / 5_000)) * CELLS**2 / cells
        if machine.cores < 2 and not machine.gpu:
            budget *= 0.6
        if data.image.grey:
            budget *= GREY_SHARE
        found.append((bounded(budget / pictures, IMAGE_EPOCHS), IMAGE_RATE))
    return max(epochs for epochs, _ in found), max(rate for _, rate in found)


def bounded(epochs: float, limits: tuple[int, int]) -> int:
    return round(min(max(epochs, limits[0]), limits[1]))


def few_to_stop_by(data: DataFacts) -> int | None:
    """Return a task's validation rows where they are too few to stop by, None where none is."""
    fewest = min(task.valid for task in data.tasks.values())
    return fewest if fewest < FEWEST else None


def stopping(data: DataFacts, epochs: int) -> Choice:
    """Return when training stops early."""
    few = few_to_stop_by(data)
    if few is not None:
        return Choice(
            {"early_stopping.patience": None},
            f"a task has {few} validation rows, too few to stop by: all epochs are trained",
        )
    patience = max(3, math.ceil(epochs / 2))
    return Choice({"early_stopping.patience": patience}, "half of the epochs without a gain")
