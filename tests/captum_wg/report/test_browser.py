"""The page in headless Chromium: it sorts, switches, unfolds, fits a phone, and asks for nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from captum_wg.report import BEST, Report, html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
webdriver: Any = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium here (Debian: apt-get install chromium chromium-driver)"
)


@pytest.fixture(scope="module")
def browser(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with the page of the report, from a file."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1200,900"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html(report), encoding="utf-8")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.implicitly_wait(10)  # seconds until what is looked for is there: charts and links act after a while
    try:
        driver.get(path.as_uri())
        yield driver
    finally:
        driver.quit()


def found(browser: Any, selector: str) -> list[Any]:
    elements: list[Any] = browser.find_elements("css selector", selector)
    return elements


def column(browser: Any, place: int) -> list[str]:
    return [cell.text for cell in found(browser, f"#tables tbody tr > :nth-child({place})")]


def test_it_sorts_by_click_and_by_keyboard(browser: Any) -> None:
    method, deletion, insertion, why = found(browser, "#tables thead button")
    assert column(browser, 1) == ["WG", "IG", "Random"]

    insertion.click()  # the best first; what is missing last, whatever the order
    assert column(browser, 1) == ["WG", "Random", "IG"]
    insertion.click()
    assert column(browser, 1) == ["Random", "WG", "IG"]
    deletion.send_keys("\ue007")  # Enter; as numbers: 10 comes after 0.3
    assert column(browser, 1) == ["WG", "IG", "Random"]
    deletion.send_keys(" ")
    assert column(browser, 1) == ["Random", "IG", "WG"]
    (sorted_,) = found(browser, "#tables th[aria-sort]")
    assert sorted_.get_attribute("aria-sort") == "descending" and sorted_.text.startswith("Deletion")
    said = found(browser, "#sorted")[0].get_attribute("textContent")
    assert said.startswith("Sorted by Deletion") and said.endswith("descending.")
    why.click()
    assert column(browser, 4) == ["</script><b>c", "a", "b"]
    method.click()
    assert column(browser, 1) == ["IG", "Random", "WG"]


def test_marks_are_not_of_colour_alone(browser: Any) -> None:
    best = found(browser, f"#tables td.{BEST}")
    assert len(best) == 2 and all("★" in cell.text for cell in best)
    (tied,) = found(browser, "#tables td.tied")
    assert tied.text.endswith("=") or "=" in tied.text


def shown(browser: Any, where: str = "#maps") -> set[str]:
    return {one.get_attribute("data-style") for one in found(browser, f"{where} .map") if one.is_displayed()}


def test_the_style_of_the_maps_switches(browser: Any) -> None:
    styles = [one.get_attribute("id").removeprefix("style-") for one in found(browser, "input[name=style]")]
    assert styles == ["overlay", "heat", "topk", "contour"] and shown(browser) == {"overlay"}
    for style in styles[1:]:
        found(browser, f"label:has(#style-{style})")[0].click()
        assert shown(browser) == {style}
    found(browser, "#style-contour")[0].send_keys("\ue012")  # the left arrow: radio buttons go by keyboard
    assert shown(browser) == {"topk"}
    widths = browser.execute_script("return [...document.images].map(one => one.naturalWidth)")
    assert min(widths) > 20


def test_the_photograph_leads_to_what_its_baselines_say(browser: Any) -> None:
    _, second = found(browser, "#images details")
    assert not second.get_property("open")
    link = found(browser, "#maps tbody tr:nth-child(2) a")[0]
    link.send_keys("\ue007")
    assert found(browser, "#images details[open]") == [second]
    rows = [row.text.split() for row in second.find_elements("css selector", "tbody tr")]
    assert rows == [["baseline", "1", "10", "0.000"], ["baseline", "2", "9", "0.250"]]
    _, distance, weight = second.find_elements("css selector", "thead button")
    for button, names in ((distance, ["2", "1"]), (weight, ["2", "1"]), (weight, ["1", "2"])):
        button.click()
        rows = [row.text.split() for row in second.find_elements("css selector", "tbody tr")]
        assert [row[1] for row in rows] == names
    assert len(shown(browser, "#images details[open]")) == 1


def test_curves_are_drawn_and_told(browser: Any) -> None:
    (svg,) = found(browser, ".chart svg")
    assert svg.size["width"] > 300
    lines = found(browser, ".chart svg .mark-line path")
    assert len(lines) == 2 and all(line.get_attribute("d").count("L") >= 1 for line in lines)
    found(browser, "#curves summary")[0].click()
    rows = [row.text for row in found(browser, "#curves tbody tr")]
    assert rows == ["WG 0.9 0.4 0.125", "IG 0.9 0.3"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_follows_the_colour_scheme(browser: Any, scheme: str) -> None:
    metrics = {"width": 375, "height": 700, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.refresh()
    assert found(browser, ".chart svg text")
    for details in found(browser, "details"):
        browser.execute_script("arguments[0].open = true", details)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 375
    ground, text = (
        sum(json.loads(f"[{browser.execute_script(script).partition('(')[2].rstrip(')')}]")[:3]) / 3
        for script in (
            "return getComputedStyle(document.body).backgroundColor",
            "return getComputedStyle(document.querySelector('.chart svg text')).fill",
        )
    )
    assert (ground > 200 and text < 60) if scheme == "light" else (ground < 60 and text > 200)


def test_the_console_is_clean_and_nothing_is_requested(browser: Any) -> None:
    assert browser.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"]
    assert {url for url in urls if not url.startswith("data:")} == {browser.current_url.partition("#")[0]}
