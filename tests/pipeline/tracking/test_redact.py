from __future__ import annotations

import pytest

from pipeline.tracking.mlflow_settings import clean_name
from pipeline.tracking.redact import is_secret, passwords_in, redact, redact_arguments, redact_text


@pytest.mark.parametrize(
    "key",
    ["password", "db.password", "hf_token", "apiKey", "API_KEY", "aws_secret_access_key",
     "githubToken", "client_secret", "data.source.credentials", "token", "token.size",
     "hfAuthToken", "dbpassword", "accesstoken", "AWSSecretAccessKey", "headers.X-Mine",
     "storage_options.key",
     "storageOptions.account", "credentials.user", "X-Amz-Signature", "api_keys", "cookie"],
)  # fmt: skip
def test_secret_keys(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize(
    "key",
    ["tokenizer", "max_tokens", "tokens", "keyboard", "key", "pad_token", "mask_token_id",
     "secretary", "num_keys", "monkey", "class_token", "token_count",
     "data.tasks.token.target", "balancer.task_weights.signature", "heads", "author",
     "optimizer.lr"],
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


# a made-up secret, and texts that hold it
SECRET = "s3cr3t"
TEXTS = [
    f"http://me:{SECRET}@host/a",
    f"http://me:a@{SECRET}@host/a",
    f"http://me:a/{SECRET}@host/a",
    f"http://me:a?{SECRET}@host/a",
    f"http://me:it's{SECRET}@host/a",
    f'http://me:"{SECRET}"@host/a',
    f"postgresql+psycopg2://me:a {SECRET}@host/a",
    f"can't open postgresql://me:a b/{SECRET}?'x@host:5432/db",
    f"https://{SECRET}@github.com/me/it.git",
    f"https://host/data.csv?x=1&token={SECRET}&y=2",
    f"https://host/data.csv?sig={SECRET}",
    f"https://host/#access_token={SECRET}",
    f"https://host/a?X-Amz-Signature={SECRET}&X-Amz-Date=1",
    f"host=x password={SECRET} dbname=y",
    f"password='{SECRET} x'",
    f'{{"apiKey": "{SECRET}"}}',
    f"{{path:a.csv,token:{SECRET}}}",
    f"{{'hf_token': '{SECRET}'}}",
    f"Authorization: Bearer {SECRET}{SECRET}",
    f"Basic {SECRET}{SECRET}",
    f"hf_{SECRET * 5}",
    f"ghp_{SECRET * 5}",
    f"eyJhbGciOiJ.{SECRET}.sig",
    f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_keep_no_secret(text: str) -> None:
    assert SECRET not in redact_text(text)
    assert SECRET not in str(redact({"a": [text], "b": {"c": text}}))
    assert SECRET not in " ".join(redact_arguments([f"tracking.uri={text}", text]))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "http://host:5000/models/a@latest",
            "http://host/@x",
            "mail me@host",
            "models:/shop@best",
        ),
        *("sqlite:////a b/m.db", "http://host:5000 is down; mail me@host", "unexpected token: ','"),
        *(
            "runs/lr=0.1,bs=3",
            "{text: review, image: photo}",
            "max_tokens=128",
            "https://host/?page=2",
        ),
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert redact_text(text) == text


def test_all_below_a_secret_key_is_hidden_but_switches() -> None:
    node = {
        "source": {"storage_options": {"key": "a", "n": 12, "anon": True, "deep": [{"b": "c"}]}}
    }
    assert redact(node) == {
        "source": {
            "storage_options": {"key": "***", "n": "***", "anon": True, "deep": [{"b": "***"}]}
        }
    }
    assert redact_arguments(["data.a.source.headers={X:abc}", "+hub.token=x"]) == [
        "data.a.source.headers=***", "+hub.token=***",
    ]  # fmt: skip


def test_a_task_may_be_called_token() -> None:
    node = {"data": {"tasks": {"token": {"target": "tag"}}}, "task_weights": {"secret": 2.0}}
    assert redact(node) == node


def test_passwords_of_addresses_are_known() -> None:
    assert list(passwords_in("http://me:p/w@host")) == ["me:p/w", "p/w"]


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
