# SPDX-License-Identifier: Apache-2.0
"""A report's page in a real browser: headless Chromium, wide and narrow, light and dark, and in print.

axe-core (https://github.com/dequelabs/axe-core) judges how accessible it is. On CI a missing browser is a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pytest

from migrator.report import report
from migrator.report.page import render
from migrator.report.sources import read
from tests.report.runs import RUNS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM and not os.environ.get("CI"), reason="needs chromium"),
    pytest.mark.slow,
]
MANY = 60
"""Comparisons of a verification that is folded away until somebody opens or prints it."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - where the tests do not run it need not be there

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM)


@pytest.fixture(scope="module", params=["finished", "taken back", "dirty", "crashed", "a large node"])
def page_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "node").mkdir()
    run = RUNS.get(request.param, RUNS["finished"])(folder / "node")
    found = report(read(run), "2026-11-23T12:00:00Z")
    if request.param not in RUNS:
        found = enlarged(found)
    target = folder / "report.html"
    target.write_text(render(found), encoding="ascii")
    return target


def enlarged(found: Any) -> Any:
    """Return a report with long lines and many comparisons."""
    from dataclasses import replace  # noqa: PLC0415

    change = found.changes[0]
    long = replace(
        change, name=f"/etc/{'x' * 300}", diff=f"{change.diff}+{'long words ' * 40}\n+{'y' * 400}\n"
    )
    row = found.verification["checks"][0]
    rows = [{**row, "name": f"default/web-{number}", "ok": number != MANY - 1} for number in range(MANY)]
    proof = {**found.verification, "checks": rows, "ok": False}
    return replace(found, changes=(long, *found.changes), verification=proof, reason="z" * 300)


def opened(
    browser: Any, page_file: Path, width: int, scheme: Literal["light", "dark"]
) -> tuple[Any, list[str]]:
    """Open the page where nothing but the page can be had; return it and what its console said."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True, offline=True
    )
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(request.url))
    page.goto(page_file.as_uri())
    return page, said


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_axe_finds_no_violation_nothing_is_said_and_the_page_never_scrolls_sideways(
    browser: Any, page_file: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    page, said = opened(browser, page_file, width, scheme)
    widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.evaluate((resources.files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
    found = page.evaluate("axe.run()")

    assert [] == [
        (each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found["violations"]
    ]
    assert 20 < len(found["passes"])
    assert widths[0] <= widths[1] == width
    assert {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme] == ground
    assert [] == said
    page.context.close()


def test_the_page_obeys_its_own_policy_and_a_script_put_into_it_does_nothing(
    browser: Any, page_file: Path, tmp_path: Path
) -> None:
    forged = tmp_path / "forged.html"
    script = "<script>document.title = 'taken over'</script><img src='http://127.0.0.1:9/x'>"
    forged.write_text(page_file.read_text("ascii").replace("<main>", f"<main>{script}"), encoding="ascii")
    context = browser.new_context()
    page = context.new_page()
    refused: list[tuple[str, str | None]] = []
    page.on("requestfailed", lambda request: refused.append((request.url, request.failure)))
    page.goto(forged.as_uri())

    assert page.title().startswith("cgmigrate: ")
    assert "rgb(255, 255, 255)" == page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert [("http://127.0.0.1:9/x", "csp")] == refused
    context.close()


def test_all_of_it_is_on_paper_also_what_is_folded_away_on_the_screen(browser: Any, page_file: Path) -> None:
    page, said = opened(browser, page_file, 1280, "dark")
    folded = page.locator("details:not([open])").count()
    page.emulate_media(media="print")
    hidden = page.evaluate(
        "[...document.querySelectorAll('main td, main li, main pre')]"
        ".filter(e => e.textContent && !e.checkVisibility({contentVisibilityAuto: true})).length"
    )
    narrow = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(e => getComputedStyle(e).overflowX !== 'visible').length"
    )
    paper = page.pdf(format="A4")

    assert (0, 0) == (hidden, narrow)
    assert folded == (1 if f"default/web-{MANY - 1}" in page_file.read_text() else 0)
    assert paper.startswith(b"%PDF-")
    assert [] == said
    page.context.close()


def test_what_scrolls_sideways_can_be_reached_by_keyboard(browser: Any, page_file: Path) -> None:
    page, _ = opened(browser, page_file, 400, "light")
    out_of_reach = page.evaluate(
        "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1"
        " && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) && e.tabIndex < 0).length"
    )

    assert 0 == out_of_reach
    page.context.close()
