"""Any image model of timm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lightning_modules.encoders.names.base import Names
from lightning_modules.encoders.places import local_copy
from lightning_modules.encoders.pretrained import PretrainedEncoder
from lightning_modules.encoders.timm_models import (
    COLOURS,
    adapted,
    create,
    described,
    download,
    grouped,
    save_model,
    weight_file,
)
from lightning_modules.encoders.weight_files import read_weights
from lightning_modules.encoders.weight_fit import load_fitting
from lightning_modules.features import Features
from lightning_modules.tuning.blocks import Groups
from pipeline.checks import require
from pipeline.errors import UsageError


class TimmImage(PretrainedEncoder):
    """A network of timm without its classifier: pooled = W pool(f((x - mean) / std)).

    W is learnt, and left out if the widths agree. mean and std are those that the network was
    trained with. Grey pictures get three equal channels. Source: Wightman 2019, "PyTorch image
    models". A batch of fewer than two pictures has no statistics of its own, so BatchNorm goes by
    its running ones there.

    Args:
        in_channels: 1 or 3.
        dim: width D of the features.
        model: a name of timm, an id of a hub (``hf-hub:USER/NAME``), or a local folder.
        weights: whether the model's weights are loaded; False: start from scratch.
        file: a local file of its weights; None: from where the model is.
        names: translates the file's names of weights; None: they are timm's.
        checkpointing: compute again in the backward pass instead of keeping: less memory, slower.
        stride: 8 or 16: pixels of a cell of the grid along a side, finer than usual, for tasks that
            label pixels; strides beyond become dilations (Yu and Koltun 2016). None: as it is.
        size: height and width of the pictures, which some networks must know.
        brought: what ``brings`` returned in the run that made a checkpoint; None: ask the model.

    Raises:
        UsageError: timm isn't installed, or the model can't do what is asked.
    """

    needs: ClassVar[tuple[str, ...]] = ("timm", "safetensors")
    network: Any  # timm's classes have no common type
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_channels: int,
        dim: int,
        model: str,
        weights: bool = True,
        file: str | None = None,
        names: Names | None = None,
        checkpointing: bool = False,
        stride: int | None = None,
        size: Sequence[int] | None = None,
        brought: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.known = known = brought or self.brings({"model": model})
        self.dim = dim
        self.model, self.weights, self.file, self.names = model, weights, file, names
        self.network = create(known, size, stride)
        if checkpointing:
            self.network.set_grad_checkpointing(True)
        width = self.network.head_hidden_size
        self.project = nn.Identity() if width == dim else nn.Linear(width, dim)
        cells = (
            self.network.num_features
        )  # some networks widen their features before the classifier
        self.project_cells = None if cells == width else nn.Linear(cells, dim)
        for name in ("mean", "std"):
            values = torch.tensor(known[name], dtype=torch.float32)
            self.register_buffer(name, values[:, None, None], persistent=False)

    @classmethod
    def brings(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return architecture, arguments, and size, mean and std of the pictures.

        Raises:
            PollinateError: timm knows no such model, or the folder holds none.
            UsageError: timm isn't installed.
        """
        require("timm", "encoders")
        model = options["model"]
        found = described(local_copy(model), model)
        settings = found["pretrained"]
        return {
            "architecture": found["architecture"],
            "arguments": found["arguments"],
            "size": list(settings["input_size"])[1:],
            "fixed": bool(settings.get("fixed_input_size")),
            "mean": list(settings["mean"]),
            "std": list(settings["std"]),
        }

    def load(self) -> None:
        """Load the weights of the file, of the folder, or of timm's hub."""
        if not self.weights:
            return
        path = weight_file(self.model, self.file)
        weights = download(self.model) if path is None else read_weights(path)
        if self.names is not None:
            weights = {self.names(name): value for name, value in weights.items()}
        load_fitting(self.network, adapted(weights, self.network), path or self.model)

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write config.json and model.safetensors, as timm does for a hub."""
        save_model(folder, self.known, weights)

    def tuned_part(self) -> nn.Module:
        """Return timm's network."""
        network: nn.Module = self.network
        return network

    def tuned_groups(self) -> Groups:
        """Return the parameters by timm's own division of the network."""
        return grouped(self.network)

    def backbone(self, inputs: Tensor) -> Features:
        """Encode (N, C, H, W) pictures of [0, 1]: pooled (N, D1) and grid (N, D2, H', W').

        Raises:
            UsageError: the network can't divide pictures of that size into its patches.
        """
        if not len(inputs):
            # a network needs a picture; every process must reach the same parameters all the same
            blank = self.backbone(inputs.new_zeros((1, *inputs.shape[1:])))
            return Features(blank.pooled[:0], grid=None if blank.grid is None else blank.grid[:0])
        pictures = (inputs.expand(-1, COLOURS, -1, -1) - self.mean) / self.std
        # colours innermost: convolutions keep it so, and take two thirds of the time on a CPU
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with running_statistics(self.network, len(inputs) < 2):
            try:
                found = self.network.forward_features(pictures)
            except AssertionError as error:  # timm's patches check what they are given
                height, width = inputs.shape[-2:]
                raise UsageError(
                    f"timm refuses pictures of {height} x {width}: {error} Set data.image.size"
                ) from error
        pooled = self.network.forward_head(found, pre_logits=True)
        cells = as_cells(found, self.network)
        return Features(pooled, grid=None if cells is None else cells.movedim(-1, 1))

    def finish(self, features: Features) -> Features:
        """Project pooled vectors and cells to D."""
        grid = features.grid
        if grid is not None:
            project = self.project if self.project_cells is None else self.project_cells
            grid = project(grid.movedim(1, -1)).movedim(-1, 1)
        return Features(self.project(features.pooled), grid=grid)


@contextmanager
def running_statistics(network: nn.Module, wanted: bool) -> Iterator[None]:
    """Let norms over the batch go by their running statistics, if wanted."""
    norms = [m for m in network.modules() if isinstance(m, _NormBase) and m.training]
    for norm in norms if wanted else ():
        norm.eval()
    try:
        yield
    finally:
        for norm in norms if wanted else ():
            norm.train()


def as_cells(found: Any, network: Any) -> Tensor | None:
    """Return features as a grid (N, H, W, D), None if the network has none that is known.

    Args:
        found: (N, D, H, W), (N, H, W, D), or (N, L, D) with tokens before the grid's; some networks
            have several of these.
        network: of timm.
    """
    if not isinstance(found, Tensor):
        return None
    width = network.num_features
    if found.ndim == 4:
        return found.movedim(1, -1) if found.shape[1] == width else found
    if found.ndim != 3:
        return None
    sides = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    if sides is None:
        return None
    cells = found[:, getattr(network, "num_prefix_tokens", 0) :]
    rows, columns = sides
    fits = cells.shape[1] == rows * columns
    return cells.reshape(len(cells), rows, columns, -1) if fits else None
