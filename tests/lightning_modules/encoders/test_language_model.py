"""Language models: as plain transformers has them, whatever stands beside a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lightning_modules.encoders.language_model import (
    AnsweredPrompts,
    Decoding,
    LanguageModel,
    compose,
    pad_left,
)
from lightning_modules.tuning.task_lora import TaskLoRA
from pollinate.errors import PollinateError
from tests.models import bert, gpt2, llama, roberta, t5

PROMPTS = ([7, 8, 9, 20, 21], [11, 12], [30, 31, 32, 33, 34, 35, 36, 37])  # the models' own ids
ANSWERS = ([40, 41, 42], [50, 51, 52, 53, 54], [60])
Maker = Callable[[Path], Path]


def language_model(folder: Path, maker: Maker, seed: int = 0) -> LanguageModel:
    torch.manual_seed(seed)
    return LanguageModel(258, 16, str(maker(folder)), weights=False).eval()


def padded(rows: Sequence[Sequence[int]], padding: int, shift: int = 0) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) + shift for row in rows], batch_first=True, padding_value=padding
    )


def asked(
    model: LanguageModel, rows: Sequence[int] = (0, 1, 2), task: str = "a"
) -> AnsweredPrompts:
    """Prompts and answers with their ends."""
    prompts = padded([PROMPTS[row] for row in rows], 0, model.shift)
    return AnsweredPrompts(task, prompts, padded([[*ANSWERS[r], model.end] for r in rows], -1))


def plain_losses(model: LanguageModel, row: int) -> Tensor:
    """The mean loss of one row, as transformers computes it from labels."""
    prompt, answer = PROMPTS[row], [*ANSWERS[row], model.end]
    if model.separate:
        given = {"input_ids": torch.tensor([prompt]), "labels": torch.tensor([answer])}
    else:
        ids = torch.tensor([[*prompt, *answer]])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        given = {"input_ids": ids, "labels": labels}
    found: Tensor = model.network(**given).loss
    return found


@pytest.fixture(params=[llama, gpt2, t5], ids=["llama", "gpt2", "t5"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> LanguageModel:
    return language_model(tmp_path, request.param)


def test_loss_and_gradient_are_those_of_transformers(model: LanguageModel) -> None:
    one = asked(model)
    text = padded([[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]], 0, model.shift)  # of another task
    _, (logits,) = model.read(text, [one])
    losses = functional.cross_entropy(logits.mT, one.answers, ignore_index=-1, reduction="none")
    own = losses.sum(dim=1) / (one.answers >= 0).sum(dim=1)
    plain = torch.stack([plain_losses(model, row) for row in range(3)])
    torch.testing.assert_close(own, plain, rtol=1e-5, atol=1e-6)
    parameters = [p for p in model.network.parameters() if p.requires_grad]
    ours = torch.autograd.grad(own.sum(), parameters, retain_graph=True, allow_unused=True)
    theirs = torch.autograd.grad(plain.sum(), parameters, allow_unused=True)
    for mine, other in zip(ours, theirs, strict=True):
        if other is not None:
            assert mine is not None
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_rows_of_other_tasks_are_encoded_in_the_same_call(model: LanguageModel) -> None:
    text = padded([[5, 6, 7], [8, 9, 10, 11]], 0, model.shift)
    alone = model.backbone(text)
    together, _ = model.read(text, [asked(model)])
    torch.testing.assert_close(together.pooled, alone.pooled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beams", [1, 3])
def test_written_answers_are_those_of_transformers(model: LanguageModel, beams: int) -> None:
    prompts = padded(PROMPTS, 0, model.shift)
    with torch.inference_mode():
        found = model.write("a", prompts, Decoding(6, beams=beams), None)
        for row, prompt in enumerate(PROMPTS):
            wanted = model.network.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                max_new_tokens=6,
                num_beams=beams,
                do_sample=False,
                pad_token_id=model.padding,
                eos_token_id=model.end,
            )[0]
            wanted = wanted[1 if model.separate else len(prompt) :].tolist()
            wanted = wanted[: wanted.index(model.end)] if model.end in wanted else wanted
            assert [token for token in found[row].tolist() if token >= 0] == wanted


def test_sampling_depends_on_its_seed_alone(model: LanguageModel) -> None:
    prompts = padded(PROMPTS, 0, model.shift)
    before = torch.random.get_rng_state()
    first = model.write("a", prompts, Decoding(8, temperature=2.0), None)
    torch.testing.assert_close(torch.random.get_rng_state(), before)
    torch.rand(3)
    again = model.write("a", prompts, Decoding(8, temperature=2.0), None)
    other = model.write("a", prompts, Decoding(8, temperature=2.0, seed=1), None)
    assert first.tolist() == again.tolist() != other.tolist()


def test_choices_have_their_log_likelihoods(model: LanguageModel) -> None:
    prompts = padded(PROMPTS, 0, model.shift)
    choices = [[40, model.end], [41, 42, 43, model.end], [44]]
    with torch.inference_mode():
        found = model.score("a", prompts, padded(choices, -1))
        for row, prompt in enumerate(PROMPTS):
            for place, choice in enumerate(choices):
                one = AnsweredPrompts("a", padded([prompt], 0, model.shift), torch.tensor([choice]))
                _, (logits,) = model.read(None, [one])
                logs = logits[0].log_softmax(dim=-1)
                wanted = sum(logs[at, token] for at, token in enumerate(choice))
                torch.testing.assert_close(found[row, place], wanted, rtol=1e-4, atol=1e-5)


def test_no_rows(model: LanguageModel) -> None:
    none = AnsweredPrompts(
        "a", torch.zeros((0, 3), dtype=torch.int64), torch.zeros((0, 0), dtype=torch.int64)
    )
    features, (logits,) = model.read(None, [none])
    assert len(features.pooled) == len(logits) == 0
    assert model.write("a", none.prompts, Decoding(), None).shape == (0, 0)
    assert model.score("a", none.prompts, torch.tensor([[4], [5]])).shape == (0, 2)


def test_each_task_has_its_adapter_in_one_pass(model: LanguageModel) -> None:
    TaskLoRA(rank=2).apply(model, ["a", "b"])
    for name, weight in model.network.named_parameters():
        if "up.weight" in name:
            torch.nn.init.normal_(weight, std=0.5)
    model.eval()
    first, second = asked(model, (0, 1), "a"), asked(model, (2,), "b")
    text = padded([[5, 6, 7]], 0, model.shift)
    features, together = model.read(text, [first, second], [("b", 1)])
    for own, rows in zip(together, (first, second), strict=True):
        _, (alone,) = model.read(None, [rows])
        torch.testing.assert_close(own, alone, rtol=1e-4, atol=1e-5)
    swapped = AnsweredPrompts("a", second.prompts, second.answers)
    _, (other,) = model.read(None, [swapped])
    assert not torch.allclose(other, together[1], atol=1e-3)
    written = model.write("b", second.prompts, Decoding(4, beams=2), None)
    assert len(written) == 1
    assert features.pooled.shape == (1, 16)


def test_an_encoder_alone_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(PollinateError, match="a token that ends a text"):
        LanguageModel(85, 16, str(bert(tmp_path / "bert")), weights=False)
    model = LanguageModel(259, 16, str(roberta(tmp_path / "roberta")), weights=False)
    with pytest.raises(PollinateError, match="one of roberta only encodes"):
        model.load()


def test_a_folder_written_is_loaded_by_transformers(model: LanguageModel, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    folder = tmp_path / "out"
    folder.mkdir()
    model.save(folder, model.network.state_dict())
    kind: Any = AutoModelForSeq2SeqLM if model.separate else AutoModelForCausalLM
    again = kind.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.eos_token_id == model.end
    assert tokenizer.chat_template == model.known["template"]
    given = {"input_ids": torch.tensor([PROMPTS[0]])}
    if model.separate:
        given["decoder_input_ids"] = torch.tensor([[0, 40]])
    torch.testing.assert_close(again(**given).logits, model.network(**given).logits)


def test_weights_of_a_folder(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = llama(tmp_path)
    torch.manual_seed(3)
    saved = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    saved.save_pretrained(folder)
    model = LanguageModel(258, 16, str(folder))
    model.load()
    torch.testing.assert_close(model.network.state_dict(), saved.state_dict())
    assert model.known["chat"] == {
        "plain": ["<user>", "<model>"],
        "system": ["", "<user>", "<model>"],
    }


def test_prompts_and_answers_are_put_together() -> None:
    rows = AnsweredPrompts(
        "a", torch.tensor([[5, 6, 0], [7, 8, 9]]), torch.tensor([[1, 2, 3], [4, -1, -1]])
    )
    assert compose(rows, 1).tolist() == [[5, 6, 2, 3], [7, 8, 9, 0]]
    assert pad_left(torch.tensor([[5, 6, 0], [7, 0, 0]])).tolist() == [[0, 5, 6], [0, 0, 7]]
