"""The largest batch that fits into a given memory."""

from __future__ import annotations

import copy

from datamodules.mixed import MixedDataModule
from pipeline.errors import PollinateError
from pipeline.planning.cost import Estimate
from pipeline.planning.sizes import in_bytes

TRIES = 8
CLOSE = 0.97  # of the memory, which is as near as a search need come


def largest_batch(estimate: Estimate, limit: int) -> int:
    """Return the largest ``sampler.batch_size``, rows over all devices, that fits.

    Memory grows with the rows nearly as a straight line: each try is where the line through the
    last two meets the limit.

    Args:
        estimate: tells the memory of any size.
        limit: bytes of each device.

    Raises:
        PollinateError: the smallest batch doesn't fit.
    """
    data = estimate.data
    low = max(len(data.sizes), 1) * estimate.devices
    needed = needs(estimate, low)
    if needed > limit:
        raise PollinateError(too_small(estimate, limit, needed))
    high, most = low, needed
    beyond: int | None = None
    tried = max(2 * low, data.sampler.batch_size)
    for _ in range(TRIES):
        found = needs(estimate, tried)
        if found <= limit:
            high, most = tried, found
        else:
            beyond = tried
        if most >= CLOSE * limit or (beyond is not None and beyond - high <= estimate.devices):
            break
        slope = (found - needed) / (tried - low) if tried > low else 0
        tried = next_try(high, beyond, round(low + (limit - needed) / slope) if slope > 0 else None)
    return high - high % estimate.devices


def next_try(fits: int, beyond: int | None, guess: int | None) -> int:
    """Return a size above one that fits and below one that doesn't, near the guess."""
    if guess is None:
        return 4 * fits
    if beyond is None:
        return max(fits + 1, guess)
    return min(max(fits + 1, guess), beyond - 1) if beyond - fits > 1 else fits


def needs(estimate: Estimate, rows: int) -> int:
    """Return the bytes that a step of so many rows over all devices needs."""
    return estimate.memory(counts_for(estimate.data, rows)).total


def counts_for(data: MixedDataModule, rows: int) -> dict[str, int]:
    """Return {data set: rows} of a step of another size."""
    sampler = copy.copy(data.sampler)
    sampler.batch_size = rows
    return sampler.counts(data.sizes)


def too_small(estimate: Estimate, limit: int, needed: int) -> str:
    """Return what to say when not even one row of each data set fits."""
    sharding = "" if estimate.setting.sharded else ", trainer.strategy=fsdp2 on several devices"
    return (
        f"memory must be at least {in_bytes(needed)}, which one row of each data set needs on each "
        f"device, got {in_bytes(limit)}; try encoder.MODALITY.checkpointing=true, "
        f"encoder.MODALITY.tune=frozen or lora{sharding}, or a smaller model"
    )
