"""Adapters that a network never comes to are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_modules.callbacks.idle_adapters import sort_layers
from tests import models
from tests.pretrained_runs import train
from tests.rows.row import DATA

pytest.importorskip("transformers", reason="needs the extra encoders")


def test_a_layer_counts_by_any_of_its_namesakes() -> None:
    network = nn.ModuleDict(
        {
            block: nn.ModuleDict(
                {name: nn.ModuleDict({"adapters": nn.Linear(1, 1)}) for name in ("query", "key")}
            )
            for block in ("first", "second")
        }
    )
    network["second"]["query"]["adapters"](torch.ones(1, 1)).sum().backward()
    assert sort_layers(network) == (["key"], ["query"])


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # the library's own
@pytest.mark.parametrize("targets", ["null", "[q_proj]"])
def test_wavlm_reads_the_weights_of_its_attention_past_adapters(
    targets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = models.wav2vec2(tmp_path / "model") / "config.json"
    config = json.loads(file.read_text()) | {"model_type": "wavlm"}
    file.write_text(json.dumps(config))
    train(
        f"data={DATA / 'audio_folder.yaml'}",
        "encoder/audio=transformers",
        f"encoder.audio.model={tmp_path / 'model'}",
        "encoder.audio.weights=false",
        "encoder.audio.tune=task_lora",
        f"encoder.audio.tune.targets={targets}",
        "dim=8",
        "tracking=none",
        "trainer.max_steps=2",
        f"run_dir={tmp_path / 'run'}",
    )
    expected = {
        "null": "have no effect on k_proj, out_proj, q_proj, v_proj: the network doesn't call "
        "these layers; leave them out: encoder.audio.tune.targets=[gru_rel_pos_linear, "
        "intermediate_dense, output_dense]",
        "[q_proj]": "have no effect on q_proj: the network doesn't call these layers; name others",
    }
    assert capsys.readouterr().out.count(expected[targets]) == 1
