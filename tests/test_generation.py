"""Tasks that answer in words, beside one with labels, from files to answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

import pollinate as po
from datamodules.modalities.prompt import PromptModality
from datamodules.modalities.text import TextModality
from datamodules.prompts import Prompt, template_parts
from lightning_modules.encoders.language_model import LanguageModel
from lightning_modules.tasks.generation import ChoiceForm
from pollinate.errors import PollinateError, UsageError
from tests.lean_fit import fit
from tests.lightning_modules.calibration_rows import logits_and_classes
from tests.models import bert, gpt2, llama, t5

WORDS = ("abc", "bcd", "cda", "dab", "aabb", "ccdd", "abcd", "dcba")


def write_rows(folder: Path, count: int = 48) -> Path:
    """Words, to be copied and turned round; every fourth has no answer."""
    path = folder / "words.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["word", "same", "turned", "first"])
        for number in range(count):
            word = WORDS[number % 8] + "abcd"[number // 8 % 4]
            writer.writerow(
                [word, word if number % 4 else "", word[::-1], "ab" if word[0] < "c" else "cd"]
            )
    return path


SPLIT = "{train: 0.6, valid: 0.2, test: 0.2}"
TASKS = """
datasets:
  words: {{source: csv, path: {path}, inputs: {{text: word}}, split: {split}}}
  alone: {{source: csv, path: {path}, split: {split}}}
tasks:
  same: {{dataset: alone, type: generation, prompt: "copy {{word}}", target: same}}
  turned: {{dataset: words, type: generation, prompt: "turn {{word}}", target: turned}}
  first: {{dataset: words, type: classification, target: first}}
  side: {{dataset: words, type: generation, prompt: "{{word}}", target: first, choices: [ab, cd]}}
"""


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("words")
    path = write_rows(folder)
    (folder / "task.yaml").write_text(TASKS.format(path=path, split=SPLIT))
    model = llama(folder / "model")
    return [
        f"data={folder}/task.yaml",
        "encoder/text=language_model",
        f"encoder.text.model={model}",
        "encoder.text.weights=false",
        "dim=8",
        "sampler.batch_size=12",
        "tracking=none",
        "trainer.max_epochs=2",
    ]


@pytest.fixture(scope="module")
def run(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert fit([*options, f"run_dir={folder}"]) == 0
    return folder


def last(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return found


def test_scores_of_each_task(run: Path) -> None:
    test = json.loads((run / "summary.json").read_text())["test"]
    assert {"exact_match", "token_f1", "rouge_l", "bleu", "chrf", "perplexity"} < set(
        test["turned"]
    )
    assert test["turned"]["perplexity"] == pytest.approx(260, rel=0.5)  # of 260 tokens
    assert set(test["side"]) == {"loss", "accuracy", "f1"}
    assert 0.3 < test["side"]["loss"] < 3.0
    assert set(test["first"]) >= {"accuracy"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("train/turned/token_accuracy" in line.get("metrics", line) for line in lines)


def test_a_resumed_run_has_the_very_same_weights(
    options: list[str], run: Path, tmp_path: Path
) -> None:
    assert fit([*options, f"run_dir={tmp_path / 'paused'}", "pause_after=1"]) == 0
    assert fit([f"resume={tmp_path / 'paused'}"]) == 0
    torch.testing.assert_close(
        last(tmp_path / "paused")["state_dict"], last(run)["state_dict"], rtol=0, atol=0
    )


def test_answers_for_new_rows(run: Path) -> None:
    model = po.load(run / "checkpoints" / "best.ckpt")
    frame = pd.DataFrame(
        {"word": ["abcd", "", "a much longer word than was seen"]}, index=[5, 6, 7]
    )
    found = model.predict(frame)
    assert list(found.columns) == [
        *("same", "turned", "first", "first_probability", "side", "side_probability", "error")
    ]
    assert list(found.index) == [5, 6, 7]
    assert found["error"].tolist() == [
        "",
        "prompt/same, prompt/turned, prompt/side, word empty",
        "",
    ] or ("empty" in found["error"][6])
    assert isinstance(found["turned"][5], str)
    assert found["side"][5] in ("ab", "cd")
    one = model.predict(frame.iloc[[2]])
    assert one["turned"].tolist() == [found["turned"][7]]  # beside others or alone


def test_choices_are_calibrated_and_have_sets(run: Path) -> None:
    found = json.loads((run / "summary.json").read_text())["calibration"]
    assert "turned" not in found
    assert found["side"]["calibrator"] == "temperature"
    assert found["side"]["nll"] < found["side"]["nll_before"] + 0.1
    model = po.load(run / "checkpoints" / "best.ckpt")
    frame = pd.DataFrame({"word": ["abcd", "cdab"]})
    asked: dict[str, Any] = {"coverage": 0.6, "abstain": {"answered": 0.5}, "parts": True}
    with pytest.warns(UserWarning, match="side states no distribution"):
        cells = model.predict(frame, tasks=["side", "first"], **asked)
    for answer, members, doubt in zip(
        cells["side"], cells["side_set"], cells["side_abstain"], strict=True
    ):
        assert answer in json.loads(members)
        assert doubt in ("", "unsure")
    assert "side_total" not in cells
    assert cells["first_total"].min() > 0
    plain = model.predict(frame, tasks=["side"])
    assert plain["side"].tolist() == cells["side"].tolist()


def test_what_is_measured_of_choices_is_what_was_made() -> None:
    form = ChoiceForm(["a", "b", "c"], per_token=False)
    logits, target = logits_and_classes(2000, 3, 3.0)
    calibrator = form.calibrators()["temperature"]().fit(logits, target)
    assert torch.equal(calibrator(logits).argmax(dim=1), logits.argmax(dim=1))
    sure = form.confidence(logits, calibrator(logits))
    right = 1 - form.mistakes(logits, target)
    assert sure.mean().item() == pytest.approx(right.mean().item(), abs=0.03)
    assert form.conformal().fit(calibrator(logits), target).threshold(0.9) > 0
    free = po.tasks.Generation(target="reply", prompt="{text}")
    assert free.calibrators() == {}
    assert free.conformal() is None


def test_adapters_of_each_task_and_a_balancer(options: list[str], tmp_path: Path) -> None:
    more = ["encoder.text.tune=task_lora", "balancer=upgrad", "trainer.max_epochs=null"]
    assert fit([*options, *more, "trainer.max_steps=2", f"run_dir={tmp_path / 'run'}"]) == 0
    names = last(tmp_path / "run")["state_dict"]
    assert any(".own.same." in name for name in names)
    assert any(".own.first." in name for name in names)


def data_of(frame: pd.DataFrame, **tasks: po.tasks.Task) -> po.MixedDataModule:
    return po.MixedDataModule({"words": po.Dataset(frame, inputs={})}, tasks=tasks)


@pytest.mark.filterwarnings("ignore:.*LeafSpec")  # Lightning's, with torch
@pytest.mark.parametrize("maker", [gpt2, t5])
def test_in_python(tmp_path: Path, maker: Any) -> None:
    frame = pd.read_csv(write_rows(tmp_path))
    data = data_of(frame, turned=po.tasks.Generation("words", target="turned", prompt="{word}"))
    encoder = po.encoders.LanguageModel(model=str(maker(tmp_path / "model")), weights=False)
    model = po.MultiTaskModule(data, encoders={"text": encoder}, dim=8)
    trainer = Trainer(
        max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(model, data)
    answers = model.eval().predict_step(next(iter(data.evaluation_loader("test"))), 0)
    assert isinstance(answers["turned"][0]["label"], str)


def prompted(folder: Path, **options: Any) -> PromptModality:
    assets = LanguageModel.assets_of({"model": str(llama(folder))})
    return PromptModality(Prompt(**options), TextModality(assets=assets))


def test_a_long_prompt_loses_the_rows_own_text(tmp_path: Path) -> None:
    texts = ["0123456789", "01"]
    for side, kept in (("left", "6789"), ("right", "0123")):
        one = prompted(tmp_path, template="{a}", max_tokens=6, cut=side)
        store = one.prepare(texts).store
        rows = store.rows(store.has.nonzero()[0])
        assert one.decode((rows[0] - one.shift).tolist()) == kept
        assert store.note() is not None
        ends = rows[0] - one.shift
        assert (int(ends[0]), int(ends[-1])) == (2, 3)  # <user> and <model>
    with pytest.raises(UsageError, match="max_prompt must leave room"):
        prompted(tmp_path, template="{a}", max_tokens=2).prepare(texts)


def test_conversations(tmp_path: Path) -> None:
    assert prompted(tmp_path, template="{a}").chat == ("<user>", "<model>")
    assert prompted(tmp_path, template="{a}", system="be kind").chat == ("be kind<user>", "<model>")
    assert prompted(tmp_path, template="{a}", chat=False).chat is None


def test_templates() -> None:
    assert template_parts("a {b c} {{d}} {e}") == ["a ", ("b c",), " ", "{", "d", "}", " ", ("e",)]
    prompt = Prompt("Q: {q} A: {a}")
    assert prompt.columns == ["q", "a"]
    assert prompt.render("x", None) == "Q: x A: "
    assert prompt.render(None, " ") is None
    for wrong, why in (("no column", "must name at least one"), ("{open", "no part of a column")):
        with pytest.raises(UsageError, match=why):
            Prompt(wrong)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"max_answer": 0}, "max_answer must be >= 1"),
        ({"cut": "middle"}, "cut must be left or right"),
        ({"top_k": 5}, "are for sampling"),
        ({"temperature": 0.0}, "temperature must be > 0"),
        ({"average": "letters"}, "average must be token or row"),
        ({"choices": "all"}, "choices must be a list"),
        ({"choices": ["a", "b"], "score": "chrf"}, "score must be accuracy"),
        ({"score": "chfr"}, "did you mean chrf"),
        ({"stop": "x"}, "stop must be a list"),
        ({"valid_rows": 0}, "valid_rows must be >= 1"),
    ],
)
def test_options_out_of_range(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        po.tasks.Generation("words", target="same", prompt="{word}", **changes)


def test_what_cannot_answer(tmp_path: Path) -> None:
    frame = pd.read_csv(write_rows(tmp_path))
    task = {"same": po.tasks.Generation("words", target="same", prompt="{word}")}
    with pytest.raises(UsageError, match="task same answers in words, which Bag can't"):
        po.MultiTaskModule(data_of(frame, **task), dim=8)
    encoder = po.encoders.LanguageModel(model=str(bert(tmp_path / "bert")), weights=False)
    with pytest.raises(PollinateError, match="a token that ends a text"):
        po.MultiTaskModule(data_of(frame, **task), encoders={"text": encoder}, dim=8)
    frozen = po.encoders.LanguageModel(
        model=str(llama(tmp_path / "llama")), weights=False, tune=po.tuning.Frozen()
    )
    with pytest.raises(UsageError, match="no weight of the language model trains"):
        po.MultiTaskModule(data_of(frame, **task), encoders={"text": frozen}, dim=8)
    lost = po.tasks.Generation("words", target="same", prompt="{wrod}")
    with pytest.raises(PollinateError, match=r"prompt of task same names the column 'wrod'.*word"):
        data_of(frame, same=lost).setup()


def test_rows_without_prompt_or_answer_cost_nothing(tmp_path: Path) -> None:
    frame = pd.DataFrame({"word": ["abc", "", "cde", "abd"] * 8, "same": ["x", "y", "", "z"] * 8})
    data = data_of(frame, same=po.tasks.Generation("words", target="same", prompt="{word}"))
    data.policy = po_policy()
    encoder = po.encoders.LanguageModel(model=str(llama(tmp_path / "model")), weights=False)
    model = po.MultiTaskModule(data, encoders={"text": encoder}, dim=8)
    part = data.parts["train"]["words"]
    batch = part.batch(part.rows.argsort())
    asked = model.network._asked({"words": batch}, model.network.routes)
    rows, mask = asked["same"]
    assert len(rows.prompts) == int(mask.sum()) == int(batch.present["same"].sum())


def po_policy() -> Any:
    from datamodules.data_errors import DataErrorPolicy

    return DataErrorPolicy(skip_bad_rows=True)


def test_decoding_can_be_changed_after_training(run: Path, tmp_path: Path, capsys: Any) -> None:
    from pipeline.predict import main

    best = run / "checkpoints" / "best.ckpt"
    model = po.load(best)
    frame = pd.DataFrame({"word": ["abcd", "dcba"]})
    usual = model.predict(frame)
    short = model.predict(frame, decoding={"max_answer": 1, "beams": 2})
    assert all(len(text) <= 1 for text in short["turned"])
    pd.testing.assert_frame_equal(model.predict(frame), usual)
    for wrong, why in (
        ({"beem": 2}, "did you mean beams"),
        ({"beams": "2"}, "decoding.beams must be int"),
        ({"beams": 0}, "beams must be >= 1"),
    ):
        with pytest.raises(UsageError, match=why):
            model.predict(frame, decoding=wrong)
    frame.to_csv(tmp_path / "new.csv", index=False)
    files = [f"checkpoint={best}", f"input={tmp_path}/new.csv", f"output={tmp_path}/out.csv"]
    assert main([*files, "decoding.temperature=1.0", "decoding.top_k=3"]) == 0
    assert "tokens per second" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "out.csv")["side"].isin(["ab", "cd"]).all()


def test_what_a_served_model_reads_and_answers(run: Path, tmp_path: Path) -> None:
    from lightning_modules.predictor import Predictor
    from pipeline.serving.model_folder import (
        DATA_FOLDER,
        DESCRIPTION,
        REQUIREMENTS,
        export_model,
    )
    from pipeline.serving.pyfunc import ServedModel, _load_pyfunc

    best = run / "checkpoints" / "best.ckpt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.serving.model_folder.OWN_PACKAGES", ())
        export_model(best, tmp_path)
    known = json.loads((tmp_path / DATA_FOLDER / DESCRIPTION).read_text())
    assert known["inputs"] == ["word"]  # of prompts, and of the text
    assert "transformers" in (tmp_path / REQUIREMENTS).read_text()
    frame = pd.DataFrame({"word": ["abcd", None]})
    found = _load_pyfunc(str(tmp_path / DATA_FOLDER)).predict(frame)
    wanted = po.load(best).predict(frame)
    assert found["turned"].tolist() == [wanted["turned"][0], None]
    assert found["first"].tolist() == [wanted["first"][0], None]
    with pytest.raises(UsageError, match="must have the column word"):
        ServedModel(Predictor.load(best)).predict(pd.DataFrame({"wrod": ["abcd"]}))


def test_an_ensemble_averages_choices_and_refuses_texts(run: Path) -> None:
    from lightning_modules.merging.ensemble import OutputEnsemble
    from lightning_modules.predictor import Predictor

    one = Predictor.load(run / "checkpoints" / "best.ckpt")
    networks = {"a": one.network, "b": one.network}
    with pytest.raises(UsageError, match="texts, which same, turned write, have no mean"):
        OutputEnsemble.combine(networks, one.tasks, one.network.routes, {})
    tasks = {name: one.tasks[name] for name in ("side", "first")}
    routes = {name: one.network.routes[name] for name in tasks}
    network = OutputEnsemble.combine(networks, tasks, routes, {})
    together = Predictor(network, tasks, {"text": one.modalities["text"]}, {"words": {"text": "w"}})
    rows = {"text": ["abcd"], "prompt/side": ["abcd"]}
    text, inputs = {"text": one.modalities["text"]}, {"words": {"text": "w"}, "alone": {}}
    single = Predictor(one.network, one.tasks, text, inputs)  # not calibrated, as the ensemble
    found, alone = (p.predict(rows, ["side"]).answers["side"][0] for p in (together, single))
    assert found is not None
    assert alone is not None
    assert found["probability"] == pytest.approx(alone["probability"], abs=1e-5)


def test_a_plan_counts_the_language_model(options: list[str]) -> None:
    from pipeline.configuration.composition import compose
    from pipeline.planning.cost import cost_estimator

    config = compose("fit", options)
    found = {part.name: part for part in cost_estimator(config).cost().parts}
    assert found["encoders.text"].forward > 1e5
    assert "losses" not in found


def test_the_same_answers_in_any_blocks(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_modules.answers import answer_blocks

    model = po.load(run / "checkpoints" / "best.ckpt")
    frame = pd.DataFrame({"word": ["abcd", "a", "abcdabcd", "dcb", "ab"]})
    whole = model.predict(frame)
    for module in ("answers", "encoders.language_model"):
        monkeypatch.setattr(f"lightning_modules.{module}.MOST_TOKENS", 24)
    pd.testing.assert_frame_equal(model.predict(frame), whole, atol=1e-5)
    view = po.tasks.Generation("words", target="same", prompt="{word}", max_answer=4).view
    assert answer_blocks([9, 3, 4], view, 0) == [[1, 2], [0]]
    assert answer_blocks([], view, 0) == []


def test_a_row_with_a_prompt_and_no_text_is_none_of_a_head(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "text": ["abc", "", "cde", "abd"] * 8,
            "word": ["x", "y", "", "z"] * 8,
            "kind": ["p", "q", "p", "q"] * 8,
        }
    )
    tasks = {
        "same": po.tasks.Generation("words", target="kind", prompt="{word}"),
        "kind": po.tasks.Classification("words", target="kind"),
    }
    data = po.MixedDataModule({"words": po.Dataset(frame, inputs={"text": "text"})}, tasks=tasks)
    encoder = po.encoders.LanguageModel(model=str(llama(tmp_path / "model")), weights=False)
    model = po.MultiTaskModule(data, encoders={"text": encoder}, dim=8)
    batch = next(iter(data.train_dataloader())).batches["words"]
    assert not batch.has["text"].all()
    assert torch.equal(batch.present["kind"], batch.has["text"])
    assert torch.equal(batch.present["same"], (batch.prompts["same"] != 0).any(dim=1))
    outputs = model.network({"words": batch})
    assert {name: len(rows) for name, rows in outputs.items()} == {"same": 32, "kind": 32} or {
        len(rows) for rows in outputs.values()
    } == {len(batch.index)}


def test_gradients_of_answers_are_looked_at(tmp_path: Path) -> None:
    from lightning_modules.callbacks.gradient_conflicts import gramian_of, watched_parameters

    frame = pd.read_csv(write_rows(tmp_path))
    tasks = {
        name: po.tasks.Generation("words", target=name, prompt="{word}")
        for name in ("same", "turned")
    }
    encoder = po.encoders.LanguageModel(model=str(llama(tmp_path / "model")), weights=False)
    data = data_of(frame, **tasks)
    model = po.MultiTaskModule(data, encoders={"text": encoder}, dim=8)
    batch = next(iter(data.train_dataloader())).batches
    outputs = model.network(batch)
    losses = {
        name: task.loss(outputs[name], batch["words"].targets[name]).mean()
        for name, task in model.tasks.items()
    }
    found = watched_parameters(model)
    names = {name for name, p in model.network.named_parameters() if any(p is q for q in found)}
    assert names
    assert all("layers.1." in name or "model.norm" in name for name in names)  # the last block
    assert (gramian_of(losses, found, 1).diagonal() > 0).all()


def test_what_an_inspection_says_of_prompts_and_answers(tmp_path: Path) -> None:
    from pipeline.configuration.composition import compose
    from pipeline.inspection.inspection_run import inspect_data

    path = write_rows(tmp_path)
    (tmp_path / "task.yaml").write_text(
        f"datasets: {{words: {{source: csv, path: {path}, split: {SPLIT}}}}}\n"
        "tasks:\n"
        '  same: {dataset: words, type: generation, prompt: "{same}{word}", target: same,\n'
        "         max_answer: 5, max_prompt: 8}\n"
    )
    model = llama(tmp_path / "model")
    options = [f"data={tmp_path}/task.yaml", f"tokenizer={model}", "baseline=none"]
    found = inspect_data(compose("inspect", options))
    figures = found.facts["words"].tasks["same"].figures
    assert figures["answer tokens"].split(" / ")[0::4] == ["5", "6"]  # with their ends
    assert "at 5 tokens" in figures["answers cut"]
    assert "prompt tokens" in figures
    assert figures["prompts cut"].endswith("tokens")
    said = [problem.what for problem in found.problems if problem.where == "same"]
    assert "the prompt names same, which is the answer itself" in said
    assert "prompts are cut" in said


def test_what_a_model_can_read_beside_a_prompt(tmp_path: Path) -> None:
    one = Prompt("{a}", max_tokens=512, max_answer=128)
    assert one.rooms(None, separate=False) == (512, 128)
    assert one.rooms(1024, separate=False) == (512, 128)
    assert one.rooms(100, separate=False) == (50, 50)
    assert one.rooms(100, separate=True) == (100, 100)
    assert Prompt("{a}", max_tokens=12, max_answer=60).rooms(64, separate=False) == (12, 52)
    frame = pd.DataFrame({"word": ["abc", "bcd"] * 8, "long": ["ab" * 40, "cd"] * 8})
    task = po.tasks.Generation("words", target="long", prompt="{word}")
    data = data_of(frame, long=task)
    encoder = po.encoders.LanguageModel(model=str(gpt2(tmp_path / "model")), weights=False)
    model = po.MultiTaskModule(data, encoders={"text": encoder}, dim=8)  # which reads 32 tokens
    assert any("the model reads no more beside a prompt" in note for note in data.notes)
    batch = next(iter(data.train_dataloader())).batches
    assert model.network(batch)["long"].shape[1] == 16


def test_a_tokenizer_without_spaces(tmp_path: Path) -> None:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    folder = llama(tmp_path / "model")
    names = ("<pad>", "</s>", "<user>", "<model>", *"abcd")
    core = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.add_special_tokens(list(names[:4]))
    core.save(str(folder / "tokenizer.json"))
    assets = LanguageModel.assets_of({"model": str(folder)})
    one = PromptModality(Prompt("{a}", chat=False), TextModality(assets=assets))
    assert one.encode_answers(["ab"]) == [[4, 5]]  # no unknown space before it
    assert one.encode_answers(["aXb"]) == [[4, 5]]  # what is unknown is padding here
    store = one.prepare(["abXc"]).store
    assert store.rows(store.has.nonzero()[0]).tolist() == [[4, 5, 6]]


def test_a_chat_template_that_refuses(tmp_path: Path) -> None:
    folder = llama(tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{{ raise_exception('a system message comes first') }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    modality = TextModality(assets=LanguageModel.assets_of({"model": str(folder)}))
    assert PromptModality(Prompt("{a}"), modality).chat is None
    with pytest.raises(UsageError, match=r"can't be used.*a system message comes first"):
        PromptModality(Prompt("{a}", chat=True), modality)


def test_streamed_prompts_are_the_same(tmp_path: Path) -> None:
    frame = pd.read_csv(write_rows(tmp_path), dtype=str).fillna("")
    model = str(llama(tmp_path / "model"))
    found = []
    for streaming in (False, True):
        tasks = {
            "same": po.tasks.Generation("words", target="same", prompt="{word}, {first}"),
            "first": po.tasks.Generation("words", target="first", prompt="{first}{turned}"),
        }
        rows = po.Dataset(frame, inputs={"text": "word"}, streaming=streaming)
        data = po.MixedDataModule({"words": rows}, tasks=tasks)
        encoder = po.encoders.LanguageModel(model=model, weights=False)
        po.MultiTaskModule(data, encoders={"text": encoder}, dim=8)
        found.append(data.parts["train"]["words"].batch(np.arange(6)))
    plain, streamed = found
    for task in ("same", "first"):
        assert torch.equal(plain.prompts[task], streamed.prompts[task])
        assert torch.equal(plain.present[task], streamed.present[task])


def test_what_is_predicted_has_32_bits() -> None:
    from lightning_modules.answers import SaidAnswers

    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert SaidAnswers.nothing(2, torch.device("cpu")).surprise.dtype == torch.float32
    finally:
        torch.set_default_dtype(usual)


def test_a_baseline_asks_no_other_process(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_modules.predictor import Predictor

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("torchmetrics.metric.jit_distributed_available", lambda: True)
    monkeypatch.setattr("torchmetrics.metric.gather_all_tensors", refuse)
    task = Predictor.load(run / "checkpoints" / "best.ckpt").tasks["turned"]
    assert set(task.baseline(torch.tensor([[5, 6, 1], [7, 1, -1]]))) == {"chrf"}


def test_sharded_weights_are_refused(tmp_path: Path) -> None:
    frame = pd.read_csv(write_rows(tmp_path))
    task = po.tasks.Generation("words", target="same", prompt="{word}")
    encoder = po.encoders.LanguageModel(model=str(llama(tmp_path / "model")), weights=False)
    model = po.MultiTaskModule(data_of(frame, same=task), encoders={"text": encoder}, dim=8)
    with pytest.raises(UsageError, match=r"same answer in words.*choose trainer=ddp"):
        model.engine.choose("FSDP2Strategy", whole=False, sharded=True)
