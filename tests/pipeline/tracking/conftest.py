from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.mlflow_settings import MLFLOW_DEFAULTS

with warnings.catch_warnings():
    # importing MLflow warns about its own type hints and its own use of SQLAlchemy
    warnings.simplefilter("ignore")
    import mlflow.pyfunc
    import mlflow.store.tracking.sqlalchemy_store


@pytest.fixture
def database(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A fresh sqlite address; creating the tables anew takes seconds."""
    for name, value in MLFLOW_DEFAULTS.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(empty_database, path)
    yield f"sqlite:///{path}"
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import pandas as pd

    folder = tmp_path_factory.mktemp("model") / "model"
    frame = pd.DataFrame({"x": [1.0]})
    signature = mlflow.models.infer_signature(frame, frame)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about examples and type hints

        class Doubler(mlflow.pyfunc.PythonModel):
            def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
                return model_input * 2

        mlflow.pyfunc.save_model(
            str(folder), python_model=Doubler(), signature=signature, pip_requirements=["mlflow"]
        )
    return folder
