"""Weights from a file, without running anything that is in it."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import PollinateError

SAFE = ".safetensors"
SUFFIXES = (SAFE, ".pth", ".pt", ".bin")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return {name: tensor}.

    Raises:
        PollinateError: it is no file of weights, or a pickle that holds more than tensors.
    """
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise PollinateError(
            f"weights must be a file that ends in {', '.join(SUFFIXES)}, got {path}"
        )
    try:
        if path.suffix == SAFE:
            from safetensors.torch import load_file  # only a model of another library needs it

            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise PollinateError(
            f"{path} holds more than tensors, which could run code; save its weights alone, best "
            "with safetensors.torch.save_file"
        ) from error
    except Exception as error:  # a torn file can fail in any way in a reader
        raise PollinateError(f"the weights of {path} can't be read: {error}") from error
    weights = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(weights, dict) or not all(torch.is_tensor(v) for v in weights.values()):
        raise PollinateError(f"{path} must hold {{name: tensor}}, got {type(found).__name__}")
    return weights
