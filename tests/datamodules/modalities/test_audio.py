"""Recordings as spectrograms, and what is hidden of them in training."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from datamodules.modalities.audio import (
    AudioModality,
    decode_audio,
    log_mel,
    mel_filters,
    pad_frames,
    resample,
    samples_needed,
    spec_augment,
)
from pollinate.errors import PollinateError, UsageError

RATE = 8000


def tone(pitch: float, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * pitch * np.arange(int(rate * seconds)) / rate).astype(np.float32)


def spectrogram(samples: np.ndarray, rate: int = RATE) -> torch.Tensor:
    return log_mel(torch.from_numpy(samples), rate, 40, rate // 40, rate // 100)


@pytest.mark.parametrize(("rate", "wanted"), [(8000, 16000), (44100, 16000), (16000, 8000)])
def test_a_resampled_tone_is_the_tone(rate: int, wanted: int) -> None:
    found = resample(tone(440, rate=rate), rate, wanted)
    expected = tone(440, rate=wanted)
    middle = slice(len(expected) // 4, -len(expected) // 4)
    assert len(found) == len(expected)
    assert np.allclose(found[middle], expected[middle], atol=2e-2)


def test_what_is_too_high_does_not_come_back_lower() -> None:
    assert np.abs(resample(tone(7000, rate=16000), 16000, 8000)[100:-100]).max() < 0.05


@pytest.mark.parametrize("pitch", [200, 1000, 3000])
def test_a_tone_is_in_its_own_triangle(pitch: int) -> None:
    loudest = spectrogram(tone(pitch)).mean(dim=0).argmax().item()
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    place = 2595 * math.log10(1 + pitch / 700) / top * 41 - 1
    assert abs(loudest - place) <= 1


def test_triangles_cover_every_frequency_once() -> None:
    filters = mel_filters(16000, 257, 40)
    inner = filters.sum(dim=1)[4:-40]  # below the last triangle's top
    assert filters.min() == 0
    assert torch.allclose(inner, torch.ones_like(inner), atol=1e-3)


def test_loudness_does_not_count() -> None:
    noise = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    assert torch.allclose(spectrogram(noise), spectrogram(noise / 50), atol=1e-3)


def test_a_frame_a_hop() -> None:
    assert spectrogram(tone(440, 1.0)).shape == (101, 40)
    assert spectrogram(tone(440, 0.001)).shape[0] >= 1


def test_masks_hide_stripes_by_hand() -> None:
    frames = pad_frames([torch.ones(10, 4), torch.ones(5, 4)])
    times = torch.tensor([[[0.99, 0.0]], [[0.99, 0.99]]])  # 5 of 10 from 0; 2 of 5 from the end
    bands = torch.tensor([[[0.0, 0.0]], [[0.99, 0.0]]])  # none; 2 from 0
    found = spec_augment(frames, torch.tensor([10, 5]), times, bands, share=0.5, width=2)
    assert found[0, :5].eq(0).all()
    assert found[0, 5:].eq(1).all()
    assert found[1, 3:5].eq(0).all()
    assert found[1, :3, :2].eq(0).all()
    assert found[1, :3, 2:].eq(1).all()
    assert found[1, 5:].isnan().all()


def modality(**options: Any) -> AudioModality:
    return AudioModality(rate=RATE, mels=16, **options)


def test_augmentation_is_a_function_of_seed_pass_and_row() -> None:
    masked = modality(time_masks=2, band_masks=2)
    store = masked.prepare([(tone(300 + 100 * n, 0.2 + n / 10), RATE) for n in range(4)]).store
    rows, none = np.arange(4), np.zeros(4, np.int64)
    together = store.augmented(rows, 0, none)
    assert torch.equal(together.nan_to_num(9), store.augmented(rows, 0, none).nan_to_num(9))
    assert not torch.equal(together.nan_to_num(9), store.augmented(rows, 0, none + 1).nan_to_num(9))
    for row in rows:
        alone = store.augmented(rows[row : row + 1], 0, none[:1])
        assert torch.equal(alone[0], together[row, : alone.shape[1]])
        assert together[row, alone.shape[1] :].isnan().all()
    assert store.lengths().tolist() == sorted(store.lengths().tolist())


def wav(samples: np.ndarray, rate: int = RATE, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()


def test_all_forms_of_a_recording_are_the_same(tmp_path: Path) -> None:
    samples = tone(440)
    (tmp_path / "a.wav").write_bytes(wav(samples))
    whole = np.rint(samples * 32767).astype(np.int16)
    stereo = np.stack([samples, samples], axis=1)
    forms = [
        tmp_path / "a.wav",
        wav(samples),
        wav(samples, kind="FLAC"),
        (samples, RATE),
        (whole, RATE),
    ]
    forms += [{"array": samples, "sampling_rate": RATE}, wav(stereo), (stereo, RATE)]
    for form in forms:
        found, rate = decode_audio(form)
        assert rate == RATE
        assert np.allclose(found, samples, atol=1e-3)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (b"no sound", "the recording can't be read"),
        (wav(tone(440))[:20], "the recording"),
        (wav(np.zeros(0, np.float32)), "has no samples"),
        (wav(np.zeros(99, np.float32)), "is silent"),
        ((np.array([0.0, np.nan]), RATE), "are no numbers"),
        ((tone(440), 0), "rate must be >= 1 samples a second, got 0"),
        ((tone(440), None), "rate must be >= 1"),
        ((tone(440), "8 kHz"), "rate must be >= 1 samples a second, got 8 kHz"),
        ((tone(440), 0.2), "rate must be >= 1"),
        ((tone(440), float("inf")), "rate must be >= 1"),
        ([0.5, -0.5], "path or content, got [0.5, -0.5]; if these are samples, say their rate"),
        (7, "path or content, got 7"),
        ((tone(440), RATE, 1), "path or content, got (array"),
        ((np.array(["a"]), RATE), "samples must be numbers"),
        (Path("none.wav"), "there is no file none.wav"),
    ],
)
def test_what_is_wrong_with_a_recording_is_said(cell: Any, message: str) -> None:
    prepared = modality().prepare([(tone(440), RATE), cell, None])
    assert prepared.errors.keys() == {1}
    assert message in prepared.errors[1]
    assert prepared.store.has.tolist() == [True, False, False]
    assert len(prepared.store.rows(np.array([0]))) == 1
    with pytest.raises(PollinateError):
        decode_audio(cell)


@pytest.mark.parametrize(
    "options",
    [{"hop": 0}, {"max_seconds": 0}, {"time_share": 1.0}, {"band_width": 17}, {"time_masks": -1}],
)
def test_wrong_options_are_refused(options: Any) -> None:
    with pytest.raises(UsageError, match=r"data\.audio"):
        modality(**options)


def lying_flac(samples: np.ndarray, frames: int) -> bytes:
    """A file whose header promises another number of frames (36 bits of STREAMINFO)."""
    content = wav(samples, kind="FLAC")
    known = int.from_bytes(content[18:26])
    return content[:18] + ((known >> 36 << 36) | frames).to_bytes(8) + content[26:]


@pytest.mark.parametrize("frames", [0, 1 << 20, (1 << 36) - 1])
def test_a_header_that_promises_too_much_costs_its_own_row(frames: int) -> None:
    whole = tone(440)
    prepared = modality().prepare([whole_file := wav(whole), lying_flac(whole, frames), whole_file])
    assert prepared.errors.keys() <= {1}
    assert prepared.store.has.tolist()[::2] == [True, True]


def test_rates_that_lie_cost_no_more_than_what_is_heard() -> None:
    given = AudioModality(rate=16000, mels=8, max_seconds=2.0)
    (found,) = [given.spectrogram(wav(tone(440), rate=1))]  # hours of sound, of which 2 s are heard
    assert len(found) == 201
    assert len(given.spectrogram((np.tile(tone(440), 50), 1))) == 201
    assert len(given.spectrogram(wav(tone(440), rate=999_983))) < 10
    with pytest.raises(PollinateError, match="<= 1,000,000 samples a second, got 2147483647"):
        given.spectrogram(wav(tone(440), rate=2**31 - 1))


@pytest.mark.parametrize(("rate", "wanted"), [(44100, 16000), (8000, 16000), (48001, 16000)])
def test_what_is_heard_does_not_depend_on_what_is_cut(rate: int, wanted: int) -> None:
    samples = np.random.default_rng(0).standard_normal(rate).astype(np.float32)
    length = wanted // 4
    short = samples[: samples_needed(length, rate, wanted)]
    assert len(short) < len(samples) / 3
    whole, cut = resample(samples, rate, wanted), resample(short, rate, wanted)
    assert np.array_equal(whole[:length], cut[:length])


def test_a_pipe_is_no_recording(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(PollinateError, match="must be an ordinary file, it is a named pipe"):
        decode_audio(tmp_path / "pipe.wav")
