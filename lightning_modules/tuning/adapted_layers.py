"""The weight that a layer makes with its adapter, in thin factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pollinate.errors import UsageError


@dataclass(frozen=True)
class AdaptedLayer:
    """diag(g) W + B A beside a frozen weight W; sums of such weights are such weights.

    down: A (r, in, ...).
    up: B (out, r), with all scales in it.
    gain: g (out,), what the lengths of DoRA make of W's rows; None: 1 each.
    transposed: whether the layer holds W as (in, out).
    """

    down: Tensor
    up: Tensor
    gain: Tensor | None = None
    transposed: bool = False

    @classmethod
    def decomposed(
        cls, down: Tensor, up: Tensor, lengths: Tensor, frozen: Tensor, transposed: bool = False
    ) -> AdaptedLayer:
        """Return diag(m / ||V||) V, V = W + B A, the norms of its rows (DoRA).

        Args:
            down, up, transposed: as there.
            lengths: m (out,).
            frozen: W, as the layer holds it.
        """
        direction = cls(down, up, None, transposed).matrix(frozen)
        gain = lengths.to(direction.dtype) / torch.linalg.vector_norm(direction, dim=1)
        return cls(down, gain[:, None] * up, gain, transposed)

    @property
    def rank(self) -> int:
        """r."""
        return len(self.down)

    def matrix(self, frozen: Tensor) -> Tensor:
        """Return diag(g) W + B A: (out, in), in 32 bits or more."""
        start = as_matrix(frozen, self.transposed)
        kind = start.dtype
        scaled = start if self.gain is None else self.gain.to(kind)[:, None] * start
        return torch.addmm(scaled, self.up.to(kind), self.down.flatten(1).to(kind))

    def weight(self, frozen: Tensor) -> Tensor:
        """Return diag(g) W + B A as the layer would hold it, in W's own type."""
        return from_matrix(self.matrix(frozen), frozen, self.transposed)

    def lengths(self, frozen: Tensor) -> tuple[Tensor, Tensor]:
        """Return (m (out,), B (out, r)) with which diag(m / ||V||) V, V = W + B A, is this weight.

        Raises:
            UsageError: nothing of a row of W is left, which no direction V has.
        """
        if self.gain is None:
            return torch.linalg.vector_norm(self.matrix(frozen), dim=1), self.up
        if not self.gain.all():
            raise UsageError(
                "the weights of adapters of tune=dora take all of a layer's row away, which no "
                "such adapter can: choose other weights, or write whole weights: "
                "method=task_arithmetic"
            )
        up = self.up / self.gain[:, None]
        direction = replace(self, up=up, gain=None).matrix(frozen)
        return self.gain * torch.linalg.vector_norm(direction, dim=1), up


def as_matrix(weight: Tensor, transposed: bool = False) -> Tensor:
    """Return a layer's weight as (out, in), in 32 bits or more."""
    flat = weight.T if transposed else weight.flatten(1)
    return flat.to(torch.promote_types(weight.dtype, torch.float32))


def from_matrix(matrix: Tensor, like: Tensor, transposed: bool = False) -> Tensor:
    """Return a matrix (out, in) as the layer holds its weight, in the type of that."""
    shaped = matrix.T if transposed else matrix.reshape(like.shape)
    return shaped.to(like.dtype).contiguous()


def concatenated(layers: Sequence[AdaptedLayer], weights: Sequence[float]) -> AdaptedLayer:
    """Return W + sum_i w_i (W_i - W) of W_i = diag(g_i) W + B_i A_i, exactly.

    A = [A_1; ...; A_k], B = [w_1 B_1, ..., w_k B_k], g = 1 + sum_i w_i (g_i - 1).

    Args:
        layers: beside one W, >= 1.
        weights: w_i.
    """
    pairs = list(zip(layers, weights, strict=True))
    down = torch.cat([one.down for one in layers])
    up = torch.cat([weight * one.up for one, weight in pairs], dim=1)
    shifts = [weight * (one.gain - 1) for one, weight in pairs if one.gain is not None]
    gain = 1 + torch.stack(shifts).sum(dim=0) if shifts else None
    return AdaptedLayer(down, up, gain, layers[0].transposed)


def truncated(layer: AdaptedLayer, frozen: Tensor | None, rank: int) -> AdaptedLayer:
    """Return the adapter of a rank whose change of W is nearest to a layer's, B' A' = [..]_r.

    Of B A without g it is found by Q R decompositions of the two factors and the singular values
    of the small R_B R_A^T. With g the change (diag(g) - 1) W + B A has any rank.

    Args:
        layer: diag(g) W + B A.
        frozen: W, needed with g.
        rank: r, 1 <= r <= min(out, in).
    """
    if layer.gain is not None:
        assert frozen is not None
        change = layer.matrix(frozen) - as_matrix(frozen, layer.transposed)
        return truncated_change(change, layer.down, layer.transposed, rank)
    up_q, up_r = torch.linalg.qr(layer.up.double())
    down_q, down_r = torch.linalg.qr(layer.down.flatten(1).double().T)
    u, s, vt = torch.linalg.svd(up_r @ down_r.T, full_matrices=False)
    return balanced(up_q @ u, s, vt @ down_q.T, layer.down, layer.transposed, rank)


def truncated_change(change: Tensor, like: Tensor, transposed: bool, rank: int) -> AdaptedLayer:
    """Return the adapter of a rank that is nearest to a change of W: (out, in).

    Args:
        change: of any rank.
        like: an A, whose form and type the result's has.
        transposed: as in ``AdaptedLayer``.
        rank: r, 1 <= r <= min(out, in).
    """
    u, s, vt = torch.linalg.svd(change.double(), full_matrices=False)
    return balanced(u, s, vt, like, transposed, rank)


def balanced(
    u: Tensor, s: Tensor, vt: Tensor, like: Tensor, transposed: bool, rank: int
) -> AdaptedLayer:
    """Return B = U S^1/2 and A = S^1/2 V^T of the leading values, filled up with zeros."""
    roots = s[:rank].sqrt()
    down = (roots[:, None] * vt[:rank]).reshape(-1, *like.shape[1:]).to(like.dtype)
    up = (u[:, :rank] * roots).to(like.dtype)
    return filled(AdaptedLayer(down, up, None, transposed), rank)


def filled(layer: AdaptedLayer, rank: int) -> AdaptedLayer:
    """Return the same with zeros up to a larger rank."""
    missing = rank - layer.rank
    if not missing:
        return layer
    down = torch.cat([layer.down, layer.down.new_zeros(missing, *layer.down.shape[1:])])
    up = torch.cat([layer.up, layer.up.new_zeros(len(layer.up), missing)], dim=1)
    return replace(layer, down=down, up=up)
