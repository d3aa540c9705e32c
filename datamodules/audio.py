"""Recordings as log-mel spectrograms. Pure functions."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

QUIET = 1e-10  # power below which all is silence: -100 dB


def to_rate(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
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

    Args:
        samples: -1 ... 1, n >= 1.
        rate: samples a second.
        mels: triangles.
        window: samples of a window.
        hop: samples between two windows; there are 1 + n // hop frames.
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


def stripes(draws: Tensor, size: Tensor, most: Tensor, places: int) -> Tensor:
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


def mask_stripes(
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
    late = stripes(times, long, (long * share).floor(), frames.shape[1])
    loud = stripes(bands, high, torch.full_like(long, width), frames.shape[2])
    hidden = (late[:, :, None] | loud[:, None, :]) & ~frames.isnan()
    return frames.masked_fill(hidden, 0.0)
