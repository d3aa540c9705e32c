"""A linear chain over tags: how probable a row of tags is where neighbours depend on each other.

s(y) = b_(y_1) + sum_i z_(i, y_i) + sum_i A_(y_(i-1), y_i) + e_(y_L), p(y) = exp s(y) / Z. Scores z
are (N, W, C) of N rows, of which the first L <= W places are words; transitions are (C + 2, C): A,
then b of the first tag, then e of the last. Source: Lafferty, McCallum & Pereira 2001; on top of a
network, Lample et al. 2016, section 2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

MORE = 2  # rows of the transitions besides A


def log_partition(scores: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """Return log Z = log sum_y exp s(y), 0 for a row without words: (N,)."""
    found = (forward_messages(scores, transitions, lengths)[:, -1] + transitions[-1]).logsumexp(-1)
    return found.where(lengths > 0, 0.0)


def mean_score(scores: Tensor, transitions: Tensor, lengths: Tensor, shares: Tensor) -> Tensor:
    """Return the mean of s(y) where each word's tag is drawn by itself: (N,).

    Args:
        scores, transitions, lengths: of the chain.
        shares: (N, W, C), how probable each tag is, 0 beyond a row's last word.
    """
    places = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, shares.shape[-1])
    last = shares.gather(1, places)[:, 0]
    pairs = (shares[:, :-1] @ transitions[:-MORE] * shares[:, 1:]).sum(dim=(1, 2))
    ends = shares[:, 0] @ transitions[-MORE] + last @ transitions[-1]
    return (scores * shares).sum(dim=(1, 2)) + pairs + ends


def log_marginals(scores: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """Return log p(y_i = c) of each word, by messages from both sides: (N, W, C).

    Beyond a row's last word all tags are as probable.
    """
    before = forward_messages(scores, transitions, lengths)
    behind = backward_messages(scores, transitions, lengths)
    real = torch.arange(scores.shape[1], device=scores.device) < lengths[:, None]
    return (before + behind).masked_fill(~real[..., None], 0.0).log_softmax(dim=-1)


def forward_messages(scores: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """Return log of the summed exp s of all tags up to a word that end in each tag: (N, W, C).

    Beyond a row's last word stands what its last word has.
    """
    steps = LogProduct(transitions[:-MORE])
    found = [scores[:, 0] + transitions[-MORE]]
    for place in range(1, scores.shape[1]):
        new = steps(found[-1]) + scores[:, place]
        found.append(new.where(place < lengths[:, None], found[-1]))
    return torch.stack(found, dim=1)


def backward_messages(scores: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """Return log of the summed exp s of all tags behind a word of each tag: (N, W, C)."""
    steps = LogProduct(transitions[:-MORE].mT)
    found = [transitions[-1].expand(len(scores), -1)]
    for place in range(scores.shape[1] - 1, 0, -1):
        new = steps(found[-1] + scores[:, place])
        found.append(new.where(place < lengths[:, None], found[-1]))
    return torch.stack(found[::-1], dim=1)


WIDEST = 80.0  # exp(-80) is a normal number of 32 bits


class LogProduct:
    """log sum_i exp(a_i + M_ij).

    As long as M's numbers are less than 80 apart it is a product of matrices, with one exp a number
    and not one a pair: the largest a_i adds at least exp(-80) of the largest term, so that no sum
    is 0.

    Args:
        matrix: M, (C, K).
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        lowest, self.highest = matrix.detach().aminmax()
        self.near = bool(self.highest - lowest < WIDEST)
        self.factors = (matrix - self.highest).exp()

    def __call__(self, rows: Tensor) -> Tensor:
        """Return it for each of the rows a: (N, C) -> (N, K)."""
        if not self.near:
            return (rows[..., None] + self.matrix).logsumexp(dim=1)
        top = rows.detach().amax(dim=1, keepdim=True)
        return ((rows - top).exp() @ self.factors).log() + top + self.highest


def best_tags(scores: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """Return the most probable tags, beyond a row's last word anything: (N, W) int64 (Viterbi)."""
    stay = torch.arange(scores.shape[2], device=scores.device)
    best, origins = scores[:, 0] + transitions[-MORE], []
    for place in range(1, scores.shape[1]):
        found, origin = (best[..., None] + transitions[:-MORE]).max(dim=1)
        real = place < lengths[:, None]
        best = (found + scores[:, place]).where(real, best)
        origins.append(origin.where(real, stay))
    tags = [(best + transitions[-1]).argmax(dim=1)]
    for origin in reversed(origins):
        tags.append(origin.gather(1, tags[-1][:, None])[:, 0])
    return torch.stack(tags[::-1], dim=1)
