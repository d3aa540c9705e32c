"""Rows of encoders."""

from __future__ import annotations

from tests.rows.row import DATA, DIM, Row
from tests.rows.tasks import WRITING

TEXT = {"pooled": (3, DIM), "sequence": (3, 5, DIM), "mask": (3, 5)}

TINY = (
    "encoder/text=transformers",
    f"encoder.text.model={DATA}/text_model",
    "encoder.text.weights=false",
)

# given: shape of the inputs; expected: shapes of the features
ENCODERS = (
    Row("encoder/image", "cnn", (2, 1, 28, 28), {"pooled": (2, DIM), "grid": (2, DIM, 7, 7)}),
    Row("encoder/image", "resnet", (2, 1, 28, 28), {"pooled": (2, DIM), "grid": (2, DIM, 3, 3)}),
    Row("encoder/image", "mlp", (2, 1, 16, 16), {"pooled": (2, DIM)}),
    Row(
        "encoder/audio",
        "spectrogram",
        (3, 9, 64),
        {"pooled": (3, DIM), "sequence": (3, 3, DIM), "mask": (3, 3)},
        train=(f"data={DATA}/audio_folder.yaml", "encoder/audio=spectrogram"),
    ),
    Row(  # 8 * 4 patches and two tokens before them
        "encoder/audio",
        "transformers",
        (3, 32, 64),
        {"pooled": (3, DIM), "sequence": (3, 34, DIM), "mask": (3, 34)},
        {"model": f"{DATA}/audio_model", "weights": False},
        train=(
            f"data={DATA}/audio_folder.yaml",
            "encoder/audio=transformers",
            f"encoder.audio.model={DATA}/audio_model",
            "encoder.audio.weights=false",
        ),
    ),
    Row(
        "encoder/image",
        "timm",
        (2, 1, 28, 28),
        {"pooled": (2, DIM), "grid": (2, DIM, 1, 1)},
        {"model": "test_resnet", "weights": False},
        train=(
            f"data={DATA}/image_folder.yaml",
            "encoder/image=timm",
            "encoder.image.model=test_resnet",
            "encoder.image.weights=false",
        ),
    ),
    Row(
        "encoder/image",
        "efficientnet_lite0",
        (2, 1, 28, 28),
        {"pooled": (2, DIM), "grid": (2, DIM, 1, 1)},
        train=(f"data={DATA}/image_folder.yaml", "encoder/image=efficientnet_lite0"),
    ),
    Row(
        "encoder/text",
        "transformers",
        (3, 5),
        TEXT,
        {"model": f"{DATA}/text_model", "weights": False},
        train=TINY,
    ),
    Row("encoder/text", "minilm", (3, 5), TEXT),
    Row(
        "encoder/text",
        "language_model",
        (3, 5),
        TEXT,
        {"model": f"{DATA}/decoder_model", "weights": False},
        train=WRITING,
    ),
    Row(  # the form of its package's model, which isn't installed
        "encoder/text",
        "smollm2",
        (3, 5),
        TEXT,
        {"model": f"{DATA}/decoder_model", "weights": False},
        train=(*WRITING, "encoder/text=smollm2"),
    ),
    Row("encoder/text", "bag", (3, 5), TEXT),
    Row("encoder/text", "conv", (3, 5), TEXT),
    Row("encoder/text", "gru", (3, 5), TEXT),
    Row("encoder/text", "transformer", (3, 5), TEXT),
)
