from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

import pollinate as po
from pipeline.build import build_datamodule, build_module
from pipeline.configuration.composition import compose
from pipeline.predict import main as predict_command
from tests.merged_runs import CHEAP
from tests.small_shop import SMALL, reviews, shop

TASKS = Path(__file__).parents[2] / "data/tasks.yaml"


def test_a_run_has_the_figures_of_its_summary(run: po.Run) -> None:
    summary = json.loads((run.folder / "summary.json").read_text())
    assert (run.status, run.scores, run.valid_scores) == (
        "finished", summary["test"], summary["valid"],
    )  # fmt: skip
    assert run.scores["mood"]["accuracy"] > 0.9
    assert run.baseline["mood"]["accuracy"] < 0.7
    assert run.table.loc[("mood", "accuracy"), "test"] == run.scores["mood"]["accuracy"]
    assert run.table.loc["stars"].index.tolist() == ["loss", "mae", "r2", "rmse"]
    assert run.config["dim"] == 16
    assert run.checkpoint == run.folder / "checkpoints/best.ckpt"


def test_a_run_keeps_the_outputs_that_its_scores_were_measured_on(run: po.Run) -> None:
    kept, table = run.outputs("valid"), pd.read_csv(run.folder.parent / "reviews.csv")
    assert list(kept) == ["mood", "stars"]
    mood, stars = kept["mood"], kept["stars"]
    rows = mood["rows"]["reviews"].numpy()
    assert (np.diff(rows) > 0).all() and len(rows) == 48
    classes = np.array(run.model().tasks["mood"].classes)
    assert (classes[mood["target"]] == table["mood"][rows]).all()
    right = (mood["output"].argmax(1) == mood["target"]).float().mean().item()
    assert right == pytest.approx(run.valid_scores["mood"]["accuracy"])
    error = (stars["output"] - stars["target"]).abs().mean().item()
    assert error == pytest.approx(run.valid_scores["stars"]["mae"], rel=1e-5)
    with pytest.raises(po.PollinateError, match=r"no outputs of the test split; train with keep_"):
        run.outputs("test")


def test_the_history_has_every_value_and_its_step(run: po.Run) -> None:
    found = run.metrics()
    assert found.columns.tolist() == ["step", "name", "value", "time"]
    wide = found.pivot(index="step", columns="name", values="value")
    assert wide["valid/score"].dropna().index.tolist() == [5, 10, 15]
    assert wide.loc[15, "test/mood/accuracy"] == run.scores["mood"]["accuracy"]
    assert str(found.time.dt.tz) == "UTC"


def test_a_run_opens_again_by_its_folder(run: po.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.folder.parent)
    again = po.Run("one")
    assert (again.folder, again.scores) == (run.folder, run.scores)
    with pytest.raises(po.PollinateError, match=r"holds no run: there is no config\.yaml"):
        po.Run("nowhere")


def test_a_run_without_an_end_has_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    half = po.Run(tmp_path)
    assert (half.status, half.scores, half.run_id, half.config) == (
        "unfinished",
        {},
        None,
        {"seed": 1},
    )
    assert half.table.empty
    assert half.metrics().empty
    with pytest.raises(po.PollinateError, match="has no checkpoint yet"):
        half.predict(reviews(2))


def test_a_score_that_is_no_number_is_nan(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    (tmp_path / "summary.json").write_text('{"test": {"mood": {"auroc": null, "accuracy": 0.5}}}')
    found = po.Run(tmp_path)
    assert np.isnan(found.scores["mood"]["auroc"])
    assert found.table["test"].tolist()[1:] == [0.5] and np.isnan(found.table["test"].iloc[0])


def test_quiet_prints_nothing_and_leaves_the_process_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = dict(os.environ), torch.get_rng_state()
    run = po.fit(shop(tmp_path), [*SMALL, "trainer.max_steps=1", "run_dir=a"], quiet=True)
    assert capfd.readouterr().out == ""
    assert run.folder == tmp_path / "a"
    assert dict(os.environ) == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_wrong_usage_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(po.UsageError, match=r"balancer has no option 'upgrd'; did you mean upgrad"):
        po.fit(shop(tmp_path), ["balancer=upgrd"])
    with pytest.raises(po.UsageError, match="there is no config file"):
        po.fit("gone.yaml")
    with pytest.raises(po.UsageError, match=r"data.datasets.reviews.path must be plain.*po.MixedD"):
        po.fit({"datasets": {"reviews": {"source": "csv", "path": reviews(3)}}})


def test_paths_in_a_dict_are_relative_to_the_current_folder(tmp_path: Path) -> None:
    spec = shop(tmp_path)
    spec["datasets"]["reviews"]["path"] = "reviews.csv"
    assert po.inspect(spec, ["tracking=none"], quiet=True).rows.loc["reviews"].sum() == 240


def test_a_frame_gets_the_cells_that_the_command_writes(run: po.Run, tmp_path: Path) -> None:
    frame = reviews(20, seed=1)
    frame.loc[3, "review"] = None
    frame.to_csv("new.csv", index=False)
    words = [f"checkpoint={run.folder}", "input=new.csv", "output=out.csv"]
    assert predict_command(words) == 0
    numbers = ["mood_probability", "stars"]
    written = pd.read_csv("out.csv", keep_default_na=False, na_values={n: [""] for n in numbers})
    found = run.predict(frame)
    assert found.columns.tolist() == ["mood", "mood_probability", "stars", "error"]
    assert found.error.tolist() == written.error.tolist()
    assert found.error[3] == "review empty"
    assert found.mood.fillna("").tolist() == written.mood.tolist()
    assert found[numbers].equals(written[numbers])


def test_a_frame_keeps_its_index_whatever_that_is(run: po.Run) -> None:
    frame = reviews(4).set_index(pd.Index(["a", "b", "a", "c"], name="customer"))
    found = run.predict(frame, tasks=["stars"])
    assert found.index.equals(frame.index)
    assert found.columns.tolist() == ["stars", "error"]
    assert run.predict(frame.iloc[:0]).shape == (0, 4)
    rows = {"text": list(frame.review)}
    assert run.predict(rows).stars.tolist() == found.stars.tolist()


@pytest.mark.parametrize("empty", [None, float("nan"), pd.NA, pd.NaT, "", " "])
def test_a_missing_cell_stops_no_other_row(run: po.Run, empty: Any) -> None:
    found = run.predict(pd.DataFrame({"text": pd.Series([empty, "good tea"], dtype=object)}))
    assert found.mood.tolist() == [None, "glad"]
    assert np.isnan(found.stars[0])
    assert found.error.tolist() == ["text empty", ""]


def test_columns_of_other_names_are_chosen(run: po.Run) -> None:
    frame = reviews(6).rename(columns={"review": "opinion"})
    expected = run.predict(reviews(6))
    assert run.predict(frame, inputs={"text": "opinion"}).equals(expected)
    assert run.predict(frame.rename(columns={"opinion": "text"})).equals(expected)
    with pytest.raises(po.UsageError) as caught:
        run.predict(frame)
    assert str(caught.value) == (
        "the DataFrame has none of the columns that the checkpoint reads (text: review or text); "
        'it has opinion, mood, stars. Say which is which: inputs={"text": "NAME"}'
    )


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (reviews(2), {"inputs": {"text": "revew"}}, r"inputs.text=revew is not .*mean review\?"),
        (reviews(2), {"inputs": {"image": "mood"}}, "inputs.image: the checkpoint doesn't take it"),
        (reviews(2), {"tasks": ["mod"]}, r"no task 'mod'; did you mean mood\?"),
        (pd.concat([reviews(2)] * 2, axis=1), {}, "got mood, review, stars twice"),
        (["a"], {}, r'takes a pandas DataFrame or {"text": \[...\]}, got list'),
        ({"text": ["a"], "id": []}, {}, r"must have one length, got {'text': 1, 'id': 0}"),
    ],
)
def test_a_frame_that_does_not_fit(
    run: po.Run, frame: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(po.UsageError, match=message):
        run.predict(frame, **options)


def test_pictures_are_paths_that_may_lead_anywhere_and_masks_are_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = po.fit(TASKS, [*CHEAP, "run_dir=all"], quiet=True)
    table = pd.read_csv(TASKS.parent / "shop.csv")[["title", "photo"]]
    photo = TASKS.parent / table.photo.dropna()[0]
    frame = pd.DataFrame(
        {
            "title": ["a cup", None, "a lid"],
            "photo": [str(photo), os.path.relpath(photo), "gone.png"],
        }
    )
    found = run.predict(frame)
    assert found.parts[0].shape == found.parts[1].shape
    assert found.parts[0].dtype.kind == "i"
    assert found.error[:2].tolist() == ["", ""]
    assert "gone.png" in found.error[2]
    assert found.price.notna().tolist() == [True, True, False]


def test_raw_values_get_all_that_a_task_says(run: po.Run) -> None:
    found = run.model().predict_rows({"text": ["bad soup", None]}, tasks=["mood"])
    first, second = found.answers["mood"]
    assert second is None
    assert first is not None
    assert (first["label"], first["probability"] > 0.5) == ("angry", True)


def test_a_model_is_found_by_everything_that_names_it(run: po.Run) -> None:
    model = po.load(run)
    for what in (run.folder, str(run.folder), run.checkpoint, f"{run.checkpoint}", model):
        assert po.load(what).checkpoint == run.checkpoint
    assert list(model.tasks) == ["mood", "stars"]
    assert list(model.tasks["mood"].classes) == ["angry", "glad"]
    assert model.inputs == {"reviews": {"text": "review"}}
    assert not model.network.training
    with pytest.raises(po.PollinateError, match="nowhere is none of them"):
        po.load("nowhere")


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*", "ignore:.*many workers.*")
def test_a_checkpoint_of_a_stock_callback_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(json.dumps(shop(tmp_path)))
    config = compose("fit", ["data=shop.yaml", *SMALL])
    data = build_datamodule(config)
    data.setup()
    module = build_module(config, data)
    saving = ModelCheckpoint(dirpath=tmp_path / "own", every_n_train_steps=2)
    trainer = Trainer(
        max_steps=4,
        accelerator="cpu",
        logger=False,
        callbacks=[saving],
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    found = po.load(saving.best_model_path).predict(reviews(3))
    assert found.error.tolist() == [""] * 3
    assert set(found.mood) <= {"angry", "glad"}


@pytest.mark.parametrize("split", ["valid", "test"])
def test_an_evaluation_repeats_the_run_s_own(run: po.Run, split: str) -> None:
    scores = po.evaluate(run, split, quiet=True)
    assert scores == {"valid": run.valid_scores, "test": run.scores}[split]


def test_an_evaluation_of_no_split(run: po.Run) -> None:
    with pytest.raises(po.UsageError, match="split must be one of train, valid, test"):
        po.evaluate(run, "dev")


def test_a_merge_takes_names_and_a_method_with_options(run: po.Run, tmp_path: Path) -> None:
    model = po.merge(
        {"old": run, "new": run.checkpoint},
        po.merging.Average(weights=[1, 3]),
        "both folder",
        overrides=["tracking=none"],
        quiet=True,
    )
    merged = po.Run("both folder")
    assert model.checkpoint == merged.checkpoint
    assert merged.summary["coefficients"] == {"weights": {"old": 0.25, "new": 0.75}}
    assert [one["label"] for one in merged.summary["parents"]] == ["old", "new"]
    assert merged.scores["mood"] == pytest.approx(run.scores["mood"], abs=1e-5)
    frame = reviews(5)
    pd.testing.assert_frame_equal(model.predict(frame), run.predict(frame), atol=1e-4)


def test_a_merge_by_an_option_s_name_has_a_folder_of_its_own(run: po.Run, tmp_path: Path) -> None:
    bare = ["evaluate=false", "tracking=none"]
    for method in ("ensemble", po.merging.OutputEnsemble()):
        model = po.merge([run, run], method, overrides=bare, quiet=True)
        assert model.checkpoint.is_relative_to(tmp_path / "runs")
    assert len(list((tmp_path / "runs").glob("*-merge*"))) == 2


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("avrage", "method has no option 'avrage'; did you mean average"),
        (po.merging.Average(weights=[1]), "one for each of the 2 models"),
        (3, "method must be a class of po.merging or the name of an option, got 3"),
    ],
)
def test_a_merge_that_cannot_be(run: po.Run, method: Any, message: str) -> None:
    with pytest.raises(po.UsageError, match=message):
        po.merge(
            [run, run], method, "ab", overrides=["evaluate=false", "tracking=none"], quiet=True
        )


def test_nothing_to_export(run: po.Run) -> None:
    with pytest.raises(po.UsageError, match="adapters"):
        po.export(run, "adapter", quiet=True)
