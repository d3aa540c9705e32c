"""A run whose tasks have adapters of their own, and what other libraries make of these."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from lightning_modules.checkpoints import read_checkpoint
from lightning_modules.encoders.cnn import CNN
from lightning_modules.encoders.transformer import Transformer
from lightning_modules.encoders.transformers_text import TransformersText
from lightning_modules.predictor import Predictor
from lightning_modules.routing import Routing
from lightning_modules.tuning.dora import DoRA
from lightning_modules.tuning.frozen import Frozen
from lightning_modules.tuning.lora import LoRA
from lightning_modules.tuning.task_lora import TaskLoRA
from pipeline.evaluate import main as evaluate
from pipeline.export import main as export
from pipeline.exporting import AdaptedEncoder, find_adapted_encoders, write_merged
from pipeline.serving.model_folder import DATA_FOLDER, REQUIREMENTS
from pipeline.serving.model_folder import export_model as serve
from pipeline.serving.pyfunc import _load_pyfunc
from pollinate.errors import UsageError
from tests.extras import needs
from tests.lightning_modules.tuning.test_task_lora import adapted
from tests.models import bert, gpt2, with_weights
from tests.pretrained_runs import pretrained, train

# peft's: of a name that transformers is giving up, and of the layers of GPT-2
pytestmark = [
    needs("transformers", "timm", "peft"),
    pytest.mark.filterwarnings(
        "ignore:.is_gradient_checkpointing. is deprecated", "ignore:fan_in_fan_out"
    ),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every type of task on titles and photos; ``run`` was stopped once, ``whole`` never."""
    root = tmp_path_factory.mktemp("routed")
    arguments = [
        *pretrained(root),
        "encoder.text.tune={name: task_lora, rank: 2, dropout: 0.1, shared_rank: 1}",
        "encoder.image.tune={name: task_lora, rank: 2}",
        "sampler.steps_per_epoch=2",
        "sampler.batch_size=8",
    ]
    train(*arguments, "trainer.max_steps=3", f"run_dir={root}/whole")
    train(*arguments, "trainer.max_steps=1", f"run_dir={root}/run")
    train(f"resume={root}/run", "trainer.max_steps=3")
    return root / "run"


def features(predictor: Predictor, modality: str, task: str, inputs: Tensor) -> Tensor:
    """What a task's adapters make of rows."""
    encoder = predictor.network.encoder(modality)
    with torch.inference_mode():
        assert encoder.routing is not None
        return encoder.routing.call(encoder, inputs, [(task, len(inputs))]).pooled


def last(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def test_a_resumed_run_has_the_very_same_weights(run: Path) -> None:
    whole = read_checkpoint(last(run.parent / "whole"))
    for key, value in read_checkpoint(last(run))["state_dict"].items():
        assert torch.equal(value, whole["state_dict"][key]), key


def test_evaluate(run: Path) -> None:
    assert evaluate([f"checkpoint={run}/checkpoints/best.ckpt", "split=test"]) == 0
    summary = json.loads((run / "summary.json").read_text())
    found = json.loads((run / "evaluation-test.json").read_text())
    assert found["scores"] == summary["test"]


def test_served_without_peft(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    serve(last(run), folder)
    assert "peft" not in (folder / REQUIREMENTS).read_text()
    answers = _load_pyfunc(str(folder / DATA_FOLDER)).predict(
        pd.DataFrame({"text": ["small red cup"]})
    )
    assert answers["size"].notna().all()


def test_the_adapter_of_a_task_in_peft(run: Path, tmp_path: Path) -> None:
    from peft import PeftModel  # here, as it takes a second
    from transformers import AutoModel

    predictor = Predictor.load(last(run))
    inputs = torch.tensor([[2, 5, 9, 3], [2, 7, 3, 0]])
    found = {}
    for task in ("size", "price"):
        out = tmp_path / task
        assert (
            export([f"checkpoint={last(run)}", f"task={task}", "modality=text", f"output={out}"])
            == 0
        )
        base = AutoModel.from_pretrained(run.parent / "model")
        predictor.network.encoder("text").network, own = (
            PeftModel.from_pretrained(base, out).eval(),
            predictor.network.encoder("text").network,
        )
        found[task] = predictor.network.encoder("text")(inputs).pooled
        predictor.network.encoder("text").network = own
        wanted = features(predictor, "text", task, inputs)
        torch.testing.assert_close(found[task], wanted, atol=1e-6, rtol=0)
    assert not torch.allclose(found["size"], found["price"], atol=1e-5)


def test_the_merged_text_model(run: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    arguments = [f"checkpoint={last(run)}", "task=size", "modality=text", f"output={tmp_path}/out"]
    assert export([*arguments, "merge=true"]) == 0
    model, report = AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert {name.partition(".")[0] for name in report["missing_keys"]} <= {"pooler"}
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out")(["small cup"], return_tensors="pt")
    predictor = Predictor.load(last(run))
    encoder = predictor.network.encoder("text")
    with torch.inference_mode():
        rows = encoder.project(model.eval()(**tokens).last_hidden_state.mean(dim=1))
    wanted = features(predictor, "text", "size", tokens["input_ids"])
    torch.testing.assert_close(rows, wanted, atol=1e-6, rtol=0)


def test_the_merged_image_model(run: Path, tmp_path: Path) -> None:
    import timm

    arguments = [f"checkpoint={last(run)}", "task=size", "modality=image", f"output={tmp_path}/out"]
    assert export([*arguments, "merge=true"]) == 0
    model = timm.create_model(f"local-dir:{tmp_path}/out", pretrained=True).eval()
    predictor = Predictor.load(last(run))
    encoder = predictor.network.encoder("image")
    pictures = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        rows = encoder.project(model((pictures - encoder.mean) / encoder.std))
    wanted = features(predictor, "image", "size", pictures)
    torch.testing.assert_close(rows, wanted, atol=1e-6, rtol=1e-5)


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    """The model, not to be changed."""
    return Predictor.load(last(run))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task=size"], r"there are encoders of image and text; say whose: modality="),
        (["task=sizes", "modality=text"], r"no task 'sizes'"),
        (["task=size", "modality=sound"], r"modality must be one with adapters, .* got sound"),
    ],
)
def test_errors(
    arguments: Sequence[str],
    message: str,
    run: Path,
    predictor: Predictor,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Predictor, "load", lambda *_: predictor)
    assert export([f"checkpoint={last(run)}", f"output={tmp_path}/out", *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_taken_out(run: Path, tmp_path: Path) -> None:
    encoder, tuning = Transformer(20, 16), TaskLoRA()
    tuning.apply(encoder, ["a"])
    with pytest.raises(UsageError, match=r"encoder.text is no model of another library, .*=false"):
        write_merged(AdaptedEncoder(encoder, tuning, "text", "a"), tmp_path)
    with pytest.raises(UsageError, match="the run trained no adapters"):
        Frozen().adapter(encoder, "a")
    predictor = Predictor.load(last(run))
    predictor.network.tunings = {"text": Frozen()}
    with pytest.raises(UsageError, match="the run trained no adapters"):
        find_adapted_encoders(predictor, "size", None)


def test_nothing_is_overwritten_unasked(run: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    arguments = [f"checkpoint={last(run)}", "task=size", "modality=text", f"output={tmp_path}"]
    assert export(arguments) == 2
    assert "output must be a new or empty folder" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    assert export([*arguments, "overwrite=true"]) == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", [LoRA, DoRA, TaskLoRA])
@pytest.mark.parametrize("model", [bert, gpt2])
def test_every_kind_of_adapter(kind: Any, model: Any, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    folder = with_weights(model(tmp_path / "model"))
    encoder = TransformersText(85 if model is bert else 300, 8, str(folder))
    encoder.load()
    tuning = kind(rank=2, alpha=3.0)
    adapted(encoder, tuning, ["a", "b"])
    ids = torch.tensor([[2, 5, 9, 3]])
    if encoder.routing is not None:
        wanted = encoder.routing.call(encoder, ids, [("b", 1)]).pooled
    else:
        wanted = encoder(ids).pooled
    tuning.adapter(encoder, "b").write(tmp_path, None)
    merged = tuning.merged(encoder, "b")
    plain = TransformersText(85 if model is bert else 300, 8, str(folder)).eval()
    plain.project.load_state_dict(encoder.project.state_dict())
    plain.network.load_state_dict(merged)
    torch.testing.assert_close(plain(ids).pooled, wanted, atol=1e-6, rtol=1e-5)
    plain.network = PeftModel.from_pretrained(AutoModel.from_pretrained(folder), tmp_path)
    torch.testing.assert_close(plain.eval()(ids).pooled, wanted, atol=1e-6, rtol=1e-5)
    shutil.rmtree(folder)


@pytest.mark.parametrize(("routing", "whose"), [(None, "all tasks"), (Routing(), "a")])
def test_what_is_written_is_said_to_be_of_those_who_have_it(routing: Any, whose: str) -> None:
    encoder = CNN(3, 8)
    encoder.routing = routing
    assert AdaptedEncoder(encoder, LoRA(), "image", "a").whose == whose
