"""What a pre-trained audio model makes of samples before its network sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.checks import require


class ModelAudio:
    """A feature extractor of transformers, built from plain values.

    Args:
        settings: content of preprocessor_config.json; ``feature_extractor_type`` is its class.

    Attributes:
        rate: samples a second that it takes.

    Raises:
        UsageError: transformers isn't installed.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        require("transformers", "encoders")
        import transformers

        kind = getattr(transformers, settings["feature_extractor_type"])
        self._extract = kind(**{k: v for k, v in settings.items() if not k.endswith("_type")})
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
