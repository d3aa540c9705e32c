"""Whether a tracking server was not there, or did not take what it was sent."""

from __future__ import annotations

import pytest
from requests import ConnectionError as NoConnection
from requests import HTTPError, ReadTimeout, Response
from requests.exceptions import RetryError

from pipeline.tracking.worker import has_answered


def caused_by(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception as error:
            raise RuntimeError("the request failed") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "answered"),
    [
        (RuntimeError("error code 403"), True),
        (caused_by(HTTPError(response=Response())), True),
        (caused_by(RetryError("too many 500 error responses")), True),
        (caused_by(NoConnection("refused")), False),
        (caused_by(ReadTimeout("too late")), False),
        (caused_by(ConnectionResetError()), False),
    ],
)
def test_what_is_no_answer(error: Exception, answered: bool) -> None:
    assert has_answered(error) is answered
