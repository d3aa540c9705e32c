from __future__ import annotations

import pytest

from pipeline.tracking.mlflow_settings import clean_name
from pipeline.tracking.redact import is_secret, redact, redact_arguments, redact_text


@pytest.mark.parametrize(
    "key",
    ["password", "db.password", "hf_token", "apiKey", "API_KEY", "aws_secret_access_key",
     "githubToken", "client_secret", "data.source.credentials", "token"],
)  # fmt: skip
def test_secret_keys(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize(
    "key",
    ["tokenizer", "max_tokens", "tokens", "keyboard", "key", "pad_token", "mask_token_id",
     "secretary", "num_keys", "monkey", "token.size"],
)  # fmt: skip
def test_harmless_keys(key: str) -> None:
    assert not is_secret(key)


def test_redact_goes_into_containers() -> None:
    found = redact({"a": [{"token": "x", "lr": 1}], "u": "http://me:pw@host/a", "password": None})
    assert found == {"a": [{"token": "***", "lr": 1}], "u": "http://***@host/a", "password": None}


def test_redact_text_and_arguments() -> None:
    assert redact_text("no http://u:p@h:1/x at postgresql+psycopg2://a:b@c/d") == (
        "no http://***@h:1/x at postgresql+psycopg2://***@c/d"
    )
    assert redact_text("mail me@host, http://host/@x") == "mail me@host, http://host/@x"
    assert redact_arguments(["fit", "hub.token=abc", "tracking.uri=http://u:p@h"]) == [
        "fit", "hub.token=***", "tracking.uri=http://***@h",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("train/digit/loss", "train/digit/loss"),
        ("valid/shop:stars/top@5", "valid/shop_stars/top_5"),
        ("/a//b/", "a/b"),
        ("../x", "_/x"),
        ("größe", "größe"),
    ],
)
def test_clean_name(name: str, clean: str) -> None:
    assert clean_name(name, 250) == clean


def test_long_names_stay_different() -> None:
    one, two = clean_name("a" * 300 + "1", 250), clean_name("a" * 300 + "2", 250)
    assert one != two
    assert len(one) == 250
