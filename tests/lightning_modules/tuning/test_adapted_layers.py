"""Weights of layers with adapters in thin factors, against the dense ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import pollinate as po
from lightning_modules.encoders.timm_image import TimmImage
from lightning_modules.encoders.transformers_text import TransformersText
from lightning_modules.tuning.adapted_layers import AdaptedLayer, concatenated, truncated
from lightning_modules.tuning.base import CONFIG, PREFIX, WEIGHTS, PeftAdapter
from lightning_modules.tuning.dora import DoRA
from lightning_modules.tuning.lora import LoRA
from lightning_modules.tuning.task_lora import TaskLoRA
from pollinate.errors import PollinateError, UsageError
from tests.extras import needs
from tests.models import gpt2


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def lora(rank: int, seed: int, out: int = 6, inputs: int = 9) -> AdaptedLayer:
    return AdaptedLayer(drawn(rank, inputs, seed=seed), drawn(out, rank, seed=seed + 99))


def dora(rank: int, seed: int, frozen: Tensor) -> AdaptedLayer:
    thin = lora(rank, seed)
    return AdaptedLayer.decomposed(thin.down, thin.up, drawn(6, seed=seed + 7), frozen)


def test_dora_by_its_equation() -> None:
    frozen, thin, m = drawn(6, 9), lora(2, 1), drawn(6, seed=8)
    v = frozen + thin.up @ thin.down
    found = dora(2, 1, frozen)
    torch.testing.assert_close(found.weight(frozen), m[:, None] * v / v.norm(dim=1)[:, None])
    lengths, up = found.lengths(frozen)
    torch.testing.assert_close(lengths, m)
    torch.testing.assert_close(up, thin.up)


@pytest.mark.parametrize("transposed", [False, True])
def test_sums_are_exact(transposed: bool) -> None:
    frozen = drawn(6, 9)
    held = frozen.T.contiguous() if transposed else frozen
    layers = [lora(2, 1), dora(3, 2, frozen), lora(1, 3)]
    given = [AdaptedLayer(one.down, one.up, one.gain, transposed) for one in layers]
    weights = [0.5, -2.0, 1.5]
    total = frozen.clone()
    for layer, weight in zip(layers, weights, strict=True):
        total += weight * (layer.weight(frozen) - frozen)
    found = concatenated(given, weights)
    assert found.rank == 6
    torch.testing.assert_close(found.weight(held), total.T if transposed else total)
    lengths, up = found.lengths(held)
    again = AdaptedLayer.decomposed(found.down, up, lengths, held, transposed)
    torch.testing.assert_close(again.weight(held), total.T if transposed else total)


def test_a_row_that_is_taken_away_has_no_direction() -> None:
    frozen = torch.ones(6, 9)
    thin = lora(2, 1)
    one = AdaptedLayer(thin.down, thin.up, torch.full((6,), 2.0))
    with pytest.raises(UsageError, match=r"take all of a layer's row away, .*=task_arithmetic"):
        concatenated([one], [-1.0]).lengths(frozen)


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("count", [1, 4])
def test_the_nearest_of_a_rank(rank: int, count: int) -> None:
    """Also of factors of more rank than the matrix has."""
    frozen = drawn(6, 9)
    layers = [lora(3, seed) for seed in range(count)]
    whole = concatenated(layers, [1.0] * count)
    u, s, v = torch.linalg.svd(whole.up @ whole.down, full_matrices=False)
    found = truncated(whole, frozen, rank)
    assert found.rank == rank
    torch.testing.assert_close(
        found.up @ found.down, u[:, :rank] * s[:rank] @ v[:rank], atol=1e-4, rtol=0
    )
    torch.testing.assert_close(found.up.T @ found.up, found.down @ found.down.T, atol=1e-4, rtol=0)


def test_kernels() -> None:
    frozen = drawn(6, 2, 3, 3)
    one = AdaptedLayer(drawn(2, 2, 3, 3, seed=1), drawn(6, 2, seed=2))
    expected = frozen + torch.einsum("ri...,or->oi...", one.down, one.up)
    torch.testing.assert_close(one.weight(frozen), expected)
    adapter = PeftAdapter.of({"c": one}, {}, rank=3)
    assert adapter.weights["c.lora_B.weight"].shape == (6, 3, 1, 1)
    torch.testing.assert_close(adapter.layer("c", None).weight(frozen), expected)


def picture() -> TimmImage:
    torch.manual_seed(0)
    return TimmImage(3, 8, "test_resnet", weights=False)


def text(folder: Path) -> TransformersText:
    torch.manual_seed(0)
    return TransformersText(300, 8, str(gpt2(folder)), weights=False)


@needs("peft", "timm", "transformers")
@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("kind", [LoRA, DoRA, TaskLoRA])
@pytest.mark.parametrize("modality", ["image", "text"])
def test_sums_are_put_beside_the_layers_of_networks(
    kind: Any, modality: str, tmp_path: Path
) -> None:
    """Convolutions, and layers that hold W as (in, out), of which the last have no adapter."""

    def encoder() -> Any:
        return picture() if modality == "image" else text(tmp_path / "model")

    start = encoder().tuned_part().state_dict()
    some = "conv2" if modality == "image" else "c_attn"
    tunings = [kind(rank=2, alpha=3.0), kind(rank=3, targets=[some])]
    encoders, dense = [encoder(), encoder()], {name: one.clone() for name, one in start.items()}
    for place, (one, tuning) in enumerate(zip(encoders, tunings, strict=True)):
        tuning.apply(one, ["a"])
        for weight in one.tuned_part().parameters():
            if weight.requires_grad:
                weight.data += 0.1 * drawn(*weight.shape, seed=place)
        for name, value in tuning.merged(one, "a").items():
            if value.is_floating_point():
                dense[name] += [0.5, -1.5][place] * (value - start[name])
    layers = [t.layers(one, "a") for one, t in zip(encoders, tunings, strict=True)]
    assert len(layers[1]) < len(layers[0])
    found = {}
    for name in layers[0]:
        pairs = [(one[name], w) for one, w in zip(layers, [0.5, -1.5], strict=True) if name in one]
        found[name] = concatenated([one for one, _ in pairs], [w for _, w in pairs])
    result, tuning = encoder(), kind(rank=7, alpha=2.0)
    tuning.apply(result, ["a"])
    tuning.put(result, {"a": PeftAdapter.of(found, start, rank=7)})
    for name, value in tuning.merged(result, "a").items():
        torch.testing.assert_close(value, dense[name], rtol=0, atol=1e-5)
    last = layer_without(found)
    tuning.put(result, {"a": PeftAdapter.of(found, start, rank=7)})
    weight = tuning.merged(result, "a")[f"{last}.weight"]
    torch.testing.assert_close(weight, start[f"{last}.weight"], rtol=0, atol=1e-6)


def layer_without(layers: dict[str, AdaptedLayer]) -> str:
    """Take a layer out; return its name."""
    name = list(layers)[-1]
    del layers[name]
    return name


def test_what_peft_writes_is_read_with_its_scales(tmp_path: Path) -> None:
    """Of ranks and alphas by layer, and alpha / sqrt(r)."""
    weights = {
        "a.q.lora_A.weight": drawn(2, 9),
        "a.q.lora_B.weight": drawn(6, 2),
        "a.v.lora_A.weight": drawn(4, 9),
        "a.v.lora_B.weight": drawn(6, 4),
    }
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "alpha_pattern": {"v": 2}}
    config |= {"rank_pattern": {"v": 4}, "use_rslora": True}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    file = tmp_path / WEIGHTS
    save_file({f"{PREFIX}{name}": one for name, one in weights.items()}, file)
    found = PeftAdapter.read(tmp_path)
    assert (found.rank, found.alpha, found.layers) == (4, 4.0, ["a.q", "a.v"])
    for name, scale in (("a.q", 8 / 2**0.5), ("a.v", 2 / 2)):
        own = found.layer(name, None)
        product = scale * weights[f"{name}.lora_B.weight"] @ weights[f"{name}.lora_A.weight"]
        torch.testing.assert_close(own.up @ own.down, product)
    for wrong in ("a.lora_embedding_A", "b.lora_A.weight"):
        save_file({f"{PREFIX}{n}": v for n, v in {**weights, wrong: drawn(2, 9)}.items()}, file)
        with pytest.raises(UsageError, match=rf"nothing else, got LORA, {wrong[0]}"):
            PeftAdapter.read(tmp_path)
    file.unlink()
    with pytest.raises(PollinateError, match=r"weights must be a file that ends in"):
        PeftAdapter.read(tmp_path)
    with pytest.raises(PollinateError, match="a folder that peft wrote, with adapter_config"):
        PeftAdapter.read(tmp_path / "nowhere")


def test_folders_of_peft_are_merged_without_runs(tmp_path: Path) -> None:
    frozen = {"q.weight": drawn(6, 9)}
    folders, expected = {}, frozen["q.weight"].clone()
    for place, own in enumerate((dora(2, 1, frozen["q.weight"]), lora(3, 2))):
        folder = tmp_path / str(place)
        folder.mkdir()
        PeftAdapter.of({"q": own}, frozen).write(folder, None)
        folders[str(place)] = PeftAdapter.read(folder)
        expected += 0.5 * (own.weight(frozen["q.weight"]) - frozen["q.weight"])
    found = po.merging.AdapterConcat().merge_adapters(folders, frozen)
    assert (found.rank, found.decomposed) == (5, True)
    weight = found.layer("q", frozen["q.weight"]).weight(frozen["q.weight"])
    torch.testing.assert_close(weight, expected)
    with pytest.raises(UsageError, match=r"0 is an adapter by DoRA, .* the weight q.weight"):
        po.merging.AdapterConcat().merge_adapters(folders)
    other = {"0": PeftAdapter.of({"q": lora(1, 1)}, {})}
    other |= {"1": PeftAdapter.of({"q": lora(1, 1, inputs=7)}, {})}
    with pytest.raises(UsageError, match=r"adapters of q must be for .*\(6, 9\) and \(6, 7\)"):
        po.merging.AdapterConcat().merge_adapters(other)
    with pytest.raises(UsageError, match=r"rank must be <= 6, that of a layer, 6 x 9, got 7"):
        po.merging.TruncatedSVD(7).merge_adapters({"0": folders["1"]})
    with pytest.raises(UsageError, match=r"weights must be one for each of the 1 models"):
        po.merging.AdapterConcat([1, 1]).merge_adapters({"0": folders["1"]})
    with pytest.raises(UsageError, match=r"Concat merges adapters, which state dicts don't tell"):
        po.merging.AdapterConcat().merge_state_dicts({"a": frozen})


@needs("peft")
@pytest.mark.parametrize(("way", "rank"), [("cat", None), ("svd", 2)])
def test_as_pefts_own_merges_of_lora(way: str, rank: int | None) -> None:
    """Of other ranks and scales, concatenated and cut."""
    from peft import LoraConfig, get_peft_model

    network = torch.nn.Sequential(torch.nn.Linear(9, 6))
    configs = [LoraConfig(r=r, lora_alpha=a, target_modules=["0"]) for r, a in ((2, 3), (3, 9))]
    model = get_peft_model(network, configs[0], "one")
    model.add_adapter("two", configs[1])
    layer = model.base_model.model[0]
    adapters = {}
    for name, config in zip(("one", "two"), configs, strict=True):
        down, up = drawn(config.r, 9, seed=config.r), drawn(6, config.r, seed=config.r + 7)
        layer.lora_A[name].weight.data, layer.lora_B[name].weight.data = down, up
        weights = {"0.lora_A.weight": down, "0.lora_B.weight": up}
        adapters[name] = PeftAdapter(config.r, float(config.lora_alpha), 0.0, weights)
    model.add_weighted_adapter(["one", "two"], [0.7, 0.4], "both", way, svd_rank=rank)
    expected = layer.get_delta_weight("both")
    given = [0.7, 0.4]
    method: Any = (
        po.merging.AdapterConcat(given) if rank is None else po.merging.TruncatedSVD(rank, given)
    )
    own = method.merge_adapters(adapters).layer("0", None)
    torch.testing.assert_close(own.up @ own.down, expected.detach(), rtol=0, atol=1e-4)
