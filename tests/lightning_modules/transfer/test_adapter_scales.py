from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.source_models import SourceModel
from lightning_modules.transfer.adapter_scales import refuse_other_kinds, scale_factors
from lightning_modules.transfer.weight_matching import MatchedWeights, guess_mapping, match, shapes
from lightning_modules.tuning.routed_adapters import PLACE, LowRank
from pollinate.errors import UsageError

LAYER = "encoders.text.layer"


def lora(alpha: float, rank: int = 2, dora: bool = False) -> nn.Module:
    """A network with one linear layer and peft's adapter beside it, which says something."""
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(0)
    encoder = nn.ModuleDict({"layer": nn.Linear(4, 3)})
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["layer"], use_dora=dora)
    inject_adapter_in_model(config, encoder)
    nn.init.normal_(encoder["layer"].lora_B["default"].weight)
    return nn.ModuleDict({"encoders": nn.ModuleDict({"text": encoder})})


def source(network: nn.Module, **known: Any) -> SourceModel:
    return SourceModel("runs/a", "", network.state_dict(), load=pytest.fail, **known)


def own(alpha: float) -> dict[str, Any]:
    return {"spec": {"config": {"encoder": {"text": {"tune": {"alpha": alpha}}}}}}


def taken(network: nn.Module, there: SourceModel) -> MatchedWeights:
    found = match(shapes(network.state_dict()), shapes(there.weights), {})
    refuse_other_kinds(there, found.matched, found.missing, found.unexpected)
    return MatchedWeights(there, found, (), scale_factors(there, network, found.matched))


def answer(network: nn.Module) -> Tensor:
    layer = network.get_submodule(LAYER)
    return layer(torch.linspace(-1, 1, 8).reshape(2, 4)).detach()  # type: ignore[no-any-return]


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize(
    "known",
    [
        own(16.0),
        {"spec": None, "adapter": {"lora_alpha": 16}},
        {"spec": None, "adapter": {"lora_alpha": 16 / 2**0.5, "use_rslora": True}},
        {"spec": None, "adapter": {"lora_alpha": 1, "alpha_pattern": {"layer": 16}}},
    ],
)
def test_another_alpha_leaves_the_answers(dora: bool, known: dict[str, Any]) -> None:
    there, here = lora(16, dora=dora), lora(128, dora=dora)
    fit = taken(here, source(there, **known))
    here.load_state_dict({**here.state_dict(), **fit.weights()})
    torch.testing.assert_close(answer(here), answer(there))
    assert list(fit.factors.values()) == [pytest.approx(0.125)]
    assert any("scaled by 0.125" in line for line in fit.summary())


def test_the_same_alpha_is_taken_bit_for_bit() -> None:
    there = lora(16)
    fit = taken(lora(16), source(there, **own(16.0)))
    assert not fit.factors
    assert all(torch.equal(v, there.state_dict()[n]) for n, v in fit.weights().items())


def test_adapters_of_tasks_are_scaled_too() -> None:
    def network(alpha: float) -> nn.Module:
        layer = nn.Linear(4, 3)
        layer.add_module(
            PLACE, nn.ModuleDict({"own": nn.ModuleDict({"a": LowRank(layer, 2, alpha)})})
        )
        return nn.ModuleDict({"encoders": nn.ModuleDict({"text": nn.ModuleDict({"layer": layer})})})

    fit = taken(network(32), source(network(16), **own(16.0)))
    assert fit.factors == {f"{LAYER}.{PLACE}.own.a.up.weight": 0.5}


def test_an_adapter_of_another_rank_names_the_rank() -> None:
    class Encoded(nn.Module):
        def __init__(self, rank: int) -> None:
            super().__init__()
            self.encoders = lora(16, rank)["encoders"]

        def encoder(self, modality: str) -> Any:
            return SimpleNamespace(tuned_part=lambda: self.encoders[modality])

    here: Any = Encoded(rank=4)
    adapter = {
        f"base_model.model.{name.replace('.default', '')}": value.shape
        for name, value in lora(16, 2)["encoders"]["text"].state_dict().items()
        if "lora" in name
    }
    renamed = guess_mapping(here, adapter)
    found = match(shapes(here.state_dict()), adapter, renamed)
    assert not found.matched
    fit = MatchedWeights(source(lora(16, 2), spec=None), found)
    with pytest.raises(UsageError, match=r"Build this run .* \(encoder.text.tune.rank=2\)"):
        fit.refuse([])


def test_adapters_without_an_alpha_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no adapter_config.json .* give the folder"):
        taken(lora(16), source(lora(16), spec=None))


@pytest.mark.parametrize(
    ("here", "there", "message"),
    [
        (False, True, r"lora_magnitude_vector.* write encoder.text.tune=dora"),
        (True, False, r"no lengths apart.* write encoder.text.tune=lora"),
    ],
)
def test_dora_is_no_lora(here: bool, there: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        taken(lora(16, dora=here), source(lora(16, dora=there), **own(16.0)))


def test_adapters_of_tasks_are_not_lost() -> None:
    layer = nn.Linear(4, 3)
    plain = {"text": nn.ModuleDict({"layer": layer})}
    here = nn.ModuleDict({"encoders": nn.ModuleDict(plain)})
    weights = {
        **here.state_dict(),
        f"{LAYER}.{PLACE}.own.a.up.weight": torch.ones(3, 2),
        f"{LAYER}.{PLACE}.own.a.down.weight": torch.ones(2, 4),
    }
    with pytest.raises(UsageError, match=r"has none to take them; .*encoder.text.tune"):
        taken(here, SourceModel("runs/a", "", weights, own(16.0)["spec"], pytest.fail))
