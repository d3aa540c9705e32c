"""Images: decoding, one size, augmentation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from datamodules.arrays import Arrays
from datamodules.counter_rng import uniforms
from datamodules.inputs import UnreadableCell
from datamodules.media_files import PICTURE_FORMATS
from datamodules.modalities.base import InputStore, Maps, Modality
from datamodules.regular_files import require_regular
from datamodules.table import Column
from pollinate.errors import PollinateError, UsageError

AUGMENT_UNIFORMS = 5  # random numbers an image: shift right, shift down, turn, size, flip


def resize(images: np.ndarray, size: tuple[int, int], channels: int, chunk: int = 256) -> Tensor:
    """Bring images to one size: uint8 (N, H, W) or (N, H, W, 3) -> uint8 (N, channels, *size).

    Bilinear with anti-aliasing; colour becomes grey by ITU-R BT.601, grey is repeated.

    Args:
        images: pixels, 0 ... 255.
        size: height, width in pixels.
        channels: 1 grey, 3 colour.
        chunk: images at a time, which bounds the memory of the float copies.
    """
    parts = [
        _resize(torch.tensor(images[start : start + chunk]), size, channels)
        for start in range(0, len(images), chunk)
    ]
    return torch.cat(parts) if parts else torch.empty((0, channels, *size), dtype=torch.uint8)


def _resize(images: Tensor, size: tuple[int, int], channels: int) -> Tensor:
    pixels = images[:, None] if images.dim() == 3 else images.movedim(-1, 1)
    if channels == 1 and pixels.shape[1] == 3:
        weights = torch.tensor([0.299, 0.587, 0.114])
        grey = torch.einsum("nchw,c->nhw", pixels.float(), weights)
        pixels = grey[:, None].round().clamp(0, 255).to(torch.uint8)
    if pixels.shape[-2:] != size:
        # on whole numbers: several times as fast as on floats, and at most one off
        pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    return pixels.expand(-1, channels, -1, -1)


def normalize(images: Tensor) -> Tensor:
    """Scale pixels: uint8 0 ... 255 -> float32 0 ... 1, any shape."""
    return images.float() / 255


def augment(
    images: Tensor,
    uniforms: Tensor,
    shift: float,
    rotate: float,
    scale: float,
    flip: float = 0.0,
) -> Tensor:
    """Move, turn, resize and flip each image at random, in one bilinear sampling: (N, C, H, W).

    Output pixel p shows input pixel F R p / (1 + s) + t, about the centre; outside is 0. F changes
    left and right, or nothing.

    Args:
        images: (N, C, H, W) float.
        uniforms: (N, AUGMENT_UNIFORMS) in [0, 1): they alone decide, row by row.
        shift: largest |t| along each side, in pixels.
        rotate: largest turn, in degrees, either way.
        scale: largest |s|, in [0, 1).
        flip: share of images that change left and right, in [0, 1].
    """
    grid = _grid(images, uniforms, shift, rotate, scale, flip)
    return functional.grid_sample(images, grid, align_corners=False)


def augment_map(
    values: Tensor,
    uniforms: Tensor,
    shift: float,
    rotate: float,
    scale: float,
    flip: float = 0.0,
) -> Tensor:
    """Move maps (N, H, W) as ``augment`` moves their images, with the value of the nearest pixel.

    Outside is 0.
    """
    planes = values[:, None].float()
    grid = _grid(planes, uniforms, shift, rotate, scale, flip)
    moved = functional.grid_sample(planes, grid, mode="nearest", align_corners=False)
    return moved[:, 0].to(values.dtype)


def _grid(
    images: Tensor, uniforms: Tensor, shift: float, rotate: float, scale: float, flip: float
) -> Tensor:
    right, down, turn, size = (2 * uniforms[:, :4] - 1).to(images.dtype).unbind(dim=1)
    side = 1 - 2 * (uniforms[:, 4] < flip).to(images.dtype)  # -1 where left and right change
    height, width = images.shape[-2:]
    angle, zoom = turn * math.radians(rotate), 1 / (1 + size * scale)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    # grid_sample measures in half-sides, so turning an oblong image mixes the two units
    rows = [
        torch.stack([side * cos, side * -sin * (height / width), right * (2 * shift / width)], 1),
        torch.stack([sin * (width / height), cos, down * (2 * shift / height)], dim=1),
    ]
    return functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)


Transform = Callable[..., Any]  # image (C, H, W) -> image; image, {name: Mask} -> both
SEEDS = 1 << 62
TRIES, MARK = 32, 3  # how often a transform is tried out on a map, which holds this everywhere


def transform_rows(
    images: Tensor, transform: Transform, seed: int, passes: np.ndarray, rows: np.ndarray
) -> Tensor:
    """Transform each image by itself; see ``transform_with_maps``."""
    return transform_with_maps(images, transform, seed, passes, rows, {})[0]


def transform_with_maps(
    images: Tensor,
    transform: Transform,
    seed: int,
    passes: np.ndarray,
    rows: np.ndarray,
    maps: Maps,
) -> tuple[Tensor, Maps]:
    """Transform each image by itself, and its maps with it.

    Torch's generator, from which the transforms draw, is seeded by (seed, pass, row) for each image
    and is afterwards as it was.

    Args:
        images: (N, C, H, W) uint8, pixels.
        transform: of one image (C, H, W); keeps its size. Maps are given to it as torchvision's
            ``Mask``: they are moved as the image is, and keep their values.
        seed: of the run.
        passes: (N,) how often the data set had been gone through.
        rows: (N,) the images' numbers.
        maps: {name: (N, H, W)}.
    """
    seeds = (uniforms(seed, passes, rows, count=1)[:, 0] * SEEDS).astype(np.int64)
    done = []
    with torch.random.fork_rng(devices=[]):
        for place, own in enumerate(seeds.tolist()):
            torch.default_generator.manual_seed(own)
            on_it = {name: values[place] for name, values in maps.items()}
            done.append(transform_image(transform, images[place], on_it))
    pictures = torch.stack([image for image, _ in done])
    return pictures, {name: torch.stack([on_it[name] for _, on_it in done]) for name in maps}


def transform_image(transform: Transform, image: Tensor, maps: Maps) -> tuple[Tensor, Maps]:
    """Transform an image (C, H, W) and the maps (H, W) on it."""
    if not maps:
        return transform(image), {}
    # takes a moment, and most runs have no maps
    from torchvision.tv_tensors import Mask  # type: ignore[import-untyped]  # no types

    masks = {name: Mask(values) for name, values in maps.items()}
    found, masks = transform(image, masks)
    return found, {name: mask.as_subclass(Tensor) for name, mask in masks.items()}


def require_moves_maps(transform: Transform, shape: tuple[int, int, int]) -> None:
    """Try a transform out on an image of the given shape and a map."""
    name, image = type(transform).__name__, torch.full(shape, 128, dtype=torch.uint8)
    maps = {
        "classes": torch.full(shape[1:], MARK, dtype=torch.int16),
        "depth": torch.full(shape[1:], float(MARK)),
    }
    advice = "choose data.image.augment=flip, flip_crop or photo, or none: data.image.augment=null"
    with torch.random.fork_rng(devices=[]):
        for number in range(TRIES):
            torch.default_generator.manual_seed(number)
            try:
                _, found = transform_image(transform, image, maps)
            except (TypeError, ValueError) as error:
                raise UsageError(
                    f"data.image.augment: {name} can't move masks and depths with their pictures "
                    f"({error}); {advice}"
                ) from error
            for values in found.values():
                strange = values[(values != MARK) & (values != 0)]
                if len(strange):
                    raise UsageError(
                        f"data.image.augment: {name} puts {strange[0].item():g} where a mask ends, "
                        f"which would be a label; set its fill to 0, or {advice}"
                    )


SIZE = (64, 64)
CHUNK = 256  # images resized at a time
DECODING = 3  # raised when the same file becomes other pixels
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
MAX_PIXELS = 89_478_485  # where Pillow warns of a decompression bomb: 256 MB of colour


class ImageModality(Modality):
    """Brings images to one size when they are loaded; can move and flip them in training.

    Args:
        size: height, width in pixels, >= 1; None: those that the encoder was trained with, 64 for
            one that was not.
        channels: 1 grey, 3 colour.
        value_range: the values of black and of white where a picture isn't of 8 bits, of which they
            are 0 and 255; None: such pictures are refused, but for tensors of 0 to 1.
        shift: largest shift in pixels, >= 0.
        rotate: largest turn in degrees, >= 0.
        scale: largest relative change of size, in [0, 1).
        flip: share of pictures that change left and right, in [0, 1].
        augment: a random transform of torchvision for one image (C, H, W) uint8, or None; it comes
            before the shift.
        assets: what a pre-trained encoder brings; empty: nothing.
    """

    def __init__(
        self,
        size: Sequence[int] | None = None,
        channels: int = 3,
        value_range: Sequence[float] | None = None,
        shift: float = 0.0,
        rotate: float = 0.0,
        scale: float = 0.0,
        flip: float = 0.0,
        augment: Transform | None = None,
        assets: Mapping[str, Any] | None = None,
    ) -> None:
        self.arguments = {
            "size": size,
            "channels": channels,
            "value_range": value_range,
            "shift": shift,
            "rotate": rotate,
            "scale": scale,
            "flip": flip,
            "augment": augment,
            "assets": assets,
        }
        self.assets = dict(assets or {})
        size = size or self.assets.get("size", SIZE)
        if len(size) != 2 or min(size) < 1:
            raise UsageError(f"data.image.size must be [height, width], both >= 1, got {size}")
        if channels not in (1, 3):
            raise UsageError(f"data.image.channels must be 1 or 3, got {channels}")
        if not 0 <= flip <= 1:
            raise UsageError(f"data.image.flip must be in [0, 1], got {flip}")
        self.size = (int(size[0]), int(size[1]))
        self.channels = channels
        self.value_range = checked_range(value_range)
        self.augmentation = ImageAugmentation(
            augment, {"shift": shift, "rotate": rotate, "scale": scale, "flip": flip}
        )

    def map_size(self) -> tuple[int, int]:
        """Return the images' size; check that what moves them in training can move maps."""
        if self.augmentation.transform is not None:
            require_moves_maps(self.augmentation.transform, (self.channels, *self.size))
        return self.size

    def write(self, column: Column, arrays: Arrays) -> dict[int, str]:
        """Take an array (N, H, W[, 3]), or a list of arrays, paths or file contents."""
        count = len(column)
        has = arrays.create("has", (count,), bool)
        pixels = arrays.create("pixels", (count, self.channels, *self.size), np.uint8)
        if isinstance(column, np.ndarray) and (
            problem := pixels_problem(column.dtype, column.shape[1:], self.value_range)
        ):
            return dict.fromkeys(range(count), problem)
        if isinstance(column, np.ndarray) and column.dtype == np.uint8:
            for start in range(0, count, CHUNK):
                rows = slice(start, start + CHUNK)
                pixels[rows] = resize(column[rows], self.size, self.channels).numpy()
            has[:] = True
            return {}
        errors = {}
        for row, image in enumerate(column):
            if image is not None:
                try:
                    found = resize(self.decode(image)[None], self.size, self.channels)
                    pixels[row] = found[0].numpy()
                    has[row] = True
                except PollinateError as error:
                    errors[row] = str(error)
        return errors

    def decode(self, image: Picture | UnreadableCell) -> np.ndarray:
        """Return an image's pixels: (H, W) or (H, W, 3) uint8; see ``decode_image``."""
        return decode_image(image, self.value_range)

    def read(self, arrays: Arrays) -> InputStore:
        return ImageStore(arrays.get("pixels"), arrays.get("has"), self.augmentation)

    def random_keys(self) -> dict[str, Any]:
        move = {f"data.image.{name}": value for name, value in self.augmentation.move.items()}
        transform = self.augmentation.transform
        named = {} if transform is None else {"data.image.augment": type(transform).__name__}
        return {**named, **{key: value for key, value in move.items() if value}}

    def options(self) -> dict[str, Any]:
        own = {"size": list(self.size), "channels": self.channels, "decoding": DECODING}
        return own if self.value_range is None else {**own, "value_range": list(self.value_range)}

    def encoder_arguments(self) -> dict[str, Any]:
        assets = {"size": list(self.size), "assets": self.assets} if self.assets else {}
        return {"in_channels": self.channels, **assets}


@dataclass
class ImageAugmentation:
    """transform: of one image, or None; move: arguments of ``augment``."""

    transform: Transform | None
    move: dict[str, float]


class ImageStore(InputStore):
    """pixels: (N, C, H, W) uint8; has: (N,) bool; augmentation: what training does to images."""

    def __init__(
        self, pixels: np.ndarray, has: np.ndarray, augmentation: ImageAugmentation
    ) -> None:
        self.pixels = pixels
        self.has = has
        self.augmentation = augmentation

    def rows(self, rows: np.ndarray) -> Tensor:
        """Return pixels in [0, 1]: (n, C, H, W) float32."""
        return normalize(torch.from_numpy(self.pixels[rows]))

    def augmented(
        self, rows: np.ndarray, seed: int, passes: np.ndarray, numbers: np.ndarray | None = None
    ) -> Tensor:
        """Return pixels in [0, 1], each image moved in its own way: (n, C, H, W) float32."""
        return self.augmented_with_maps(rows, seed, passes, {}, numbers)[0]

    def augmented_with_maps(
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
        images = normalize(pixels)
        if not any(chosen.move.values()) or not len(rows):
            return images, maps
        draws = torch.from_numpy(uniforms(seed, passes, own, count=AUGMENT_UNIFORMS))
        moved = {name: augment_map(values, draws, **chosen.move) for name, values in maps.items()}
        return augment(images, draws, **chosen.move), moved


Range = tuple[float, float]  # the values of black and of white
UNIT: Range = (0.0, 1.0)
UINT16: Range = (0.0, 65_535.0)
CHUNK_VALUES = 1 << 22  # values that are brought to 8 bits at a time
SAY_RANGE = (
    "say what is black and what is white: data.image.value_range=[0, 4095] for 12 bits, [0, 65535] "
    "for 16, [0, 1] or whatever it is"
)


def checked_range(given: Sequence[float] | None) -> Range | None:
    """Return the values of black and of white, None if they aren't given."""
    if given is None:
        return None
    found = [float(value) for value in given]
    if len(found) != 2 or not all(map(math.isfinite, found)) or found[0] == found[1]:
        raise UsageError(
            "data.image.value_range must be [black, white], two numbers that differ, got "
            f"{list(given)}"
        )
    return found[0], found[1]


def scale_values(values: np.ndarray, value_range: Range, what: str, advice: str) -> np.ndarray:
    """Bring values to 8 bits, rounded: uint8 255 (v - black) / (white - black), of any shape.

    Raises:
        PollinateError: a value is NaN, or beyond black or white.
    """
    black, white = value_range
    low, high = (values.min(), values.max()) if values.size else (black, white)
    if not min(value_range) <= low <= high <= max(value_range):
        raise PollinateError(
            f"{what} must hold numbers from {min(value_range):g} to {max(value_range):g}, got "
            f"{low:g} to {high:g}; {advice}"
        )
    flat, found = values.reshape(-1), np.empty(values.size, np.uint8)
    for start in range(0, values.size, CHUNK_VALUES):
        chosen = slice(start, start + CHUNK_VALUES)
        found[chosen] = np.rint((flat[chosen].astype(np.float64) - black) * 255 / (white - black))
    return found.reshape(values.shape)


WIDEN = "widen data.image.value_range, or mend the picture"


def pixels_of(image: Image.Image, value_range: Range | None = None) -> np.ndarray:
    """Return the pixels as a person sees them: (H, W) or (H, W, 3) uint8, to be written to.

    Turned as a camera noted it (EXIF), on white where it is transparent, more than 8 bits brought
    to 8 by ``value_range``; the first picture of an animation.

    Raises:
        PollinateError: the picture has more than 8 bits, and nobody said what they mean.
    """
    require_full_colours(image, value_range)
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if value_range is None:
            raise PollinateError(
                f"the picture's numbers aren't of 8 bits (mode {image.mode}, {values.min():g} to "
                f"{values.max():g}); {SAY_RANGE}"
            )
        return scale_values(values, value_range, "the picture", WIDEN)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def require_full_colours(image: Image.Image, value_range: Range | None) -> None:
    """Check that what Pillow leaves out of colours of 16 bits, the lower 8, isn't needed."""
    tiles = [] if image.mode.startswith("I") else getattr(image, "tile", [])
    if value_range != UINT16 and any(";16" in str(one) or "SGI16" in str(one) for one in tiles):
        raise PollinateError(
            "the picture has colours of 16 bits, of which only the upper 8 can be read; set "
            "data.image.value_range=[0, 65535] if that is their range, or save it with 8 bits"
        )


Picture = np.ndarray | Tensor | Image.Image | bytes | str | Path


def decode_image(image: Picture | UnreadableCell, value_range: Range | None = None) -> np.ndarray:
    """Return an image's pixels: (H, W) or (H, W, 3) uint8.

    Args:
        image: pixels (H, W), (H, W, 1) or (H, W, 3); a tensor (H, W), (1, H, W) or (3, H, W); a
            picture of Pillow; the content of an image file, or its path.
        value_range: the values of black and of white in what isn't of 8 bits; None: that is refused
            but for tensors with a point, which are from 0 to 1.
    """
    if isinstance(image, UnreadableCell):
        raise PollinateError(image.reason)
    if isinstance(image, np.ndarray):
        return array_pixels(image, value_range)
    if isinstance(image, Tensor):
        return tensor_pixels(image, value_range)
    if isinstance(image, Image.Image):
        require_raster(image)
        with readable_image():
            return pixels_of(image.copy(), value_range)  # changed in place, and the user's stays
    if not isinstance(image, bytes | str | Path):
        advice = "; make it an array: numpy.asarray(pixels, 'uint8')"
        raise PollinateError(
            f"must be a picture's path or content, got {image!r:.40}"
            f"{advice if isinstance(image, list) else ''}"
        )
    with open_image(image) as found:
        return pixels_of(found, value_range)


def has_8_bits(image: Tensor | Image.Image) -> bool:
    """Say whether an image's pixels can be told without a ``value_range``, whatever they are."""
    if isinstance(image, Tensor):
        return image.dtype == torch.uint8
    return not image.mode.startswith(("I", "F"))


def pixels_problem(dtype: np.dtype, shape: Sequence[int], value_range: Range | None = None) -> str:
    """Say why an array is no picture: (H, W), (H, W, 1) or (H, W, 3), uint8; empty if it is.

    With a ``value_range`` any other numbers will do, too.
    """
    numbers = dtype == np.uint8 or (value_range is not None and dtype.kind in "buif")
    if numbers and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))):
        return ""
    found = " x ".join(map(str, shape)) or "one number"
    more = "" if numbers or dtype.kind not in "buif" else f", or {SAY_RANGE}"
    return (
        "pixels must be whole numbers from 0 to 255 (uint8), height x width for grey or height x "
        f"width x 3 for colour, got {dtype} {found}; convert the array{more}"
    )


def array_pixels(image: np.ndarray, value_range: Range | None) -> np.ndarray:
    if problem := pixels_problem(image.dtype, image.shape, value_range):
        raise PollinateError(problem)
    if image.dtype == np.uint8:
        return image
    assert value_range is not None, "else there is a problem"
    return scale_values(image, value_range, "the picture", WIDEN)


def tensor_pixels(image: Tensor, value_range: Range | None = None) -> np.ndarray:
    """Return the pixels of a tensor (H, W), (1, H, W) or (3, H, W): uint8, channels last.

    Numbers with a point are from 0 (black) to 1 (white), as torchvision has them, if
    ``value_range`` doesn't say otherwise; they are rounded to the nearest of 256 steps.
    """
    shape = " x ".join(map(str, image.shape)) or "one number"
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[0] in (1, 3))) or not image.numel():
        raise PollinateError(
            f"a picture that is a tensor must be (height, width), or 1 or 3 channels x height x "
            f"width, got {shape}; permute it"
        )
    own = image.detach().cpu()
    values = (own.float() if own.dtype == torch.bfloat16 else own).numpy()
    pixels: np.ndarray = values if values.ndim == 2 else np.moveaxis(values, 0, -1)
    if own.dtype == torch.uint8:
        return pixels
    what = f"a picture that is a tensor of {own.dtype}"
    if value_range is not None and not own.is_complex():
        return scale_values(pixels, value_range, what, WIDEN)
    if own.is_floating_point():
        advice = (
            "leave out normalisation, which encoders do themselves, give uint8 from 0 to 255, or "
            "say what is black and what is white: data.image.value_range=[-1, 1]"
        )
        return scale_values(pixels, UNIT, what, advice)
    raise PollinateError(
        f"a picture that is a tensor must be uint8 or numbers from 0 to 1 with a point, got "
        f"{own.dtype}; convert it, or {SAY_RANGE}"
    )


@cache
def readable_formats() -> tuple[str, ...]:
    """Return those of ``PICTURE_FORMATS`` that the installed Pillow reads."""
    Image.init()
    return tuple(name for name in PICTURE_FORMATS if name in Image.OPEN)


def require_raster(image: Image.Image) -> None:
    """Check that a picture of Pillow, which may be read only now, is of pixels."""
    if image.format is not None and image.format not in PICTURE_FORMATS:
        raise PollinateError(
            f"a picture must have pixels of its own, got {image.format}; save it as PNG"
        )


@contextmanager
def open_image(image: bytes | str | Path) -> Iterator[Image.Image]:
    """Open an image file; what goes wrong with it, then and while it is read, is said in words."""
    # one picture inside of another, an icon's, may have more pixels than the outer one tells
    too_large = warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning)
    with readable_image(image), too_large, opened(image) as found:
        pixels = found.width * found.height
        if pixels > MAX_PIXELS:
            raise Image.DecompressionBombError(f"got {pixels:,}")
        if any("fits_gzip" in str(tile) for tile in found.tile):
            # Pillow before 12.2 unpacks it without end
            raise PollinateError("FITS must not be compressed; unpack the picture")
        yield found


def opened(image: bytes | str | Path) -> ImageFile.ImageFile:
    file = BytesIO(image) if isinstance(image, bytes) else require_regular(Path(image))
    return Image.open(file, formats=readable_formats())


@contextmanager
def readable_image(image: bytes | str | Path | None = None) -> Iterator[None]:
    """Say in words what goes wrong while a picture is read."""
    try:
        yield
    except PollinateError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PollinateError(f"images must have <= {MAX_PIXELS:,} pixels: {error}") from error
    except UnidentifiedImageError as error:
        raise PollinateError("the content is not an image; give PNG, JPEG or similar") from error
    except FileNotFoundError as error:
        raise PollinateError(f"there is no file {image!s}") from error
    except Exception as error:  # a damaged file can fail in any way in a decoder
        reason = error.strerror if isinstance(error, OSError) else None
        raise PollinateError(f"the image is damaged: {reason or error}") from error


def displayed_size(image: Any) -> tuple[int, int] | None:
    """Return height and width as ``decode_image`` would give them; None if it can't be read."""
    if isinstance(image, np.ndarray):
        return image.shape[0], image.shape[1]
    if isinstance(image, Tensor) and image.ndim in (2, 3):
        return image.shape[-2], image.shape[-1]
    if isinstance(image, Image.Image):
        return as_displayed(image)
    if not isinstance(image, bytes | str | Path):
        return None
    try:
        with open_image(image) as found:
            return as_displayed(found)
    except PollinateError:
        return None


def as_displayed(image: Image.Image) -> tuple[int, int]:
    """Return height and width of a picture, turned as a camera noted it."""
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS
    return (image.width, image.height) if turned else (image.height, image.width)
