"""What transformers and peft make of a language model that was trained here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.encoders.language_model import Decoding, LanguageModel
from lightning_modules.tuning.dora import DoRA
from lightning_modules.tuning.full import Full
from lightning_modules.tuning.lora import LoRA
from lightning_modules.tuning.task_lora import TaskLoRA
from pipeline.exporting import AdaptedEncoder, common_options, write_encoders
from tests.extras import needs
from tests.lightning_modules.encoders.test_language_model import asked
from tests.lightning_modules.tuning.test_task_lora import adapted
from tests.models import gpt2, llama, t5

pytestmark = [
    needs("transformers", "peft"),
    pytest.mark.filterwarnings(
        "ignore:.is_gradient_checkpointing. is deprecated", "ignore:fan_in_fan_out"
    ),
]
IDS = torch.tensor([[7, 8, 9, 20], [11, 12, 13, 14]])


def trained(folder: Path, maker: Any, tuning: Any) -> LanguageModel:
    torch.manual_seed(0)
    model = LanguageModel(258, 16, str(maker(folder)), weights=False)
    return adapted(model, tuning, ["a", "b"]).eval()


def logits_of(model: Any) -> Tensor:
    more = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        found: Tensor = model.eval()(input_ids=IDS, **more).logits
    return found


def own_logits(model: LanguageModel, task: str) -> Tensor:
    with torch.inference_mode(), model._assigned([(task, len(IDS))], IDS.device):
        return logits_of(model.network)


def auto(model: LanguageModel) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if model.separate else AutoModelForCausalLM


@pytest.mark.parametrize("maker", [llama, gpt2, t5])
@pytest.mark.parametrize("kind", [LoRA, DoRA, TaskLoRA])
def test_the_same_logits(maker: Any, kind: Any, tmp_path: Path) -> None:
    from peft import PeftModel

    tuning = kind(rank=2, alpha=3.0)
    model = trained(tmp_path / "model", maker, tuning)
    tasks = ["a", "b"] if model.routing is not None else ["b"]
    found = [
        AdaptedEncoder(model, tuning, "text", t, Decoding(7, beams=2).options()) for t in tasks
    ]
    for merge in (True, False):
        out = tmp_path / f"merged-{merge}"
        out.mkdir()
        lines = write_encoders(found, out, merge)
        assert len(lines) == len(tasks)
        place = out / "b" if len(tasks) > 1 else out
        if merge:
            loaded = auto(model).from_pretrained(place)
        else:
            torch.manual_seed(0)  # the start of the weights
            start = LanguageModel(258, 16, str(tmp_path / "model"), weights=False)
            loaded = PeftModel.from_pretrained(start.network, place)
        torch.testing.assert_close(logits_of(loaded), own_logits(model, "b"), rtol=1e-5, atol=1e-5)
        known = json.loads((place / "generation_config.json").read_text())
        assert (known["max_new_tokens"], known["num_beams"]) == (7, 2)
        assert known["eos_token_id"] == model.end


def test_a_model_without_adapters_and_its_chat(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = trained(tmp_path / "model", llama, Full())
    write_encoders([AdaptedEncoder(model, Full(), "text", "a")], tmp_path, merge=True)
    torch.testing.assert_close(
        logits_of(auto(model).from_pretrained(tmp_path)), own_logits(model, "a")
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    said = [{"role": "user", "content": "hi"}]
    found = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    assert found == "<user>hi<model>"
    assert tokenizer.eos_token_id == model.end
    again = LanguageModel(258, 16, str(tmp_path))  # here, too
    again.load()
    torch.testing.assert_close(own_logits(again.eval(), "a"), own_logits(model, "a"))
    prompts = asked(model)
    torch.testing.assert_close(
        again(None, [prompts]).logits[0], model(None, [prompts]).logits[0], rtol=1e-5, atol=1e-6
    )


def test_options_that_several_tasks_have_alike() -> None:
    one, other = Decoding(5, beams=2).options(), Decoding(9, beams=3).options()
    assert common_options([{}, one, other]) == {"max_new_tokens": 9, "do_sample": False}
    assert common_options([{}]) == {}
