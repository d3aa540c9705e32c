"""Images: pixels of one size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from datamodules.arrays import Arrays
from datamodules.augment import Maps, Transform, require_moves_maps, transform_with_maps
from datamodules.columns import Column
from datamodules.image import AUGMENT_UNIFORMS, augment, augment_map, normalise, resize
from datamodules.media import Unreadable
from datamodules.modalities.base import Modality, Store
from datamodules.randomness import uniforms
from pipeline.errors import PollinateError, UsageError

SIZE = (64, 64)
CHUNK = 256  # images resized at a time
DECODING = 2  # raised when the same file becomes other pixels
WORD = 257  # what a value of 16 bits is divided by: 65,535 -> 255
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
MOST_PIXELS = 89_478_485  # where Pillow warns of a decompression bomb: 256 MB of colour


class ImageModality(Modality):
    """Brings images to one size when they are loaded; moves, turns and scales them in training.

    Args:
        size: height, width in pixels, >= 1; None: those that the encoder was trained with, 64 for
            one that was not.
        channels: 1 grey, 3 colour.
        shift: largest shift in pixels, >= 0.
        rotate: largest turn in degrees, >= 0.
        scale: largest relative change of size, in [0, 1).
        augment: a random transform of torchvision for one image (C, H, W) uint8, or None; it comes
            before the shift.
        brought: what a pre-trained encoder brings; empty: nothing.
    """

    def __init__(
        self,
        size: Sequence[int] | None = None,
        channels: int = 3,
        shift: float = 0.0,
        rotate: float = 0.0,
        scale: float = 0.0,
        augment: Transform | None = None,
        brought: Mapping[str, Any] | None = None,
    ) -> None:
        self.brought = dict(brought or {})
        size = size or self.brought.get("size", SIZE)
        if len(size) != 2 or min(size) < 1:
            raise UsageError(f"data.image.size must be [height, width], both >= 1, got {size}")
        if channels not in (1, 3):
            raise UsageError(f"data.image.channels must be 1 or 3, got {channels}")
        self.size = (int(size[0]), int(size[1]))
        self.channels = channels
        self.augmentation = Augmentation(
            augment, {"shift": shift, "rotate": rotate, "scale": scale}
        )

    def fit(self, columns: Sequence[Column]) -> None:
        """Learn nothing."""

    def map_size(self) -> tuple[int, int]:
        """Return the images' size; check that what moves them in training can move maps."""
        if self.augmentation.transform is not None:
            require_moves_maps(self.augmentation.transform, (self.channels, *self.size))
        return self.size

    def write(self, column: Column, arrays: Arrays) -> dict[int, str]:
        """Take an array (N, H, W[, 3]) uint8, or a list of arrays, paths or file contents."""
        count = len(column)
        has = arrays.create("has", (count,), bool)
        pixels = arrays.create("pixels", (count, self.channels, *self.size), np.uint8)
        if isinstance(column, np.ndarray):
            if problem := pixels_problem(column.dtype, column.shape[1:]):
                return dict.fromkeys(range(count), problem)
            for start in range(0, count, CHUNK):
                rows = slice(start, start + CHUNK)
                pixels[rows] = resize(column[rows], self.size, self.channels).numpy()
            has[:] = True
            return {}
        errors = {}
        for row, image in enumerate(column):
            if image is not None:
                try:
                    pixels[row] = resize(decode(image)[None], self.size, self.channels)[0].numpy()
                    has[row] = True
                except PollinateError as error:
                    errors[row] = str(error)
        return errors

    def read(self, arrays: Arrays) -> Store:
        """Return the pixels."""
        return ImageStore(arrays.get("pixels"), arrays.get("has"), self.augmentation)

    def random_keys(self) -> dict[str, Any]:
        """Return the keys of the augmentation that is on."""
        move = {f"data.image.{name}": value for name, value in self.augmentation.move.items()}
        transform = self.augmentation.transform
        named = {} if transform is None else {"data.image.augment": type(transform).__name__}
        return {**named, **{key: value for key, value in move.items() if value}}

    def options(self) -> dict[str, Any]:
        """Return what the pixels depend on."""
        return {"size": list(self.size), "channels": self.channels, "decoding": DECODING}

    def encoder_arguments(self) -> dict[str, Any]:
        """Return the number of channels, and size and network of a pre-trained encoder."""
        brought = {"size": list(self.size), "brought": self.brought} if self.brought else {}
        return {"in_channels": self.channels, **brought}

    def state_dict(self) -> dict[str, Any]:
        """Return what came with the encoder; all else is in the config."""
        return {"brought": self.brought} if self.brought else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over nothing: what came with the encoder was given at the start."""


@dataclass
class Augmentation:
    """transform: of one image, or None; move: arguments of ``augment``."""

    transform: Transform | None
    move: dict[str, float]


class ImageStore(Store):
    """pixels: (N, C, H, W) uint8; has: (N,) bool; augmentation: what training does to images."""

    def __init__(self, pixels: np.ndarray, has: np.ndarray, augmentation: Augmentation) -> None:
        self.pixels = pixels
        self.has = has
        self.augmentation = augmentation

    def rows(self, rows: np.ndarray) -> Tensor:
        """Return pixels in [0, 1]: (n, C, H, W) float32."""
        return normalise(torch.from_numpy(self.pixels[rows]))

    def augmented(
        self, rows: np.ndarray, seed: int, passes: np.ndarray, numbers: np.ndarray | None = None
    ) -> Tensor:
        """Return pixels in [0, 1], each image moved in its own way: (n, C, H, W) float32."""
        return self.moved(rows, seed, passes, {}, numbers)[0]

    def moved(
        self,
        rows: np.ndarray,
        seed: int,
        passes: np.ndarray,
        maps: Maps,
        numbers: np.ndarray | None = None,
    ) -> tuple[Tensor, Maps]:
        """Return what ``augmented`` does, and maps (n, H, W) that stay on their images."""
        own = rows if numbers is None else numbers
        pixels, chosen = torch.from_numpy(self.pixels[rows]), self.augmentation
        if chosen.transform is not None and len(rows):
            pixels, maps = transform_with_maps(pixels, chosen.transform, seed, passes, own, maps)
        images = normalise(pixels)
        if not any(chosen.move.values()) or not len(rows):
            return images, maps
        draws = torch.from_numpy(uniforms(seed, passes, own, count=AUGMENT_UNIFORMS))
        moved = {name: augment_map(values, draws, **chosen.move) for name, values in maps.items()}
        return augment(images, draws, **chosen.move), moved


def pixels_of(image: Image.Image) -> np.ndarray:
    """Return the pixels as a person sees them: (H, W) or (H, W, 3) uint8, to be written to.

    Turned as a camera noted it (EXIF), on white where it is transparent, 16 bits brought to 8; the
    first picture of an animation.
    """
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.int64)
        wide = image.mode != "I" or values.max() > 255  # of "I" only its values tell
        return (values // WORD if wide else values).clip(0, 255).astype(np.uint8)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    grey = image.mode in ("1", "L", "F")
    return np.array(image.convert("L" if grey else "RGB"))


def decode(image: np.ndarray | bytes | str | Path | Unreadable) -> np.ndarray:
    """Return an image's pixels: (H, W) or (H, W, 3) uint8.

    Args:
        image: pixels, the content of an image file, or its path.

    Raises:
        PollinateError: there is no such file, it is cut off or no image, or it unpacks to more
            than ``MOST_PIXELS``.
    """
    if isinstance(image, Unreadable):
        raise PollinateError(image.reason)
    if isinstance(image, np.ndarray):
        if problem := pixels_problem(image.dtype, image.shape):
            raise PollinateError(problem)
        return image
    if not isinstance(image, bytes | str | Path):
        raise PollinateError(f"must be a picture's path or content, got {image!r:.40}")
    with opened(image) as found:
        return pixels_of(found)


def pixels_problem(dtype: np.dtype, shape: Sequence[int]) -> str:
    """Say why an array is no picture: (H, W), (H, W, 1) or (H, W, 3), uint8; empty if it is."""
    if dtype == np.uint8 and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))):
        return ""
    found = " x ".join(map(str, shape)) or "one number"
    return (
        "pixels must be whole numbers from 0 to 255 (uint8), height x width for grey or height x "
        f"width x 3 for colour, got {dtype} {found}; convert the array"
    )


@contextmanager
def opened(image: bytes | str | Path) -> Iterator[Image.Image]:
    """Open an image file; what goes wrong with it, then and while it is read, is said in words.

    Raises:
        PollinateError: as for ``decode``.
    """
    try:
        with Image.open(BytesIO(image) if isinstance(image, bytes) else image) as found:
            pixels = found.width * found.height
            if pixels > MOST_PIXELS:
                raise Image.DecompressionBombError(f"got {pixels:,}")
            yield found
    except PollinateError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PollinateError(f"images must have <= {MOST_PIXELS:,} pixels: {error}") from error
    except UnidentifiedImageError as error:
        raise PollinateError("the content is no image; give PNG, JPEG or the like") from error
    except FileNotFoundError as error:
        raise PollinateError(f"there is no file {image!s}") from error
    except Exception as error:  # a damaged file can fail in any way in a decoder
        reason = error.strerror if isinstance(error, OSError) else None
        raise PollinateError(f"the image is damaged: {reason or error}") from error


def displayed_size(image: Any) -> tuple[int, int] | None:
    """Return height and width as ``decode`` would give them; None if it can't be read."""
    if isinstance(image, np.ndarray):
        return image.shape[0], image.shape[1]
    if not isinstance(image, bytes | str | Path):
        return None
    try:
        with opened(image) as found:
            turned = found.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS
            return (found.width, found.height) if turned else (found.height, found.width)
    except PollinateError:
        return None
