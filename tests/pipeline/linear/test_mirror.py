import numpy as np
import torch

from pipeline.linear.mirror import flips_keep_labels


def bars(sides: np.ndarray) -> torch.Tensor:
    """Noisy pictures with a bright bar at the left (0), the right (1) or the bottom (2)."""
    pictures = np.random.default_rng(0).integers(0, 120, (len(sides), 3, 20, 16))
    pictures[sides == 0, :, :, :3] += 100
    pictures[sides == 1, :, :, -3:] += 100
    pictures[sides == 2, :, -3:, :] += 100
    return torch.from_numpy(pictures.astype(np.uint8))


def test_left_and_right_are_told_apart() -> None:
    sides = np.arange(200) % 3
    assert flips_keep_labels(bars(sides), sides) is False


def test_a_bar_at_the_bottom_may_be_flipped() -> None:
    sides = np.arange(200) % 3
    assert flips_keep_labels(bars(sides), (sides == 2).astype(np.int64)) is True
    sides[:50] = 0
    labels = np.where(np.arange(200) < 50, -1, sides == 2)  # rows without a label don't count
    assert flips_keep_labels(bars(sides), labels) is True


def test_what_a_linear_model_does_not_see_can_not_be_told() -> None:
    sides = np.arange(200) % 3
    assert flips_keep_labels(bars(sides), np.arange(200) // 2 % 2) is None
    assert flips_keep_labels(bars(sides), np.zeros(200, np.int64)) is None
    assert flips_keep_labels(bars(sides), np.full(200, -1)) is None
