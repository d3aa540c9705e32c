"""Whether pictures keep their labels when left and right change."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SIDE = 12  # pixels
MOST = 2000  # pictures that are looked at
RIDGE = 0.05  # of the pixels' mean variance
SURE = 2.0  # standard errors


def flips_keep_labels(pictures: Tensor, labels: np.ndarray, seed: int = 0) -> bool | None:
    """Say whether a linear model knows the classes of flipped pictures as well as of others.

    A ridge regression on 12 x 12 grey pixels learns one half of the pictures and is asked for the
    other half as it is and flipped. With d_i = right as it is - right flipped, flips are harmless
    if mean(d) <= 2 se(d). Digits, letters and things that look to one side fail by far.

    Args:
        pictures: (N, C, H, W), pixels.
        labels: (N,) whole numbers, -1 where there is none.
        seed: of the halves.

    Returns:
        None: it can't be told, as the model isn't better than the most frequent class.
    """
    known = np.flatnonzero(labels >= 0)
    chosen = np.random.default_rng(seed).permutation(known)[:MOST]
    classes = np.unique(labels[chosen], return_inverse=True)[1]
    if len(chosen) < 4 or classes.max() < 1:
        return None
    targets = functional.one_hot(torch.from_numpy(classes)).float()
    grey = pictures[torch.from_numpy(chosen)].float().mean(1, keepdim=True) / 255
    small = functional.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True)[:, 0]
    halves = np.arange(len(chosen)) % 2 == 0
    plain, flipped, constant = np.zeros((3, len(chosen)))
    for learnt in (halves, ~halves):
        weights, mean = ridge(small[learnt].flatten(1), targets[learnt])
        asked, right = small[~learnt], classes[~learnt]
        for hits, given in ((plain, asked), (flipped, asked.flip(-1))):
            found = (given.flatten(1) - mean) @ weights + targets[learnt].mean(0)
            hits[~learnt] = found.argmax(1).numpy() == right
        constant[~learnt] = targets[learnt].sum(0).argmax().item() == right
    if not is_above(plain, constant):
        return None
    return not is_above(plain, flipped)


def ridge(rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (D, K) of the centred rows (N, D), and their mean (D,)."""
    mean = rows.mean(0)
    centred = rows - mean
    strength = RIDGE * centred.square().mean() * len(rows) + torch.finfo(rows.dtype).eps
    gramian = centred.mT @ centred + strength * torch.eye(rows.shape[1])
    return torch.linalg.solve(gramian, centred.mT @ (targets - targets.mean(0))), mean


def is_above(hits: np.ndarray, others: np.ndarray) -> bool:
    """Say whether the mean of pairs' differences is beyond what chance explains."""
    difference = hits - others
    error = difference.std() / np.sqrt(len(difference))
    return bool(difference.mean() > SURE * error)
