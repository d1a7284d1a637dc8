"""The pages in a real browser: no error, nothing cut off, on a screen, a phone and paper."""

import base64
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from priory import explore, fit
from priory.data import Data
from priory.evaluation import Entry, comparison_table, evaluate, slerp
from priory.evaluation.explorer.view import view_of
from priory.inference import ELBO
from priory.models import VAE

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
OPTIONS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
    *("disable-background-networking", "disable-component-update", "disable-sync"),
)
PAGES = ("report", "comparison")
METRICS = ("nll", "elbo", "ess", "calibration", "mmd", "kl", "active_units", "knn_accuracy", "mig")


@pytest.fixture(scope="module")
def judged():
    data = Data.named("digits", rows=300)
    entries = []
    for label, latent in (("narrow", 2), ("wide", 8)):
        run = fit(VAE(latent=latent), ELBO(), data, epochs=2, progress=False)
        report = evaluate(run, particles=5, metrics=METRICS)
        entries.append(Entry(label, 0, report, run.seconds))
    return entries


@pytest.fixture(scope="module")
def pages(judged, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    made = {"report": judged[0].report, "comparison": comparison_table(judged)}
    return {name: page.to_html(folder / f"{name}.html").as_uri() for name, page in made.items()}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (BROWSER.exists() and DRIVER.exists()):
        pytest.skip(f"no {BROWSER} and {DRIVER}: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium")
    service = pytest.importorskip("selenium.webdriver.chrome.service").Service(str(DRIVER))
    folder = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for option in (*OPTIONS, f"user-data-dir={folder}"):
        options.add_argument(f"--{option}")
    logs = {"browser": "SEVERE", "performance": "ALL"}
    options.set_capability("goog:loggingPrefs", logs)
    driver = webdriver.Chrome(service=service, options=options)
    yield driver
    driver.quit()
    shutil.rmtree(folder, ignore_errors=True)


def show(browser, address, width=1100, scheme="light", script=True):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(address)


def ask(browser, expression):
    return browser.execute_script(f"return {expression}")


def evaluated(browser, expression):
    """Ask by the debugger, which answers where the page's own scripts are off."""
    asked = {"expression": expression, "returnByValue": True}
    return browser.execute_cdp_cmd("Runtime.evaluate", asked)["result"]["value"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_whole_and_alone(browser, pages, name):
    show(browser, pages[name])
    assert browser.get_log("browser") == []
    pictures = ask(browser, "Array.from(document.images, i => i.complete && i.naturalWidth > 0)")
    assert len(pictures) >= 5
    assert all(pictures)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        event["params"]["request"]["url"].split(",")[0][:40]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked), asked
    held = json.loads(ask(browser, f"document.getElementById('{name}').textContent"))
    assert held["schema"] == 1


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [320, 375, 768])
def test_a_narrow_screen_needs_no_scrolling_sideways(browser, pages, name, width):
    show(browser, pages[name], width=width)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert ask(browser, "document.documentElement.scrollWidth") <= width
    sizes = ask(
        browser,
        "Array.from(document.querySelectorAll('main *'), e => parseFloat(getComputedStyle(e)"
        ".fontSize))",
    )
    assert min(sizes) >= 12
    tables = "Array.from(document.querySelectorAll('table.records'), t => t.parentNode)"
    cut = ask(browser, f"{tables}.filter(p => p.scrollWidth > p.clientWidth).length")
    assert cut == 0, "only a comparison's wide table may scroll, and within itself"


@pytest.mark.parametrize("name", PAGES)
def test_the_dark_page_is_dark_and_legible(browser, pages, name):
    shades = {}
    for scheme in ("light", "dark"):
        show(browser, pages[name], scheme=scheme)
        shades[scheme] = [
            ask(
                browser,
                f"getComputedStyle(document.body).{what}.match(/\\d+/g).slice(0, 3)"
                ".reduce((sum, part) => sum + Number(part), 0) / 765",
            )
            for what in ("backgroundColor", "color")
        ]
    assert shades["light"][0] > 0.9 > 0.2 > shades["light"][1]
    assert shades["dark"][0] < 0.2 < 0.8 < shades["dark"][1]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_prints(browser, pages, name):
    show(browser, pages[name], scheme="dark")
    paper = {"printBackground": True, "paperWidth": 8.27, "paperHeight": 11.69}
    printed = browser.execute_cdp_cmd("Page.printToPDF", paper)
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF")
    assert 2 <= pdf.count(b"/Type /Page\n") <= 20
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    white = "getComputedStyle(document.body).backgroundColor"
    assert ask(browser, white) == "rgb(255, 255, 255)"
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert ask(browser, "document.querySelectorAll('details:not([open])').length") == 0
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_click_on_a_heading_sorts(browser, pages):
    show(browser, pages["comparison"])
    labels = "Array.from(document.querySelectorAll('table.sortable')[0].tBodies[0].rows, r => "
    heads = browser.find_elements("css selector", "table.sortable thead th button")
    by_name = {head.text.split()[0]: head for head in reversed(heads) if head.text.strip()}
    column = [head.text.split()[:1] for head in heads].index(["nll"])
    values = f"{labels}Number(r.cells[{column}].dataset.value))"
    by_name["nll"].click()
    first = ask(browser, values)
    assert first == sorted(first), "a lower nll is better: the best stands above"
    by_name["nll"].click()
    assert ask(browser, values) == first[::-1]
    heads[0].click()
    assert ask(browser, f"{labels}r.cells[0].textContent)") == ["narrow", "wide"]
    assert ask(browser, "document.querySelectorAll('[aria-sort]').length") == 1


@pytest.mark.parametrize("name", PAGES)
def test_the_numbers_can_be_saved(browser, pages, name):
    show(browser, pages[name])
    link = browser.find_element("css selector", "a.numbers")
    assert link.is_displayed()
    assert link.get_attribute("download") == f"{name}.json"
    text = browser.execute_async_script(
        "const done = arguments[0];"
        "fetch(document.querySelector('a.numbers').href).then(r => r.text()).then(done)"
    )
    assert json.loads(text)["schema"] == 1


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reads_without_script(browser, pages, name):
    show(browser, pages[name], script=False)
    assert evaluated(browser, "document.querySelectorAll('th button').length") == 0
    assert evaluated(browser, "document.querySelector('a.numbers').offsetParent") is None
    assert "nll" in evaluated(browser, "document.body.innerText")
    assert evaluated(browser, "Array.from(document.images).every(i => i.naturalWidth > 0)")
    assert browser.get_log("browser") == []
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_notebook_keeps_its_own_styles(browser, judged, tmp_path):
    bare = [replace(entry, report=replace(entry.report, gallery=None)) for entry in judged]
    shown = [bare[0].report._repr_html_(), comparison_table(bare)._repr_html_()]
    host = (
        "<!doctype html><meta charset=utf-8><style>h1 { color: rgb(1, 2, 3) } table { width: 9px }"
    )
    body = f"</style><h1>notebook</h1><p>text</p>{''.join(shown)}"
    looks = "['color', 'fontSize', 'margin'].map(k => getComputedStyle(document.querySelector"
    found = []
    for i, text in enumerate([host + "</style><h1>notebook</h1><p>text</p>", host + body]):
        path = tmp_path / f"{i}.html"
        path.write_text(text, encoding="utf-8")
        show(browser, path.as_uri(), width=900)
        found.append([ask(browser, f"{looks}('{tag}'))[k])") for tag in ("h1", "p", "body")])
    assert found[0] == found[1], "the page's styles do not reach the notebook"
    frames = "Array.from(document.querySelectorAll('iframe'), f => f.contentDocument)"
    colours = ask(browser, f"{frames}.map(d => getComputedStyle(d.querySelector('h1')).color)")
    assert "rgb(1, 2, 3)" not in colours, "nor the notebook's the page"
    tall = "Array.from(document.querySelectorAll('iframe'), f => f.offsetHeight >= f"
    assert all(ask(browser, f"{tall}.contentDocument.documentElement.scrollHeight)"))
    assert browser.get_log("browser") == []


# --- the explorer ---------------------------------------------------------------------------------

GREYS = "(c => Array.from(c.getContext('2d').getImageData(0, 0, 8, 8).data)"
GREYS += ".filter((_, i) => !(i % 4)))"
PIXELS = f"{GREYS}(document.querySelector('#datum canvas'))"


class Sorted(nn.Linear):
    """A decoder that no list of layers expresses."""

    def forward(self, z):
        return super().forward(z).sort(1).values


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    data = Data.named("digits", rows=300)
    pairs = [VAE(latent=5), VAE(latent=2), VAE(latent=1, decoder=Sorted(1, 64))]
    runs = [fit(pair, ELBO(), data, epochs=2, progress=False) for pair in pairs]
    folder = tmp_path_factory.mktemp("explorer")
    return runs, explore(runs, folder / "page.html", names=["five", "two", "sorted"])


def awaited(browser, condition="document.body.dataset.ready"):
    WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
    WebDriverWait(browser, 30).until(lambda b: ask(b, condition))
    time.sleep(0.1)  # the decoder is a thread of its own


def shown_is_the_models(browser, run):
    """Whether the picture is the model's own mean of p(x | z) at the page's point."""
    time.sleep(0.3)
    z = torch.tensor(ask(browser, "Array.from(state.u)"))
    wanted = (255 * run.pair.decoder(z[None]).mean[0].detach()).flatten()
    found = torch.tensor(ask(browser, PIXELS), dtype=torch.float32)
    return bool((found - wanted).abs().max() < 1.5)


def choose_run(browser, number):
    pick = f"const s = document.getElementById('run'); s.value = {number};"
    browser.execute_script(f"{pick} s.dispatchEvent(new Event('change'))")


def test_a_drag_shows_what_the_decoder_makes_of_the_point(browser, explored):
    actions = pytest.importorskip("selenium.webdriver.common.action_chains").ActionChains
    run, path = explored[0][0], explored[1]
    show(browser, path.as_uri())
    awaited(browser)
    assert shown_is_the_models(browser, run)
    before = ask(browser, PIXELS)
    where = browser.find_element("id", "map")
    held = actions(browser).move_to_element(where).click_and_hold()
    held.move_by_offset(120, -90).release().perform()
    assert shown_is_the_models(browser, run)
    assert ask(browser, PIXELS) != before
    place = ask(browser, "place(state.run, state.u)")
    assert all(abs(p) > 1e-2 for p in place)
    awaited(
        browser, "document.getElementById('live').textContent.includes('Nearest training rows')"
    )
    assert f"{place[0]:.2f}" in ask(browser, "document.getElementById('live').textContent")
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    assert sent
    assert all(url.startswith(("file:", "data:", "blob:")) for url in sent), sent


def test_the_policy_of_the_explorer_is_in_force(browser, explored):
    show(browser, explored[1].as_uri())
    awaited(browser)
    for tried in (
        "fetch('https://example.org').then(() => done('sent'), e => done('refused'))",
        "const i = new Image(); i.onload = () => done('sent'); i.onerror = () => done('refused');"
        "i.src = 'https://example.org/a.png'",
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s); done(window.ran ? 'sent' : 'refused')",
    ):
        script = f"const done = arguments[0]; {tried}"
        assert browser.execute_async_script(script) == "refused"
    said = [entry["message"] for entry in browser.get_log("browser")]
    assert len(said) >= 3
    assert all("Content Security Policy" in text for text in said)


def test_the_explorer_is_used_by_keyboard(browser, explored):
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    run, path = explored[0][0], explored[1]
    show(browser, path.as_uri(), scheme="dark")
    awaited(browser)
    where = browser.find_element("id", "map")
    first = ask(browser, "place(state.run, state.u)")
    where.send_keys(keys.ARROW_RIGHT, keys.ARROW_RIGHT, keys.ARROW_UP)
    moved = ask(browser, "place(state.run, state.u)")
    assert moved[0] > first[0]
    assert moved[1] > first[1]
    assert ask(browser, "getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert shown_is_the_models(browser, run)
    slider = browser.find_element("css selector", "#sliders input")
    slider.send_keys(keys.END)
    assert shown_is_the_models(browser, run)
    axis = int(slider.get_attribute("data-coordinate"))
    top = float(slider.get_attribute("max"))
    assert ask(browser, f"state.u[{axis}]") == pytest.approx(top, rel=0.02)
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"slider", "button", "combobox", "checkbox", "radio", "application", "image"}
    nameless = [
        node["role"]["value"]
        for node in tree
        if not node["ignored"] and node["role"]["value"] in roles and not node["name"]["value"]
    ]
    assert not nameless
    assert {node["role"]["value"] for node in tree} >= roles


def test_another_run_is_chosen_and_two_rows_are_joined(browser, explored):
    run, path = explored[0][1], explored[1]
    show(browser, path.as_uri())
    awaited(browser)
    assert ask(browser, "document.querySelectorAll('#samples .card').length") == 3
    choose_run(browser, 1)
    awaited(browser, "state.run.latent === 2 && document.querySelectorAll('.way').length === 2")
    assert shown_is_the_models(browser, run)
    before = ask(browser, "state.ends.join()")
    browser.execute_script("document.getElementById('random').click(); drawWays()")
    browser.find_element("id", "start").click()
    time.sleep(0.3)
    assert ask(browser, "state.ends.join()") != before
    strip = "Array.from(document.querySelectorAll('.way')[1].querySelectorAll('canvas'), "
    strip = ask(browser, f"{strip}{GREYS})")
    codes = ask(browser, "state.ends.map(i => Array.from(state.run.codes[i]))")
    a, b = torch.tensor(codes).double()
    way = slerp(a[None], b[None], 9)[0].float()
    wanted = (255 * run.pair.decoder(way).mean.detach()).flatten(1)
    assert (torch.tensor(strip).float() - wanted).abs().max() < 1.5
    assert browser.get_log("browser") == []


def test_the_nearest_place_of_a_grid_is_shown(browser, explored):
    run, path = explored[0][2], explored[1]
    show(browser, path.as_uri())
    awaited(browser)
    choose_run(browser, 2)
    awaited(browser, "document.getElementById('what').textContent.includes('place of the grid')")
    assert "the operation sort is no kind" in ask(browser, "document.body.innerText")
    assert not ask(browser, "document.getElementById('sliders-part').offsetHeight")
    view = view_of(run)
    plane, grid = view.plane, view.grid
    places = torch.linspace(float(grid.low[0]), float(grid.high[0]), 13).double()
    for t in (0.1, 0.8):
        u = plane.centre + (grid.low + t * (grid.high - grid.low)) * plane.directions[0]
        browser.execute_script(f"state.u = Float64Array.of({float(u)}); moved()")
        time.sleep(0.2)
        at = (places - (u - plane.centre) * plane.directions[0]).abs().argmin()
        wanted = (255 * grid.x[at]).flatten()
        assert (torch.tensor(ask(browser, PIXELS)).float() - wanted).abs().max() < 1.5
    assert (grid.x[0] - grid.x[12]).abs().max() > 1e-3
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [360, 768])
def test_the_explorer_fits_a_narrow_screen(browser, explored, width):
    show(browser, explored[1].as_uri(), width=width)
    awaited(browser)
    assert ask(browser, "document.documentElement.scrollWidth") <= width
    sizes = "Array.from(document.querySelectorAll('main *'), e => "
    assert min(ask(browser, f"{sizes}parseFloat(getComputedStyle(e).fontSize))")) >= 12
    touch = "Array.from(document.querySelectorAll('button, select'), e => e.offsetHeight || 99)"
    assert min(ask(browser, touch)) >= 30


def test_a_report_has_the_explorer_folded(browser, explored, tmp_path):
    run = explored[0][0]
    page = evaluate(run, metrics=["nll"], particles=2, limit=20).to_html(tmp_path / "report.html")
    show(browser, page.as_uri())
    frame = "document.querySelector('.explorer iframe')"
    browser.execute_script("document.querySelector('.explorer details').open = true")
    browser.execute_script(f"{frame}.scrollIntoView()")
    awaited(browser, f"{frame}.contentDocument.body.dataset.ready")
    awaited(browser, f"{frame}.offsetHeight > 900")
    found = ask(browser, f"{frame}.contentDocument.querySelectorAll('#datum canvas').length")
    assert found == 1
    assert browser.get_log("browser") == []
    assert page.stat().st_size < 1_500_000
