import torch

from lightning_modules.encoders.pooling import attended_mean, masked_max, masked_mean

ROWS = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [100.0, 100.0]]])
MASK = torch.tensor([[True, True, False]])


def test_mean() -> None:
    assert masked_mean(ROWS, MASK).tolist() == [[2.0, -6.0]]
    assert masked_mean(ROWS, torch.zeros_like(MASK)).tolist() == [[0.0, 0.0]]


def test_max_of_negative_values() -> None:
    assert masked_max(ROWS, MASK).tolist() == [[3.0, -5.0]]


def test_attended_mean() -> None:
    scores = torch.tensor([[0.0, 3.0, 50.0]]).log()  # weights 0 : 3, the third is padding
    assert attended_mean(ROWS, scores, MASK).tolist() == [[3.0, -7.0]]
