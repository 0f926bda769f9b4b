"""The page in a real browser: wide and narrow, light and dark, by keyboard, without any network."""

import json
import shutil
from itertools import pairwise
from urllib.parse import unquote, urlsplit

import pytest

from keras_kd.page import write_report
from tests.page.folders import EVALUATION, FILES, REPORT, changed, write

BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver on the PATH")

VIEWS = [(width, height, scheme) for width, height in ((360, 740), (1440, 900)) for scheme in ("light", "dark")]
AWKWARD = 'a"b & <c>.tflite'
LONG = "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch" * 2
REACHABLE = "a[href], summary, [tabindex='0']"

# Least contrast of any text with the nearest colour behind it, as WCAG 2.2 defines it.
CONTRASTS = """
const numbers = text => text.match(/[\\d.]+/g).map(Number);
const luminance = color => numbers(color).slice(0, 3).map(value => value / 255)
  .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
  .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
const behind = element => {
  for (; element; element = element.parentElement) {
    const color = getComputedStyle(element).backgroundColor;
    if (numbers(color).length < 4 || numbers(color)[3] > 0) return color;
  }
};
return [...document.body.querySelectorAll("*")].filter(element => element.checkVisibility()
    && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())).map(element => {
  const style = getComputedStyle(element);
  const [dark, light] = [luminance(element.closest("svg") ? style.fill : style.color), luminance(behind(element))].sort(
    (one, other) => one - other);
  return [(light + 0.05) / (dark + 0.05), parseFloat(style.fontSize) * (element.ownerSVGElement
    ? element.ownerSVGElement.getBoundingClientRect().width / element.ownerSVGElement.viewBox.baseVal.width : 1)];
});
"""


# Words of a chart that lie on each other, or beyond the page.
COLLISIONS = """
const [found, width] = [[], document.documentElement.clientWidth];
for (const svg of document.querySelectorAll("svg")) {
  const words = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
  words.forEach(([text, box], index) => {
    if (box.left < 0 || box.right > width) found.push(text);
    for (const [other, taken] of words.slice(0, index))
      if (Math.min(box.right, taken.right) - Math.max(box.left, taken.left) > 1
          && Math.min(box.bottom, taken.bottom) - Math.max(box.top, taken.top) > 3) found.push([text, other]);
  });
}
return found;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages") / "whole"
    classes = [
        {**row, "class": name}
        for row, name in zip(EVALUATION["per_class"], ("shirt", LONG, "<img src=x>"), strict=True)
    ]
    report = changed(REPORT, student=LONG, files=[*FILES, {**FILES[1], "file": AWKWARD, "quantize": LONG}])
    write(folder, report=report, evaluation=changed(EVALUATION, per_class=classes))
    (folder / AWKWARD).write_bytes((folder / "student.tflite").read_bytes())
    return write_report(folder)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    options = selenium.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (
        *("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update"),
        *("disable-sync", "no-first-run", f"user-data-dir={tmp_path_factory.mktemp('profile')}"),
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    yield browser
    browser.quit()


@pytest.fixture
def show(driver, page):
    """Opens the page afresh."""

    def shown(width=1440, height=900, scheme="light", media="screen"):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        driver.get("about:blank")
        for kind in ("browser", "performance"):
            driver.get_log(kind)
        driver.get(page.as_uri())
        return driver.execute_script

    return shown


@pytest.mark.parametrize(("width", "height", "scheme"), VIEWS)
def test_it_fits_is_legible_and_quiet(driver, show, page, width, height, scheme):
    run = show(width, height, scheme)
    run("for (const each of document.querySelectorAll('details')) each.open = true")
    widths = run(
        "const {scrollWidth, clientWidth} = document.documentElement; return [scrollWidth, clientWidth, innerWidth]"
    )
    assert widths[0] == widths[1] <= widths[2] == width
    found = run(CONTRASTS)
    assert len(found) > 200
    assert min(contrast for contrast, _ in found) >= 4.5
    assert min(pixels for _, pixels in found) >= 11
    assert run(COLLISIONS) == []
    behind = run("return getComputedStyle(document.body).backgroundColor")
    assert behind == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
    images = run("return [...document.images].map(image => [image.complete, image.naturalWidth])")
    assert images == [[True, 4]] * 14
    assert driver.get_log("browser") == []
    events = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    inside = ("data", "chrome")  # the browser's own first page, if it still loads
    assert {url for url in asked if urlsplit(url).scheme not in inside} == {page.as_uri()}


def test_every_stop_is_reached_by_tab_in_order_and_seen(driver, show):
    from selenium.webdriver import ActionChains, Keys

    run = show(360, 740)
    run(f'window.stops = [...document.querySelectorAll("{REACHABLE}")].filter(each => each.checkVisibility())')
    links, stops = run("return [stops.filter(each => each.matches('a')).length, stops.length]")
    assert links == 1 + 6 + 4 + 4  # to skip, sections, measured files, others
    reached = []
    for _ in range(stops):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        reached.append(
            run("""
            const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
            return [stops.indexOf(at), style.outlineStyle, parseFloat(style.outlineWidth), box.top >= 0, box.left >= 0];
        """)
        )
    assert reached == [[place, "solid", 3, True, True] for place in range(stops)]


def test_the_skip_link_leads_past_the_sections(driver, show):
    from selenium.webdriver import ActionChains, Keys

    run = show(360, 740)
    assert run("return document.querySelector('.skip').getBoundingClientRect().bottom") < 0
    ActionChains(driver).send_keys(Keys.TAB).perform()
    assert run("return document.activeElement.textContent") == "Skip to the figures"
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    assert run("return document.activeElement.id") == "main"
    ActionChains(driver).send_keys(Keys.TAB).perform()
    assert run("return document.activeElement.closest('main') !== null")


def test_links_lead_to_files_and_sections_that_are_there(show, page):
    run = show()
    links = run("return [...document.links].map(link => [link.href, link.hasAttribute('download'), link.hash])")
    files = [unquote(urlsplit(href).path) for href, download, _ in links if download]
    assert str(page.parent / AWKWARD) in files
    assert all(page.parent.joinpath(file).is_file() for file in files)
    sections = [anchor for _, download, anchor in links if not download]
    assert len(files) == 8
    assert run("return arguments[0].map(anchor => document.querySelector(anchor).localName)", sections) == [
        "main",
        *["section"] * 6,
    ]


def test_what_a_screen_reader_is_told(driver, show):
    show()
    nodes = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    told = [
        (
            node["role"]["value"],
            node.get("name", {}).get("value", ""),
            {each["name"]: each["value"] for each in node.get("properties", ())},
        )
        for node in nodes
        if not node["ignored"]
    ]
    levels = [properties["level"]["value"] for role, _, properties in told if role == "heading"]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    roles = [role for role, _, _ in told]
    assert [roles.count(role) for role in ("banner", "navigation", "main", "contentinfo")] == [1, 1, 1, 1]
    images = [name for role, name, _ in told if role == "image"]
    assert len([name for name in images if name.startswith("Example ")]) == 12
    assert len([name for name in images if " over 3 epochs: " in name or "%" in name]) == 7
    assert len(images) == 19
    assert all(name for role, name, _ in told if role in ("region", "link", "table"))


def test_nothing_of_the_folder_runs_and_nothing_could_be_fetched(driver, show):
    run = show()
    assert run("return [document.scripts.length, document.querySelectorAll('[onerror], [onload], iframe').length]") == [
        0,
        0,
    ]
    assert run("return [...document.querySelectorAll('tbody th')].some(cell => cell.textContent === '<img src=x>')")
    refused = driver.execute_async_script("""
        document.addEventListener("securitypolicyviolation", event => arguments[0](event.blockedURI));
        document.body.append(Object.assign(new Image(), {src: "http://localhost:9/a.png"}));
    """)
    assert refused == "http://localhost:9/a.png"


def test_print_is_on_white_without_what_cannot_be_clicked(show):
    run = show(scheme="dark", media="print")
    assert run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    hidden = "return ['nav', '.skip', 'details'].map(name => document.querySelector(name).checkVisibility())"
    assert run(hidden) == [False, False, False]
    assert run("const [each] = document.querySelectorAll('details'); each.open = true; return each.checkVisibility()")
