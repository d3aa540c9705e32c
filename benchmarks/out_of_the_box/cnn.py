"""What a plain network reaches on pictures and recordings: three layers, as in many a first lesson.

    python -m benchmarks.out_of_the_box.cnn TASK_FILE TASK SEED OUTPUT.json

It learns from all rows that aren't test rows, and is never tuned.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.mixed_datamodule import MixedDataModule
from datamodules.split_dataset import SplitDataset
from pipeline.build import build_datamodule
from pipeline.configuration.composition import compose
from pollinate.files import write_json

SIZE = 32  # pixels, height and width
WIDTHS = (32, 64, 128)
EPOCHS, BATCH, RATE = 8, 64, 1e-3
SAMPLE = 1000  # training rows by which inputs are brought to mean 0 and deviation 1
MODALITIES = ("image", "audio")  # that it can read
LONGEST = 0.99  # share of the training recordings that aren't cut

Read = Callable[[np.ndarray], Tensor]  # numbers of rows (n,) -> (n, channels, height, width)


class Standardise(nn.Module):
    """(x - mean) / deviation of these training inputs (n, channels, height, width), by channel."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        deviation, self.mean = torch.std_mean(inputs, (0, 2, 3), keepdim=True)
        self.deviation = deviation.clamp(min=1e-6)

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.deviation


def network(inputs: Tensor, classes: int) -> nn.Sequential:
    """Return (n, channels, height, width) -> (n, classes), for inputs like these of training."""
    _, channels, *size = inputs.shape
    layers: list[nn.Module] = [Standardise(inputs)]
    for width in WIDTHS:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        channels = width
    cells = math.prod(length // 2 ** len(WIDTHS) for length in size)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * cells, classes))


def train(read: Read, rows: np.ndarray, targets: Tensor, classes: int, seed: int) -> nn.Sequential:
    """Return a network that has learnt targets (n,) of rows (n,) with Adam and cross-entropy."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        order = torch.randperm(len(rows))
        model = network(read(rows[order[:SAMPLE].numpy()]), classes)
        optimizer = torch.optim.Adam(model.parameters(), RATE)
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(rows)).split(BATCH):
                loss = functional.cross_entropy(model(read(rows[chosen.numpy()])), targets[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model


@torch.no_grad()
def accuracy(model: nn.Sequential, read: Read, rows: np.ndarray, targets: Tensor) -> float:
    model.eval()
    batches = np.array_split(rows, max(1, len(rows) // BATCH))
    found = torch.cat([model(read(own)).argmax(1) for own in batches])
    return (found == targets).double().mean().item()


def reader(part: SplitDataset) -> Read:
    """Return what gives pictures, or spectrograms as grey pictures: frequency down, time across."""
    modality = next(one for one in MODALITIES if one in part.stores)
    store = part.stores[modality]
    if modality == "image":
        return store.rows
    lengths = [store.rows(part.rows[i : i + 1]).shape[1] for i in range(part.size)]
    length = max(int(np.quantile(lengths, LONGEST)), 2 ** len(WIDTHS))

    def read(rows: np.ndarray) -> Tensor:
        frames = store.rows(rows)[:, :length].nan_to_num(0.0)  # 0: a recording's mean
        return functional.pad(frames, (0, 0, 0, length - frames.shape[1])).mT[:, None]

    return read


def labelled(data: MixedDataModule, task: str, split: str) -> tuple[np.ndarray, Tensor]:
    """Return the rows of a split that have a label, and these: (n,) each."""
    (dataset,) = data.tasks[task].datasets
    part = data.parts[split][dataset]
    return part.rows[part.present[task].numpy()], torch.cat(list(part.labels(task)))


def cnn_accuracy(file: Path, task: str, seed: int) -> float:
    """Return the test accuracy for one task of a task file."""
    config = compose("fit", [f"data={file}", f"data.image.size=[{SIZE},{SIZE}]"])
    data = build_datamodule(config)
    data.setup()
    (dataset,) = data.tasks[task].datasets
    read = reader(data.parts["train"][dataset])
    known = [labelled(data, task, split) for split in ("train", "valid")]
    rows = np.concatenate([own for own, _ in known])
    targets = torch.cat([own for _, own in known])
    model = train(read, rows, targets, len(data.tasks[task].classes), seed)
    return accuracy(model, read, *labelled(data, task, "test"))


def main(arguments: Sequence[str]) -> None:
    file, task, seed, output = arguments
    began = time.perf_counter()
    score = cnn_accuracy(Path(file), task, int(seed))
    found = {"test": {task: {"accuracy": score}}, "seconds": time.perf_counter() - began}
    found["status"] = "finished"
    write_json(Path(output), found)


if __name__ == "__main__":
    main(sys.argv[1:])
