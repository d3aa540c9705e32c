"""Ctrl-C and SIGTERM as a polite request."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from pollinate.interrupt import StopRequest


@pytest.fixture
def request_() -> Iterator[StopRequest]:
    found = StopRequest()
    found.install()
    yield found
    found.restore()


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_remembered_and_said(
    number: signal.Signals, request_: StopRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert request_.signal_name is None
    send(number)
    assert request_.signal_name == number.name
    assert "the step under way is finished and saved" in capsys.readouterr().err


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_again_stops_at_once(first: signal.Signals, request_: StopRequest) -> None:
    send(first)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_sigterm_again_is_as_patient(
    request_: StopRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        send(signal.SIGTERM)
    assert request_.signal_name == "SIGTERM"
    assert capsys.readouterr().err.count("stopping:") == 1


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    found = StopRequest()
    found.install()
    assert signal.getsignal(signal.SIGINT) != before[0]
    found.restore()
    found.restore()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
