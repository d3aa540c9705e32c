from __future__ import annotations

import os

import pytest

from pipeline.tracking.timeouts import DEFAULTS, set_defaults, upload_patience

NAME = "MLFLOW_HTTP_REQUEST_TIMEOUT"


@pytest.mark.parametrize(("user", "normal", "upload"), [(None, 10, 600), ("90", 90, 600)])
def test_requests_are_short_and_uploads_long(
    monkeypatch: pytest.MonkeyPatch, user: str | None, normal: int, upload: int
) -> None:
    for name in DEFAULTS:
        monkeypatch.setenv(name, "x")  # so that it is restored
        monkeypatch.delenv(name)
    if user is not None:
        monkeypatch.setenv(NAME, user)
    set_defaults()
    assert os.environ[NAME] == str(normal)
    with upload_patience():
        assert os.environ[NAME] == str(upload)
    assert os.environ[NAME] == str(normal)
