import numpy as np
import pytest

from datamodules.counter_rng import uniforms

ROWS = np.arange(20_000)
EPOCH = np.zeros_like(ROWS)


def test_first_number_is_the_reference_streams() -> None:
    """A row's numbers are the SplitMix64 stream from its key, computed with Python integers."""

    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    gamma = 0x9E3779B97F4A7C15
    key = mix(gamma)
    assert key == 0xE220A8397B1DCDAF  # the published first output of SplitMix64 from state 0
    key = mix(((key ^ 7) + gamma) % 2**64)
    expected = [(mix((key + (j + 1) * gamma) % 2**64) >> 11) * 2.0**-53 for j in range(3)]
    assert uniforms(0, np.array([7]), count=3)[0].tolist() == expected


def test_moments_and_range() -> None:
    draws = uniforms(3, EPOCH, ROWS, count=4)
    assert draws.shape == (20_000, 4)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert draws.mean(axis=0) == pytest.approx(0.5, abs=0.01)
    assert draws.var(axis=0) == pytest.approx(1 / 12, abs=0.003)


def test_histogram_is_flat() -> None:
    counts, _ = np.histogram(uniforms(5, ROWS, count=1), bins=50, range=(0, 1))
    chi2 = ((counts - 400) ** 2 / 400).sum()
    assert chi2 < 95  # 49 degrees of freedom: p = 1e-4


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (uniforms(0, EPOCH, ROWS, count=1), uniforms(1, EPOCH, ROWS, count=1)),
        (uniforms(0, EPOCH, ROWS, count=1), uniforms(0, EPOCH + 1, ROWS, count=1)),
        (uniforms(0, EPOCH, ROWS, count=1), uniforms(0, EPOCH, ROWS + 1, count=1)),
        (uniforms(0, ROWS, count=2)[:, :1], uniforms(0, ROWS, count=2)[:, 1:]),
        (uniforms(0, ROWS, EPOCH + 1, count=1), uniforms(0, EPOCH + 1, ROWS, count=1)),
    ],
    ids=["seed", "epoch", "row", "column", "order of counters"],
)
def test_neighbours_are_independent(left: np.ndarray, right: np.ndarray) -> None:
    assert abs(np.corrcoef(left[:, 0], right[:, 0])[0, 1]) < 0.03


def test_depends_on_its_own_row_only() -> None:
    whole = uniforms(9, EPOCH, ROWS, count=8)
    assert np.array_equal(uniforms(9, EPOCH[5:6], ROWS[5:6], count=8), whole[5:6])
    assert np.array_equal(uniforms(9, EPOCH, ROWS, count=3), whole[:, :3])


def test_takes_any_integers() -> None:
    assert uniforms(-1, np.array([-1, 0]), count=2).shape == (2, 2)
    assert uniforms(2**80, np.array([], dtype=np.int64), count=2).shape == (0, 2)
