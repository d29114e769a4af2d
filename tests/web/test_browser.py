"""The page in a real Chromium, Debian's: what is seen, by pixel, and what happens when somebody touches something."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from live_page import Page, decoded, serving

from fcn_edge.video.feed import Tally
from fcn_edge.video.painter import Painter
from fcn_edge.video.sinks import Result
from fcn_edge.web.hub import Hub, View

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not there: scripts/test brings it")
pytestmark = pytest.mark.debian(chromium="chromium")

WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
CAT = (225, 150)  # x, y of a pixel of the photo that is cat
CAT_RGB = (64, 0, 0)
TOKEN = "correct-horse"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Any) -> Iterator[Any]:
    """A wide window; whatever its console complains of fails the test."""
    with opened(chromium, viewport=WIDE) as page:
        yield page


@contextmanager
def opened(chromium: Any, complains: bool = False, **options: Any) -> Iterator[Any]:
    context = chromium.new_context(accept_downloads=True, **options)
    page = context.new_page()
    page.set_default_timeout(30_000)
    complaints: list[str] = []

    def note(message: Any) -> None:
        if message.type in ("error", "warning") and "readback" not in message.text:  # which is what these tests do
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    if not complains:
        assert complaints == []


def show(tab: Any, page: Page, path: str = "/") -> None:
    tab.goto(page.server.url.rstrip("/") + path)
    tab.wait_for_function("() => document.querySelector('.picture canvas')?.width > 16")


def pixel(tab: Any, at: tuple[int, int] = CAT, canvas: str = ".picture canvas") -> tuple[int, ...]:
    """RGB of the picture as it is on the page."""
    script = "([canvas, x, y]) => [...document.querySelector(canvas).getContext('2d').getImageData(x, y, 1, 1).data]"
    return tuple(tab.evaluate(script, [canvas, *at])[:3])


def near(one: tuple[int, ...], other: tuple[float, ...], by: float = 8) -> bool:
    return all(abs(a - b) <= by for a, b in zip(one, other, strict=True))


def photo(seen: Callable[..., Result], at: tuple[int, int] = CAT) -> tuple[int, ...]:
    return tuple(int(value) for value in seen().frame.image[at[1], at[0]][::-1])


def blend(frame: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    return tuple((1 - alpha) * one + alpha * other for one, other in zip(frame, CAT_RGB, strict=True))


def test_views_and_opacity_act_at_once_on_the_picture_at_hand(tab, page, view, seen):
    view.put(seen())
    show(tab, page)
    assert near(pixel(tab), blend(photo(seen), 0.5))
    tab.get_by_label("Opacity").fill("100")
    assert near(pixel(tab), CAT_RGB, 1)
    tab.get_by_label("Opacity").fill("20")
    assert near(pixel(tab), blend(photo(seen), 0.2))
    tab.get_by_text("Raw", exact=True).click()
    assert near(pixel(tab), photo(seen))
    tab.get_by_text("Mask", exact=True).click()
    assert pixel(tab) == CAT_RGB
    assert pixel(tab, (2, 2)) == (0, 0, 0)


def test_a_class_can_be_hidden_alone_and_with_all_others(tab, page, view, seen):
    view.put(seen())
    show(tab, page)
    tab.get_by_role("checkbox", name="cat").uncheck()
    assert near(pixel(tab), photo(seen))
    tab.get_by_role("checkbox", name="cat").check()
    assert near(pixel(tab), blend(photo(seen), 0.5))
    tab.get_by_role("button", name="Show no class").click()
    assert near(pixel(tab), photo(seen))
    tab.get_by_role("button", name="Show all classes").click()
    assert near(pixel(tab), blend(photo(seen), 0.5))


def test_the_legend_names_what_is_there_with_its_share(tab, page, view, seen):
    view.put(seen())
    show(tab, page)
    share = seen().shares["cat"]
    row = tab.locator("#legend li", has_text="cat")
    playwright.expect(row.locator(".share")).to_have_text(f"{100 * share:.1f} %")
    assert tab.locator("#legend li:visible").count() == sum(s >= 0.001 for s in seen().shares.values()) - 1
    assert f"cat {100 * share:.1f} %" in tab.locator(".picture canvas").get_attribute("aria-label")


def test_the_chart_shows_the_areas_in_their_colours(tab, page, view, seen):
    with coming(view, lambda number: seen(number)):
        show(tab, page)
        count = """rgb => {
            const canvas = document.getElementById("chart");
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            let found = 0;
            for (let i = 0; i < data.length; i += 4)
                found += data[i + 3] === 255 && rgb.every((value, c) => Math.abs(data[i + c] - value) < 3);
            return found > 20;
        }"""
        tab.wait_for_function(count, arg=list(CAT_RGB))


@contextmanager
def coming(view: View, make: Callable[[int], Result], every: float = 0.05) -> Iterator[None]:
    """New results all the while, as a pipeline puts them."""
    done = threading.Event()

    def put() -> None:
        number = 0
        while not done.wait(every):
            view.tally.frames = number + 1
            view.tally.recent.append(time.monotonic())
            view.put(make(number))
            number += 1

    thread = threading.Thread(target=put)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


MOVED = """seen => [[640, 360], [300, 200]].some(([x, y], i) => {
    const now = document.querySelector(".picture canvas").getContext("2d").getImageData(x, y, 1, 1).data;
    return seen[i].some((value, c) => Math.abs(value - now[c]) > 12);
})"""


def test_the_picture_moves_and_the_figures_with_it(tab, page, view, source, seen, segmenter):
    frames = [frame for frame, _ in zip(source, range(40), strict=False)]
    labels = np.zeros(frames[0].image.shape[:2], np.uint8)

    def moving(number: int) -> Result:
        return Result(frames[number % 40], labels, None, {"background": 1.0}, {})

    with coming(view, moving):
        show(tab, page)
        first = pixel(tab, (640, 360)), pixel(tab, (300, 200))
        tab.wait_for_function(MOVED, arg=first)
        frames_seen = int(tab.locator("[data-key=frames]").inner_text())
        tab.wait_for_function(
            f"() => Number(document.querySelector('[data-key=frames]').textContent) > {frames_seen + 5}"
        )
        assert float(tab.locator("[data-key=fps]").inner_text()) > 1


def test_a_lost_source_is_told_of_and_its_return_too(tab, page, view, source, seen):
    view.put(seen())
    show(tab, page)
    source.lost_since = time.monotonic() - 11
    playwright.expect(tab.locator(".lost")).to_contain_text("No signal for 1")
    playwright.expect(tab.get_by_role("status")).to_have_text("No signal")
    source.lost_since = None
    view.put(seen(1))
    playwright.expect(tab.get_by_role("status")).to_have_text("Live")
    playwright.expect(tab.locator(".lost")).to_be_hidden()


def test_a_snapshot_is_the_frame_as_seen_with_its_mask(tab, page, view, seen, tmp_path):
    view.put(seen(5))
    show(tab, page)
    tab.get_by_role("button", name="Snapshot").click()
    kept = {}
    for text in ("As seen, PNG", "Frame, JPEG", "Mask, PNG", "Figures, JSON"):
        with tab.expect_download() as download:
            tab.get_by_role("link", name=text).click()
        kept[text] = (download.value.suggested_filename, Path(download.value.path()).read_bytes())
    assert [name for name, _ in kept.values()] == [
        "cat_000005-overlay.png", "cat_000005.jpg", "cat_000005-mask.png", "cat_000005.json"
    ]  # fmt: skip
    seen_png = cv2.cvtColor(decoded(kept["As seen, PNG"][1])[..., :3], cv2.COLOR_BGR2RGB)
    assert near(tuple(map(int, seen_png[CAT[1], CAT[0]])), blend(photo(seen), 0.5))
    from io import BytesIO

    from PIL import Image

    assert (np.asarray(Image.open(BytesIO(kept["Mask, PNG"][1]))) == seen().labels).all()
    assert json.loads(kept["Figures, JSON"][1])["classes"]["cat"] > 0.2
    tab.get_by_role("button", name="Close").click()
    playwright.expect(tab.locator("dialog")).to_be_hidden()


def test_everything_is_reached_and_worked_by_key(tab, page, view, seen):
    view.put(seen())
    show(tab, page)
    reached = []
    for _ in range(14):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.textContent.trim() || document.activeElement.name"))
    for name in ("To the controls", "view", "opacity", "Snapshot", "Full screen", "All", "None"):
        assert name in reached
    tab.locator(".picture").focus()
    tab.keyboard.press("3")
    assert pixel(tab) == CAT_RGB
    tab.keyboard.press("2")
    for _ in range(10):
        tab.keyboard.press("ArrowUp")
    assert near(pixel(tab), CAT_RGB, 1)
    tab.keyboard.press("s")
    playwright.expect(tab.get_by_role("dialog", name="Snapshot")).to_be_visible()
    tab.keyboard.press("Escape")
    playwright.expect(tab.locator("dialog")).to_be_hidden()


def test_what_can_be_worked_has_a_name(tab, page, view, seen):
    view.put(seen())
    show(tab, page)
    tree = tab.locator("body").aria_snapshot()
    for part in ('radio "Raw"', 'radio "Overlay" [checked]', 'slider "Opacity"', 'checkbox "cat" [checked]', "status"):
        assert part in tree
    nameless = tab.evaluate(
        "[...document.querySelectorAll('button, input, canvas, a')].filter(e => !(e.textContent.trim() ||"
        " e.ariaLabel || e.labels?.[0]?.textContent.trim())).map(e => e.outerHTML)"
    )
    assert nameless == []


SMALL = """() => [...document.querySelectorAll("button, .views span, #legend label, [type=range]")]
    .filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 24)
    .map((each) => each.outerHTML)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut_off_and_all_is_large_enough_to_touch(chromium, scheme, page, view, seen):
    view.put(seen())
    with opened(chromium, viewport=PHONE, device_scale_factor=2, has_touch=True, color_scheme=scheme) as tab:
        show(tab, page)
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        small = tab.evaluate(SMALL)
        assert small == []  # WCAG 2.2, 2.5.8
        ink = tab.evaluate("getComputedStyle(document.body).color")
        assert ink == ("rgb(230, 233, 236)" if scheme == "dark" else "rgb(26, 29, 33)")


def test_several_sources_stand_on_one_page(tab, hub, page, view, source, seen, segmenter):
    second = hub.add(source, Painter(segmenter.spec), Tally())
    dark = replace(seen().frame, image=np.zeros((90, 160, 3), np.uint8))
    view.put(seen())
    second.put(Result(dark, np.full((90, 160), 15, np.uint8), None, {"person": 1.0}, {}))
    show(tab, page)
    tab.wait_for_function("() => [...document.querySelectorAll('.picture canvas')].every(c => c.width > 16)")
    assert tab.locator("figure[data-source]").count() == 2
    assert near(pixel(tab), blend(photo(seen), 0.5))
    assert near(pixel(tab, (80, 45), "[data-source='2'] canvas"), (96, 64, 64))
    playwright.expect(tab.locator("#legend li", has_text="cat").locator(".share")).not_to_have_text("0.0 %")
    tab.get_by_role("radio", name="demo:").nth(1).check()
    playwright.expect(tab.locator("#legend li", has_text="person").locator(".share")).to_have_text("100.0 %")
    playwright.expect(tab.locator("[data-key=picture]")).to_contain_text("160 x 90")


def test_the_token_is_asked_for_and_enough(chromium, hub: Hub, view, seen):
    view.put(seen())
    with serving(hub, TOKEN) as page, opened(chromium, complains=True, viewport=WIDE) as tab:
        tab.goto(page.server.url)
        assert tab.get_by_role("button", name="Look").is_visible()
        assert tab.locator("canvas").count() == 0
        tab.get_by_label("Token").fill("wrong-token")
        tab.keyboard.press("Enter")
        playwright.expect(tab.get_by_role("alert")).to_have_text("That is not the token.")
        tab.get_by_label("Token").fill(TOKEN)
        tab.keyboard.press("Enter")
        tab.wait_for_function("() => document.querySelector('.picture canvas')?.width > 16")
        assert TOKEN not in tab.url
        assert TOKEN not in tab.content()


def test_a_server_that_went_away_is_told_of_and_looked_for(chromium, hub: Hub, view, seen):
    view.put(seen())
    with opened(chromium, complains=True, viewport=WIDE) as tab:
        with serving(hub) as page:
            show(tab, page)
        playwright.expect(tab.get_by_role("status")).to_contain_text("ended")
