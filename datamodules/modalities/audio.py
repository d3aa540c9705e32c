"""Audio: decoding, log-mel spectrograms, SpecAugment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.arrays import Arrays, RaggedArray
from datamodules.counter_rng import uniforms
from datamodules.inputs import UnreadableCell
from datamodules.modalities.base import InputStore, Modality
from datamodules.progress_bar import track
from datamodules.table import Column
from pollinate.errors import PollinateError, UsageError
from pollinate.requirements import require

MOST_CHANNELS = 2  # that a recording of fewer samples may have
QUIET = 1e-10  # power below which all is silence: -100 dB


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Resample (n,) to (n wanted / rate,) by a polyphase filter, which keeps out aliases."""
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly  # takes a moment

    divisor = math.gcd(rate, wanted)
    found: np.ndarray = resample_poly(samples, wanted // divisor, rate // divisor)
    return found


def log_mel(samples: Tensor, rate: int, mels: int, window: int, hop: int) -> Tensor:
    """Return a recording's spectrogram as people hear it: (n,) -> (frames, mels) float32.

    log max(F |STFT|^2, 1e-10), where F are triangles, even on the mel scale, and the STFT has Hann
    windows; then each recording's values get mean 0 and deviation 1: loudness doesn't count.
    """
    size = 1 << (window - 1).bit_length()
    short = size // 2 + 1 - len(samples)  # the reflection at both ends needs so many
    if short > 0:
        samples = torch.nn.functional.pad(samples, (0, short))
    spectrum = torch.stft(
        samples,
        size,
        hop,
        window,
        torch.hann_window(window),
        return_complex=True,
    )
    power = spectrum.abs().square().T @ mel_filters(rate, size // 2 + 1, mels)
    loud = power.clamp(min=QUIET).log()
    return (loud - loud.mean()) / loud.std().clamp(min=1e-5)


@cache
def mel_filters(rate: int, bins: int, mels: int) -> Tensor:
    """Return triangles over the STFT's frequencies, each of height 1: (bins, mels).

    mel(f) = 2595 log10(1 + f / 700) (O'Shaughnessy 1987), even from 0 to rate / 2.
    """
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, mels + 2, dtype=torch.float64) / 2595) - 1)
    frequencies = torch.linspace(0, rate / 2, bins, dtype=torch.float64)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


def pad_frames(rows: list[Tensor]) -> Tensor:
    """Put spectrograms (L_i, F) under each other: (n, longest, F), NaN beyond a row's end."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=math.nan)


def random_stripes(draws: Tensor, size: Tensor, most: Tensor, places: int) -> Tensor:
    """Return True inside random stripes: (N, places) bool.

    Args:
        draws: (N, stripes, 2) in [0, 1): width and place of each.
        size: (N, 1) places that a row has.
        most: (N, 1) widest stripe.
        places: of the longest row.
    """
    wide = (draws[..., 0] * (most + 1)).floor()
    first = (draws[..., 1] * (size - wide + 1)).floor()
    place = torch.arange(places)
    return ((place >= first[..., None]) & (place < (first + wide)[..., None])).any(dim=1)


def spec_augment(
    frames: Tensor, lengths: Tensor, times: Tensor, bands: Tensor, share: float, width: int
) -> Tensor:
    """Set random stretches of time and bands of frequency to 0, the mean.

    Source: SpecAugment, Park et al. 2019, section 2, without time warping.

    Args:
        frames: (N, L, F), NaN beyond a row's end.
        lengths: (N,) frames of each row.
        times: (N, stretches, 2) in [0, 1): width and place of each stretch.
        bands: (N, bands, 2) in [0, 1).
        share: longest stretch, as a share of the row.
        width: widest band.
    """
    long = lengths[:, None]
    high = torch.full_like(long, frames.shape[2])
    late = random_stripes(times, long, (long * share).floor(), frames.shape[1])
    loud = random_stripes(bands, high, torch.full_like(long, width), frames.shape[2])
    hidden = (late[:, :, None] | loud[:, None, :]) & ~frames.isnan()
    return frames.masked_fill(hidden, 0.0)


# classes of transformers that give what a network of recordings takes, and do nothing else; any
# function of the library may be what a stranger's file names
EXTRACTORS = (
    "ASTFeatureExtractor",
    "DacFeatureExtractor",
    "EncodecFeatureExtractor",
    "SpeechT5FeatureExtractor",
    "Wav2Vec2FeatureExtractor",
)


def require_extractor(kind: object) -> str:
    """Return the name of a feature extractor's class.

    Raises:
        PollinateError: it is none of ``EXTRACTORS``.
    """
    if kind not in EXTRACTORS:
        raise PollinateError(
            f"the feature extractor must be one of {', '.join(EXTRACTORS)}, got {kind!r:.60}; "
            "choose another encoder/audio"
        )
    return str(kind)


class PretrainedFeatureExtractor:
    """A feature extractor of transformers, built from plain values.

    Args:
        settings: content of preprocessor_config.json; ``feature_extractor_type`` is its class.

    Raises:
        PollinateError: that class is none of ``EXTRACTORS``, or refuses its settings.

    Attributes:
        rate: samples a second that it takes.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        require("transformers", "encoders")
        name = require_extractor(settings.get("feature_extractor_type"))
        import transformers

        options = {k: v for k, v in settings.items() if not k.endswith(("_type", "_map"))}
        try:
            self._extract = getattr(transformers, name)(**options)
        except (TypeError, ValueError, AttributeError) as error:
            raise PollinateError(f"{name} refuses its settings: {error}") from error
        self.rate: int = self._extract.sampling_rate

    def frames(self, samples: np.ndarray) -> np.ndarray:
        """Return what the network takes: samples (L, 1), or a spectrogram (L, F); float32."""
        found = self._extract(samples, sampling_rate=self.rate, return_tensors="np")
        values = np.asarray(found["input_values"][0], dtype=np.float32)
        return values[:, None] if values.ndim == 1 else values

    def features(self) -> int:
        """Return the numbers of a frame F, 1 for samples."""
        noise = np.random.default_rng(0).standard_normal(self.rate).astype(np.float32)
        return int(self.frames(noise).shape[1])


LONG = 512  # recordings above which progress is shown


class AudioModality(Modality):
    """Turns recordings into spectrograms when they are loaded; hides parts of them in training.

    Args:
        rate: samples a second that recordings are brought to.
        mels: numbers of a frame.
        window: milliseconds that a frame looks at.
        hop: milliseconds between two frames.
        max_seconds: the rest of longer recordings is cut.
        time_masks: stretches of time that are hidden in training.
        time_share: longest of them, as a share of the recording, in [0, 1).
        band_masks: bands of frequency that are hidden in training.
        band_width: widest of them, in numbers of a frame, <= mels.
        assets: what a pre-trained encoder brings: its feature extractor, which is used instead of
            the spectrogram, and its rate; empty: nothing.
    """

    unit = "seconds"

    def __init__(
        self,
        rate: int = 16000,
        mels: int = 64,
        window: float = 25.0,
        hop: float = 10.0,
        max_seconds: float = 10.0,
        time_masks: int = 2,
        time_share: float = 0.1,
        band_masks: int = 2,
        band_width: int = 8,
        assets: Mapping[str, Any] | None = None,
    ) -> None:
        self.arguments = {
            "rate": rate,
            "mels": mels,
            "window": window,
            "hop": hop,
            "max_seconds": max_seconds,
            "time_masks": time_masks,
            "time_share": time_share,
            "band_masks": band_masks,
            "band_width": band_width,
            "assets": assets,
        }
        self.assets = dict(assets or {})
        rate, mels = self.assets.get("rate", rate), self.assets.get("features", mels)
        if mels == 1:
            time_masks = band_masks = band_width = 0  # stripes are for spectrograms
        for name, value in (("rate", rate), ("mels", mels), ("window", window), ("hop", hop)):
            if not value > 0:
                raise UsageError(f"data.audio.{name} must be > 0, got {value}")
        if not max_seconds > 0:
            raise UsageError(f"data.audio.max_seconds must be > 0, got {max_seconds}")
        if not 0 <= time_share < 1:
            raise UsageError(f"data.audio.time_share must be in [0, 1), got {time_share}")
        if not 0 <= band_width <= mels:
            raise UsageError(f"data.audio.band_width must be in [0, {mels}], got {band_width}")
        if time_masks < 0 or band_masks < 0:
            raise UsageError(
                "data.audio's time_masks and band_masks must be >= 0, got "
                f"{time_masks}, {band_masks}"
            )
        self.rate = rate
        self.mels = mels
        self.window = max(2, round(rate * window / 1000))
        self.hop = max(1, round(rate * hop / 1000))
        self.scale = self.hop / rate
        self.longest = max(1, round(rate * max_seconds))
        self.extract = PretrainedFeatureExtractor(self.assets["extractor"]) if self.assets else None
        self.dtype = np.float32 if mels == 1 else np.float16
        self.masks = SpecAugmentOptions(time_masks, time_share, band_masks, band_width)

    def write(self, column: Column, arrays: Arrays) -> dict[int, str]:
        """Read recordings: paths, files' contents, (samples, rate) or {array, sampling_rate}."""
        has = arrays.create("has", (len(column),), bool)
        frames = arrays.grow("frames", self.dtype, (self.mels,))
        errors, nothing = {}, np.empty((0, self.mels), self.dtype)
        cells = track(column, "spectrograms", len(column)) if len(column) > LONG else column
        for row, cell in enumerate(cells):
            found = nothing
            if cell is not None:
                try:
                    found = self.spectrogram(cell)
                    has[row] = True
                except PollinateError as error:
                    errors[row] = str(error)
            frames.append(found)
        frames.close()
        return errors

    def spectrogram(self, cell: Any) -> np.ndarray:
        """Return a recording's frames (L, mels), or what the encoder's extractor makes of it."""
        samples, rate = decode_audio(cell)
        heard = np.ascontiguousarray(
            resample(samples, rate, self.rate)[: self.longest], dtype=np.float32
        )
        if self.extract is not None:
            return self.extract.frames(heard).astype(self.dtype)
        frames = log_mel(
            torch.from_numpy(heard),
            *(self.rate, self.mels, self.window, self.hop),
        )
        return frames.numpy().astype(self.dtype)

    def read(self, arrays: Arrays) -> InputStore:
        return AudioStore(arrays.get_ragged("frames"), arrays.get("has"), self.masks)

    def random_keys(self) -> dict[str, Any]:
        masks = {"time_masks": self.masks.times, "band_masks": self.masks.bands}
        return {f"data.audio.{name}": count for name, count in masks.items() if count}

    def options(self) -> dict[str, Any]:
        names = ("rate", "mels", "window", "hop", "longest")
        own = {name: getattr(self, name) for name in names}
        return {**own, "extractor": self.assets["extractor"]} if self.assets else own

    def encoder_arguments(self) -> dict[str, Any]:
        assets = {"assets": self.assets} if self.assets else {}
        return {"in_features": self.mels, **assets}


class SpecAugmentOptions:
    """times, bands: stripes a row; share, width: of the largest."""

    def __init__(self, times: int, share: float, bands: int, width: int) -> None:
        self.times, self.share, self.bands, self.width = times, share, bands, width


class AudioStore(InputStore):
    """frames: N rows (L, F); has: (N,) bool; masks: what is hidden in training."""

    def __init__(self, frames: RaggedArray, has: np.ndarray, masks: SpecAugmentOptions) -> None:
        self.frames = frames
        self.has = has
        self.masks = masks

    def rows(self, rows: np.ndarray) -> Tensor:
        """Return spectrograms, padded with NaN to the longest: (n, L, F) float32."""
        if not len(rows):
            return torch.empty((0, 1, self.frames.flat.shape[1]))
        return pad_frames([torch.from_numpy(self.frames[row].astype(np.float32)) for row in rows])

    def augmented(
        self, rows: np.ndarray, seed: int, passes: np.ndarray, numbers: np.ndarray | None = None
    ) -> Tensor:
        """Return spectrograms with hidden stripes: (n, L, F) float32."""
        own = rows if numbers is None else numbers
        frames, masks = self.rows(rows), self.masks
        if not len(rows) or not masks.times + masks.bands:
            return frames
        draws = uniforms(seed, passes, own, count=2 * (masks.times + masks.bands))
        pairs = torch.from_numpy(draws).float().reshape(len(rows), -1, 2)
        lengths = torch.from_numpy(self.frames.starts[rows + 1] - self.frames.starts[rows])
        times, bands = pairs[:, : masks.times], pairs[:, masks.times :]
        return spec_augment(frames, lengths, times, bands, masks.share, masks.width)

    def lengths(self) -> np.ndarray:
        """Return the numbers of frames: (N,)."""
        return self.frames.lengths()


def decode_audio(cell: Any) -> tuple[np.ndarray, int]:
    """Return samples (n,) float32 of -1 ... 1, channels averaged, and their rate."""
    if isinstance(cell, UnreadableCell):
        raise PollinateError(cell.reason)
    if isinstance(cell, Mapping) and "array" in cell:
        cell = (cell["array"], cell.get("sampling_rate"))
    samples, rate = audio_from_array(*cell) if isinstance(cell, tuple) else audio_from_file(cell)
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if not len(samples):
        raise PollinateError("the recording has no samples; leave the row out")
    if not np.isfinite(samples).all():
        raise PollinateError("the recording has samples that are no numbers (NaN or infinite)")
    if samples.min() == samples.max():
        raise PollinateError("the recording is silent: all its samples are the same")
    return samples, rate


def audio_from_array(array: Any, rate: Any) -> tuple[np.ndarray, int]:
    """Return samples that come as numbers; whole numbers are scaled by their type's range.

    An array is (n,) or (n, channels), a tensor (n,) or (channels, n), as torchaudio has it.
    """
    is_tensor = isinstance(array, Tensor)
    samples = array.detach().cpu().numpy().T if is_tensor else np.asarray(array)
    try:
        wanted = round(float(rate))
    except (TypeError, ValueError, OverflowError):  # None, a text, NaN, infinite
        wanted = 0
    if wanted < 1:
        raise PollinateError(f"the rate must be >= 1 samples a second, got {rate}")
    if samples.dtype.kind not in "iuf" or samples.ndim not in (1, 2):
        raise PollinateError(f"samples must be numbers (n,) or (n, channels), got {samples.shape}")
    if samples.ndim == 2 and samples.shape[1] > max(MOST_CHANNELS, samples.shape[0]):
        order = "(channels, n)" if is_tensor else "(n, channels)"
        raise PollinateError(
            f"samples must be (n,) or {order}, got {np.shape(array)}, which has more channels than "
            "samples; transpose it"
        )
    if samples.dtype.kind in "iu" and samples.dtype.itemsize <= 4:
        samples = samples / np.iinfo(samples.dtype).max
    return samples.astype(np.float32), wanted


def audio_from_file(cell: Any) -> tuple[np.ndarray, int]:
    """Return a file's samples (n, channels) and their rate."""
    try:
        import soundfile  # type: ignore[import-untyped]  # no types
    except ImportError as error:
        raise UsageError('recordings need soundfile; pip install "pollinate[audio]"') from error
    if not isinstance(cell, bytes | str | Path):
        raise PollinateError(
            f"must be a recording's path or content, got {cell!r:.40}; if these are samples, say "
            "their rate, too: audio: {array: COLUMN, rate: COLUMN or samples a second}"
        )
    if isinstance(cell, str | Path) and not Path(cell).is_file():
        raise PollinateError(f"there is no file {cell}")
    try:
        samples, rate = soundfile.read(
            BytesIO(cell) if isinstance(cell, bytes) else str(cell), dtype="float32", always_2d=True
        )
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise PollinateError(f"the recording can't be read: {error}") from error
    return samples, int(rate)
