import base64
import io
import json
import os
import re
import shutil
import socket
import sys
import time
import types
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lightning_modules.predictor import Predictor
from pipeline.fit import main as fit
from pipeline.serving.model_folder import (
    CODE_FOLDER,
    DATA_FOLDER,
    NEEDED_PACKAGES,
    REQUIREMENTS,
    WEIGHTS,
    copy_code,
)
from pipeline.serving.pyfunc import (
    SERVER,
    ServedModel,
    _load_pyfunc,
    accept_half_surrogates,
    save_model,
)
from pollinate.errors import UsageError
from tests.conftest import SMALL
from tests.forks import Forks

ROOT = Path(__file__).parents[3]
TASKS = ("digit", "optdigit", "sentiment", "subject")
# a process that doesn't know this repository, and has what the models need
WARM_UP = """
import lightning.pytorch, mlflow.cli, mlflow.pyfunc.scoring_server, omegaconf, pandas
import tokenizers, torch, torchmetrics, torchvision.transforms.v2, uvicorn
import mlflow.store.tracking.sqlalchemy_store
"""
ELSEWHERE = {"PYTHONPATH": "", "MLFLOW_DISABLE_TELEMETRY": "true"}
LOAD = """
import json, sys
import mlflow.pyfunc
import pandas as pd
mlflow.set_tracking_uri(sys.argv[2])
model = mlflow.pyfunc.load_model(sys.argv[1])
import pipeline
answers = model.predict(pd.DataFrame({"text": ["good", None]})).to_dict(orient="records")
print(json.dumps({"code": pipeline.__file__, "answers": answers}))
"""
# the command starts another interpreter, for uvicorn; here this process becomes it
SERVE = """
import os, shlex, sys
import mlflow.cli, mlflow.pyfunc.backend, uvicorn

def become(command, env, **_):
    assert command[:2] == ["bash", "-c"], command
    os.environ.update(env)
    execute, program, *arguments = shlex.split(command[2])
    assert (execute, program) == ("exec", "uvicorn"), command
    uvicorn.main(arguments)

mlflow.pyfunc.backend.subprocess.Popen = become
mlflow.cli.cli(["models", "serve", *sys.argv[1:]])
"""


def png() -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (28, 28), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


HALF = "text: must be Unicode, got half a surrogate pair, '\\ud800', as character 2"
NO_TEXT = "text: must be a text or a list of words, got dict"
NO_IMAGE = "image: the content is not an image"


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Forks]:
    forks = Forks(WARM_UP, ELSEWHERE)
    yield forks
    forks.close()


@pytest.fixture
def load_elsewhere(elsewhere: Forks, tmp_path: Path) -> Callable[..., Any]:
    """Load a model through MLflow in a process that doesn't know this repository."""

    def load(model: str, tracking: str = "", python_path: str = "") -> Any:
        environment = {**os.environ, **ELSEWHERE, "PYTHONPATH": python_path}
        out, log = tmp_path / "out", tmp_path / "log"
        with Path(os.devnull).open() as nothing, out.open("w") as first, log.open("w") as second:
            elsewhere.start(
                LOAD, model, tracking or f"sqlite:///{tmp_path}/none.db",
                files=[file.fileno() for file in (nothing, first, second)],
                folder=tmp_path, environment=environment,
            ).wait()  # fmt: skip
        answers = out.read_text().splitlines()
        assert answers, log.read_text()
        return json.loads(answers[-1])

    return load


@pytest.fixture(scope="module")
def model(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow") / "model"
    with warnings.catch_warnings():  # of MLflow, while it is imported
        warnings.simplefilter("ignore")
        save_model(tiny_run / "checkpoints" / "best.ckpt", folder)
    return folder


@pytest.fixture(scope="module")
def served(model: Path) -> ServedModel:
    return _load_pyfunc(str(model / DATA_FOLDER))


def test_equals_the_predictor(tiny_run: Path, served: ServedModel) -> None:
    texts, images = ["good", "a course", None], [png(), None, png()]
    table = pd.DataFrame({"text": texts, "image": images})
    found = served.predict(table)
    predictor = Predictor.load(tiny_run / "checkpoints" / "best.ckpt")
    expected = predictor.predict({"text": texts, "image": images}).answers
    for task, answers in expected.items():
        for row, answer in enumerate(answers):
            label, probability = found.loc[row, [task, f"{task}_probability"]]
            if answer is None:
                assert pd.isna(label) and pd.isna(probability)
            else:
                assert (label, probability) == (answer["label"], answer["probability"])
    assert found["error"].tolist() == ["", "", ""]


@pytest.mark.parametrize(
    ("table", "errors", "answered"),
    [
        ({"text": ["a", ""]}, ["", ""], {"subject": [True, False], "digit": [False, False]}),
        ({"text": ["a", float("nan")]}, ["", ""], {"subject": [True, False]}),
        ({"text": [np.array(["a", "b"])]}, ["", ""], {"subject": [True, True]}),
        ({"image": [base64.b64encode(png()).decode(), b""]}, ["", ""], {"digit": [True, False]}),
        (
            {"image": [b"no", png()]},
            ["image: the content is not an image", ""],
            {"digit": [False, True]},
        ),
        ({"image": ["/etc/hostname"]}, ["image: the content is not an image"], {"digit": [False]}),
        ({"text": []}, [], {"digit": []}),
        ({"text": [" \n", "a", None]}, ["", "", ""], {"subject": [False, True, False]}),
        ({"text": ["a", "b\ud800"]}, ["", HALF], {"subject": [True, False]}),
        (
            {"text": [{"a": 1}, 5, True, b"a"]},
            [NO_TEXT, *[""] * 3],
            {"subject": [False] + [True] * 3},
        ),
        ({"image": ["\ud800", png()]}, [NO_IMAGE, ""], {"digit": [False, True]}),
    ],
)
def test_cells_of_any_kind(
    served: ServedModel, table: Any, errors: list[str], answered: dict[str, list[bool]]
) -> None:
    found = served.predict(pd.DataFrame(table, dtype=object))
    assert [error.partition(";")[0] for error in found["error"]] == errors
    for task, present in answered.items():
        assert found[task].notna().tolist() == present


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"review": ["a"]}, "must have the column image or text, got review; call the columns"),
        ({}, "must have the column image or text, got none of them"),
        ({"text": [["a", "b"]], "image": [["a"]]}, "the lists of image, text must have one length"),
    ],
)
def test_a_request_that_cannot_be_answered(served: ServedModel, table: Any, said: str) -> None:
    with pytest.raises(Exception, match=said) as caught:
        ServedModel(served.predictor).predict(pd.DataFrame(table))
    assert isinstance(caught.value, UsageError)
    with pytest.raises(Exception, match=said) as caught:
        served.predict(pd.DataFrame(table))
    assert caught.value.get_http_status_code() == 400  # type: ignore[attr-defined]  # of MLflow


def test_a_request_with_a_column_twice(served: ServedModel) -> None:
    table = pd.DataFrame([["a", "b"]], columns=["text", "text"])
    with pytest.raises(UsageError, match="columns must differ, got text twice"):
        ServedModel(served.predictor).predict(table)


@pytest.fixture(scope="module")
def scored(model: Path, served: ServedModel) -> Callable[[Any], list[dict[str, Any]]]:
    """What MLflow's server answers to a JSON request, without the server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.models import Model
        from mlflow.pyfunc import PyFuncModel
        from mlflow.pyfunc.scoring_server import invocations

        known = Model.load(str(model))

    def answers(body: Any) -> list[dict[str, Any]]:
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patch.setitem(sys.modules, SERVER, types.ModuleType(SERVER))
            with pd.option_context("mode.string_storage", "auto"):
                accept_half_surrogates()
                whole = PyFuncModel(known, served, "predict")
                schema = known.get_input_schema()
                found = invocations(json.dumps(body), "application/json", whole, schema)
        assert found.status == 200
        rows: list[dict[str, Any]] = json.loads(found.response)["predictions"]
        return rows

    return answers


def test_a_blank_cell_or_half_a_surrogate_fails_its_row_only(
    scored: Callable[[Any], list[dict[str, Any]]],
) -> None:
    image = base64.b64encode(png()).decode()
    cells = [("good", image), ("good", None), (None, image), (" ", None), ("\ud800", image)]
    rows = [{"text": text, "image": picture} for text, picture in cells]
    found = scored({"dataframe_records": rows})
    assert [bool(row["subject"]) for row in found] == [True, True, False, False, False]
    assert [bool(row["digit"]) for row in found] == [True, False, True, False, True]
    assert [row["error"].partition(";")[0] for row in found] == [
        *[""] * 4,
        HALF.replace("character 2", "character 1"),
    ]
    none, text = scored({"inputs": {"text": [None, "good"]}})
    assert none["subject"] is None and text["subject"] == found[0]["subject"]


def test_a_request_without_a_known_column_is_refused(scored: Callable[[Any], Any]) -> None:
    with pytest.raises(Exception, match="must have the column image or text") as caught:
        scored({"dataframe_records": [{"review": "good"}]})
    assert caught.value.get_http_status_code() == 400  # type: ignore[attr-defined]  # of MLflow


def test_folder_holds_what_predicting_needs(model: Path) -> None:
    assert {path.name for path in (model / CODE_FOLDER).iterdir()} == {
        "pipeline",
        "datamodules",
        "lightning_modules",
        "pollinate",
        "configs",
    }
    assert not list(model.rglob("__pycache__"))
    assert not [path for path in model.rglob("*") if path.suffix in (".pkl", ".pickle")]
    lines = (model / REQUIREMENTS).read_text().splitlines()
    assert [line.partition("==")[0] for line in lines] == list(NEEDED_PACKAGES)
    assert all(re.fullmatch(r"[a-z]+==[\d.]+\w*", line) for line in lines)
    description = (model / "MLmodel").read_text()
    assert "loader_module: pipeline.serving.pyfunc" in description
    for task in TASKS:
        assert f'"{task}_probability"' in description


def test_weights_come_without_optimizer_paths_and_addresses(model: Path) -> None:
    saved = torch.load(model / DATA_FOLDER / WEIGHTS, weights_only=True)
    assert set(saved) == {"state_dict", "pollinate"}
    assert set(saved["pollinate"]["config"]) == {"data", "encoder", "fusion", "trunk", "dim"}
    assert "source" not in saved["pollinate"]["config"]["data"]["datasets"]["mnist"]


def test_loads_where_pollinate_is_not_installed(
    model: Path, load_elsewhere: Callable[..., Any]
) -> None:
    found = load_elsewhere(str(model))
    assert found["code"] == str(model / CODE_FOLDER / "pipeline" / "__init__.py")
    assert found["answers"][0]["subject"]
    assert found["answers"][1]["subject"] is None


def test_loads_where_pollinate_is_installed(
    model: Path, load_elsewhere: Callable[..., Any]
) -> None:
    assert load_elsewhere(str(model), python_path=str(ROOT))["answers"][0]["subject"]


def test_code_of_the_users_own_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_shop").mkdir()
    (tmp_path / "my_shop" / "__init__.py").touch()
    (tmp_path / "my_file.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    allowed = ["my_shop.encoders", "my_file", "torch"]
    requirements = copy_code(tmp_path / "code", allowed)
    assert (tmp_path / "code" / "my_shop" / "__init__.py").exists()
    assert (tmp_path / "code" / "my_file.py").exists()
    assert [line.partition("==")[0] for line in requirements] == ["torch"]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_run", "warm_senders")
def test_a_run_registers_its_best_model(
    tmp_path: Path,
    empty_database: Path,
    load_elsewhere: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = f"sqlite:///{shutil.copy(empty_database, tmp_path)}"
    run = tmp_path / "run"
    arguments = [*SMALL, f"run_dir={run}", f"tracking.uri={uri}", "tracking.register=shop"]
    monkeypatch.setattr("pipeline.training_run.draw_plots", lambda *_: [])
    monkeypatch.setattr("pipeline.training_run.draw_reliability", lambda *_: [])
    assert fit(arguments) == 0
    found = load_elsewhere("models:/shop/1", uri)
    predictor = Predictor.load(run / "checkpoints" / "best.ckpt")
    for task, answers in predictor.predict({"text": ["good"]}).answers.items():
        [answer] = answers
        assert found["answers"][0][task] == (answer and answer["label"])


@pytest.fixture
def address(model: Path, elsewhere: Forks, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["-m", str(model), "--env-manager", "local", "--host", "127.0.0.1"]
    with (tmp_path / "log").open("w") as log, Path(os.devnull).open() as nothing:
        files = [file.fileno() for file in (nothing, log, log)]
        server = elsewhere.start(
            SERVE, *arguments, "--port", str(port),
            files=files, folder=tmp_path, environment={**os.environ, **ELSEWHERE},
        )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", tmp_path / "log")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        server.kill()
        server.wait()


def wait_for(url: str, log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"no answer: {log.read_text()}")


def post(url: str, body: Any) -> Any:
    content = json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer, parse_constant=pytest.fail)["predictions"]  # NaN is no JSON


@pytest.mark.slow
def test_mlflow_serves_raw_text_and_images(address: str) -> None:
    image = base64.b64encode(png()).decode()
    rows = [{"text": "good", "image": image}, {"text": "bad", "image": ""}]
    both, text_only = post(address, {"dataframe_records": rows})
    assert all(both[task] and 0 < both[f"{task}_probability"] <= 1 for task in TASKS)
    assert text_only["subject"] and text_only["digit"] is None
    [only] = post(address, {"dataframe_records": [{"image": image}]})
    assert only["digit"] == both["digit"] and only["subject"] is None
    found = post(address, {"inputs": {"text": ["good", "bad"]}})
    assert [row["subject"] for row in found] == [both["subject"], text_only["subject"]]
    [bad] = post(address, {"dataframe_records": [{"image": base64.b64encode(b"no").decode()}]})
    assert bad["digit"] is None and "not an image" in bad["error"]
    blank, half, good = post(
        address, {"dataframe_records": [{"text": " "}, {"text": "a\ud800"}, {"text": "good"}]}
    )
    assert not blank["subject"] and "half a surrogate" in half["error"] and good["subject"]
    with pytest.raises(urllib.error.HTTPError, match="400") as caught:
        post(address, {"dataframe_records": [{"review": "good"}]})
    assert "must have the column image or text" in caught.value.read().decode()
