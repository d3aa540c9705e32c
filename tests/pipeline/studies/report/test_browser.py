"""The report and MLflow's page in a real browser: what a person looks for is there to be seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.mlflow_settings import artifact_location, prepare_sqlite
from pipeline.ui import ui_command
from tests.extras import needs
from tests.pipeline.tracking.test_mlflow_server import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 60_000  # milliseconds that a page may take on a busy machine

pytestmark = [
    needs("playwright"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
]


@dataclass
class Seen:
    """A page, what it complained about, and what it asked the network for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright import sync_api

    with sync_api.sync_playwright() as playwright:
        # Chromium's own sandbox refuses to run as root, as CI does
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Seen]]:
    contexts = []

    def opened(address: str) -> Seen:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 844}))
        seen = Seen(contexts[-1].new_page())
        seen.page.set_default_timeout(PATIENCE)
        seen.page.on("console", lambda message: seen.complaints.append(message.text))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.goto(address)
        return seen

    yield opened
    for context in contexts:
        context.close()


def test_the_report(visit: Callable[..., Seen], report: Path) -> None:
    address = (report / "report.html").as_uri()
    seen = visit(address)
    for width, scheme in product((1280, 390), ("light", "dark")):
        seen.page.set_viewport_size({"width": width, "height": 844})
        seen.page.emulate_media(color_scheme=scheme)
        looks_well(seen.page, width, scheme)
    assert seen.complaints == []
    assert seen.requests == [address]


def looks_well(page: Any, width: int, scheme: str) -> None:
    verdict = page.locator(".verdict")
    assert verdict.is_visible()
    assert verdict.bounding_box()["y"] < 300
    assert verdict.inner_text().startswith("Sharing helped 3 of 4 tasks")
    boxes = page.eval_on_selector_all(
        "svg", "all => all.map(one => [one.clientWidth, one.clientHeight])"
    )
    assert len(boxes) == 24
    assert min(wide for wide, _ in boxes) > 300
    assert min(high for _, high in boxes) > 80
    sizes = page.eval_on_selector_all(
        "svg text", "all => all.map(one => one.getBoundingClientRect().height)"
    )
    assert min(sizes) > 9  # pixels: it can be read
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    lightness = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (lightness == "rgb(255, 255, 255)") == (scheme == "light")
    ink = page.eval_on_selector("svg text", "one => getComputedStyle(one).fill")
    assert ink == page.evaluate("getComputedStyle(document.body).color")


def test_commands_open_and_are_marked_whole(visit: Callable[..., Seen], report: Path) -> None:
    page = visit((report / "report.html").as_uri()).page
    page.get_by_role("link", name="How to reproduce each number").click()
    arm = page.locator("details", has=page.get_by_text("upgrad", exact=True))
    arm.locator("summary").click()
    command = arm.locator("pre").first
    assert command.is_visible()
    command.click()
    marked = page.evaluate("getSelection().toString()")
    assert marked.startswith("python -m pipeline.fit data=quickstart balancer=upgrad seed=0")


@dataclass
class Store:
    """address: of MLflow's pages; experiment, run: of the study's own run."""

    address: str
    experiment: str
    run: str


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, report: Path) -> Iterator[Store]:
    """A database with a study's run and its parts, served as ``python -m pipeline.ui`` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow, about its own use of SQLAlchemy
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
        from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    prepare_sqlite(uri)
    client = MlflowClient(uri)
    experiment = client.create_experiment("pollinate", artifact_location(uri))
    run = client.create_run(experiment, run_name="study").info.run_id
    client.log_metric(run, "delta_m/multi_task", 0.0012)
    client.log_artifact(run, str(report / "report.html"))
    for name in ("multi_task-seed-0", "single_task-digit-seed-0"):
        part = client.create_run(experiment, run_name=name, tags={"mlflow.parentRunId": run})
        client.set_terminated(part.info.run_id)
    client.set_terminated(run)
    port = free_port()
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        ui_command(uri, port), env={**os.environ, **settings},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address)
        yield Store(address, experiment, run)
    finally:
        server.terminate()
        server.wait(20)


def wait_for(address: str) -> None:
    """Wait until a server answers."""
    until = time.monotonic() + PATIENCE / 1000
    while True:
        try:
            urllib.request.urlopen(f"{address}/health").close()
        except OSError:
            assert time.monotonic() < until, "no server"
            time.sleep(0.1)
        else:
            return


def test_mlflow_shows_the_study_its_parts_and_its_report(
    visit: Callable[..., Seen], store: Store
) -> None:
    seen = visit(f"{store.address}/#/experiments/{store.experiment}/runs/{store.run}")
    page = seen.page
    for name in ("multi_task-seed-0", "single_task-digit-seed-0"):
        page.get_by_role("link", name=name).wait_for()
    page.get_by_text("delta_m/multi_task").first.wait_for()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("report.html").first.click()
    frame = page.frame_locator("iframe")
    frame.get_by_text("Sharing helped 3 of 4 tasks").wait_for()
    assert frame.locator("svg").first.bounding_box()["width"] > 300
    assert all(url.startswith((store.address, "blob:", "data:")) for url in seen.requests)
