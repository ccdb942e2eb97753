"""The pages in Chromium, as a reader uses them: pip install -e '.[browser]'."""

import importlib
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.pages.predictions import PredictedImage, predictions_page

WIDE, PHONE, SMALL_PHONE = (1200, 900), (390, 844), (320, 568)
PAPER = (718, 1047)  # A4 less Chromium's margins


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium that logs its console and its requests."""
    try:
        webdriver = importlib.import_module("selenium.webdriver")
    except ImportError:
        pytest.skip("no selenium; pip install -e '.[browser]'")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium or no chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "headless=new",
        "no-sandbox",  # which containers lack
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "hide-scrollbars",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    chromium = webdriver.Chrome(options=options, service=service)
    yield chromium
    chromium.quit()


class Reader:
    """A window with a page in it."""

    def __init__(self, browser, path, size=WIDE, dark=False, media=""):
        self.browser = browser
        for log in ("browser", "performance"):
            browser.get_log(log)  # what an earlier page left
        width, height = size
        metrics = {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": size in (PHONE, SMALL_PHONE),
        }
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": media, "features": [scheme]}
        )
        browser.get(path.as_uri())

    def run(self, script: str, *arguments):
        return self.browser.execute_script(script, *arguments)

    def all(self, selector: str) -> list:
        return self.browser.find_elements("css selector", selector)

    def column(self, index: int) -> list[str]:
        return [
            row.find_elements("css selector", "td")[index].text
            for row in self.all("section:nth-of-type(1) table.sortable tbody tr")
        ]

    def requests(self) -> list[str]:
        """Addresses of everything that was loaded; embedded pictures are not."""
        events = (json.loads(e["message"])["message"] for e in self.browser.get_log("performance"))
        found = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in found if not address.startswith("data:")]

    def check_console(self) -> None:
        assert [line["message"] for line in self.browser.get_log("browser")] == []


@pytest.fixture(scope="module")
def report(scored, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "evaluation.html"
    path.write_text(scored(num_classes=11).page(2), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def many_classes(scored, tmp_path_factory):
    path = tmp_path_factory.mktemp("many") / "evaluation.html"
    path.write_text(scored(num_classes=150, widths=(2,)).page(1), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def comparison(compared, tmp_path_factory):
    path = tmp_path_factory.mktemp("comparison") / "compare.html"
    path.write_text(compared(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def predictions(scored, tmp_path_factory):
    """A page beside its pictures."""
    place = tmp_path_factory.mktemp("predictions")
    spec, items = scored().spec, []
    for i, shares in enumerate(({0: 0.9, 1: 0.1}, {0: 0.2, 2: 0.8}, {1: 1.0})):
        name = f"photo #{i} 50%.png"
        Image.fromarray(np.full((30, 40, 3), 80 * i, np.uint8)).save(place / name)
        named = {spec.class_names[c]: share for c, share in shares.items()}
        items.append(
            PredictedImage(name=name, overlay_href=name, label_map_href=name, shares=named)
        )
    path = place / "index.html"
    path.write_text(predictions_page("Predictions", items, spec), encoding="utf-8")
    return path


PAGES = ["report", "many_classes", "comparison", "predictions"]


@pytest.mark.parametrize("page", PAGES)
def test_pages_fit_phones_and_windows_in_light_and_dark_without_errors(browser, request, page):
    path = request.getfixturevalue(page)
    backs = set()
    for size in (WIDE, PHONE):
        for dark in (False, True):
            reader = Reader(browser, path, size, dark)
            assert reader.run("return document.title") != "broken"
            assert reader.run("return document.documentElement.scrollWidth") <= size[0]
            assert reader.run("return innerWidth") == size[0]
            back, ink = reader.run(
                "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
            )
            brightness = [sum(map(int, c[4:-1].split(","))) / 765 for c in (back, ink)]
            assert (brightness[0] < 0.3) == dark and (brightness[1] > 0.7) == dark
            backs.add(back)
            loaded = reader.run("return [...document.images].filter((i) => i.complete).length")
            broken = reader.run(
                "return [...document.images].filter((i) => i.complete && !i.naturalWidth).length"
            )
            assert loaded and not broken
            addresses = reader.requests()
            assert addresses[0] == path.as_uri() and all(a.startswith("file:") for a in addresses)
            assert page == "predictions" or len(addresses) == 1
            reader.check_console()
    assert len(backs) == 2


def test_names_stay_in_view_while_a_table_scrolls(browser, report, many_classes):
    for path in (report, many_classes):
        reader = Reader(browser, path, PHONE)
        box = reader.all(".scroll")[0]
        assert reader.run("return arguments[0].scrollWidth - arguments[0].clientWidth", box) > 100
        reader.run("arguments[0].scrollTo(1e6, 1e6); arguments[0].scrollIntoView()", box)
        assert reader.run("return arguments[0].scrollLeft", box) > 100
        # In the middle of each cell of the first column lies that cell.
        seen = reader.run(
            "const box = arguments[0].getBoundingClientRect(); return"
            " [...arguments[0].querySelectorAll(':is(th, td):first-child')].map((cell) => {"
            "const b = cell.getBoundingClientRect(), y = (b.top + b.bottom) / 2;"
            "if (y < box.top || y > Math.min(box.bottom, innerHeight)) return null;"
            "const under = document.elementFromPoint(b.left + 4, y);"
            "return b.left === box.left && cell.contains(under)"
            " && getComputedStyle(cell).backgroundColor.startsWith('rgb(') })",
            box,
        )
        assert seen[0] is True and seen.count(True) > 5 and False not in seen


def test_two_fingers_enlarge_a_picture(browser, report):
    stack = Reader(browser, report, PHONE).all(".stack")[0]
    assert stack.value_of_css_property("touch-action") == "pan-y pinch-zoom"


@pytest.mark.parametrize("page", ["report", "many_classes", "comparison"])
def test_paper_has_whole_tables_and_their_colors_in_light(browser, request, page):
    reader = Reader(browser, request.getfixturevalue(page), PAPER, dark=True, media="print")
    for table in reader.all("table"):
        right, width = reader.run(
            "return [arguments[0].getBoundingClientRect().right,"
            " arguments[0].parentElement.clientWidth]",
            table,
        )
        assert right <= PAPER[0] and width <= PAPER[0]
    for box in reader.all(".scroll"):
        assert box.value_of_css_property("overflow") == "visible"
        assert box.value_of_css_property("max-height") == "none"
    for selector in (".bar i", ".swatch", ".confusion td", ".heat"):
        for shown in reader.all(selector)[:1]:
            assert shown.value_of_css_property("print-color-adjust") == "exact"
    for button in reader.all("th button"):
        assert button.value_of_css_property("display") == "contents"  # on every page
    assert not reader.all(".layers")[0].is_displayed()
    ink = reader.all("body")[0].value_of_css_property("color")
    assert sum(map(int, re.findall(r"\d+", ink)[:3])) < 200


def test_headings_can_be_hit_and_the_text_of_charts_can_be_read_on_a_phone(browser, report):
    reader = Reader(browser, report, SMALL_PHONE)
    heights = [button.size["height"] for button in reader.all("th button")]
    assert heights and min(heights) >= 24  # WCAG 2.2: 2.5.8
    boxes = reader.run(
        "const chart = document.querySelector('svg.chart'), scale = chart.getScreenCTM().a;"
        "const box = (e) => { const b = e.getBoundingClientRect();"
        " return [b.left, b.top, b.right, b.bottom] };"
        "const texts = [...chart.querySelectorAll('text')];"
        "return [box(chart), ...texts.map(box),"
        " scale * parseFloat(getComputedStyle(texts[0]).fontSize)]"
    )
    chart, *texts, size = boxes
    assert size >= 10  # ours
    for i, (left, top, right, bottom) in enumerate(texts):
        assert chart[0] <= left and right <= chart[2] and chart[1] - 1 <= top
        assert bottom <= chart[3] + 1
        for other in texts[:i]:
            beside = right <= other[0] or other[2] <= left
            assert beside or bottom <= other[1] + 2 or other[3] <= top + 2  # a line has some room


def test_without_scripts_a_page_says_so_and_hides_what_needs_them(browser, report, predictions):
    hidden = {report: (".layers", ".controls"), predictions: (".needs-scripts",)}
    for path, selectors in hidden.items():
        for off in (True, False):
            browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": off})
            try:
                reader = Reader(browser, path)
                (notice,) = reader.all("noscript")
                assert (notice.size["height"] > 0) == off
                for selector in selectors:
                    assert reader.all(selector)[0].is_displayed() != off
                for button in reader.all("button"):
                    acts = button.value_of_css_property("pointer-events") == "auto"
                    assert acts != off
            finally:
                browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_headings_sort_the_table_both_ways_and_missing_scores_come_last(browser, report):
    reader = Reader(browser, report)
    names, (_, accuracy) = reader.column(0), reader.all("table.sortable th button")[:2]
    reader.run(
        "const cell = document.querySelector('table.sortable tbody tr').cells[1];"
        "cell.dataset.value = ''; cell.textContent = '–'"
    )
    accuracy.click()
    down = reader.column(1)
    numbers = [float(cell.split()[0]) for cell in down[:-1]]
    assert numbers == sorted(numbers, reverse=True) and down[-1] == "–"
    assert accuracy.find_element("xpath", "..").get_attribute("aria-sort") == "descending"
    accuracy.send_keys("\ue007")  # Enter
    up = reader.column(1)
    assert [float(cell.split()[0]) for cell in up[:-1]] == sorted(numbers) and up[-1] == "–"
    reader.all("table.sortable th button")[0].click()
    assert sorted(reader.column(0)) == sorted(names) != names
    reader.check_console()


def test_buttons_and_arrow_keys_choose_the_layer_and_space_shows_the_image(browser, report):
    reader = Reader(browser, report)
    example = reader.all(".example")[0]

    def visible() -> list[str]:
        return [
            layer.get_attribute("data-layer")
            for layer in example.find_elements("css selector", "img[data-layer]")
            if float(layer.value_of_css_property("opacity")) > 0
        ]

    assert visible() == ["prediction-0"]
    buttons = {b.text: b for b in example.find_elements("css selector", ".layers button")}
    assert list(buttons) == ["Image", "Label", "Prediction", "Errors"]
    for title, layer in (("Label", ["label"]), ("Errors", ["errors"]), ("Image", [])):
        buttons[title].click()
        assert visible() == layer
        pressed = [t for t, b in buttons.items() if b.get_attribute("aria-pressed") == "true"]
        assert pressed == [title]
    stack = example.find_element("css selector", ".stack")
    stack.send_keys("\ue014")  # arrow right
    assert visible() == ["label"]
    stack.send_keys("\ue012\ue012")  # arrow left, twice: from the first to the last
    assert visible() == ["errors"]
    reader.run(
        "arguments[0].dispatchEvent(new KeyboardEvent('keydown', {key: ' ', bubbles: true}))", stack
    )
    assert visible() == []
    reader.run(
        "arguments[0].dispatchEvent(new KeyboardEvent('keyup', {key: ' ', bubbles: true}))", stack
    )
    assert visible() == ["errors"]
    buttons["Label"].click()
    reader.run(
        "const o = document.getElementById('opacity'); o.value = 20;"
        "o.dispatchEvent(new Event('input'))"
    )
    label = example.find_element("css selector", "img[data-layer=label]")
    assert float(label.value_of_css_property("opacity")) == pytest.approx(0.2)
    reader.check_console()


def test_pointing_and_touching_read_the_classes_and_holding_shows_the_image(
    browser, scored, report
):
    given = scored(num_classes=11)
    _, label, label_map = given.images[int(np.argmax(given.result.image_scores))]
    names = given.spec.class_names
    actions = importlib.import_module("selenium.webdriver.common.actions.action_builder")
    inputs = importlib.import_module("selenium.webdriver.common.actions.pointer_input")
    for size, kind in ((WIDE, "mouse"), (PHONE, "touch")):
        reader = Reader(browser, report, size)
        example = reader.all(".example")[0]
        stack = example.find_element("css selector", ".stack")
        prediction = stack.find_element("css selector", "img[data-layer=prediction-0]")
        reader.run("arguments[0].scrollIntoView({block: 'center'})", stack)
        left, top, width, height = reader.run(
            "const b = arguments[0].getBoundingClientRect(); return [b.x, b.y, b.width, b.height]",
            stack,
        )
        for row, column in ((3, 5), (7, 30), (39, 59)):
            builder = actions.ActionBuilder(browser, mouse=inputs.PointerInput(kind, kind))
            x, y = left + (column + 0.5) / 60 * width, top + (row + 0.5) / 40 * height
            builder.pointer_action.move_to_location(int(x), int(y)).pointer_down()
            builder.perform()
            of_label = "void" if label[row, column] == 255 else names[label[row, column]]
            expected = f"label: {of_label} · Prediction: {names[label_map[row, column]]}"
            assert example.find_element("css selector", "output").text == expected
            assert float(prediction.value_of_css_property("opacity")) == 0
            builder.clear_actions()
            builder.pointer_action.pointer_up()
            builder.perform()
            assert float(prediction.value_of_css_property("opacity")) > 0
        reader.check_console()


def test_a_matrix_of_150_classes_names_the_cell_under_the_pointer(browser, scored, many_classes):
    reader = Reader(browser, many_classes)
    (heat,) = reader.all(".heat")
    matrix = scored(num_classes=150, widths=(2,)).result.matrix
    row = int(np.argmax(matrix.sum(axis=1)[1:])) + 1
    column = int(np.argmax(matrix[row]))
    reader.run(
        "const box = arguments[0].getBoundingClientRect();"
        "arguments[0].dispatchEvent(new PointerEvent('pointermove', {"
        " clientX: box.left + (arguments[2] + 0.5) / 150 * box.width,"
        " clientY: box.top + (arguments[1] + 0.5) / 150 * box.height}))",
        *(heat, row, column),
    )
    (cell,) = reader.all("#confusion-cell")
    share = round(1000 * matrix[row, column] / matrix[row].sum()) / 10
    assert cell.text == (
        f"{share:g} % of the pixels of class {row} are predicted as class {column}"
    )
    reader.check_console()


def test_a_class_filters_the_predictions_and_orders_them_by_its_share(browser, predictions):
    reader = Reader(browser, predictions, PHONE)
    chips = reader.all("#class-filter button")
    assert len(chips) == 3 and reader.all("#filtered")[0].text == "3 images"

    def shown() -> list[str]:
        cards = [card for card in reader.all(".card") if card.is_displayed()]
        cards.sort(key=lambda card: card.location["y"])
        return [card.find_element("css selector", "strong").text[7] for card in cards]

    chips[1].click()
    assert shown() == ["2", "0"] and reader.all("#filtered")[0].text == "2 of 3 images"
    name = chips[1].get_attribute("data-name")
    for card in reader.all(".card"):
        if card.is_displayed():
            found = re.search(" 1:([0-9.]+)", " " + card.get_attribute("data-shares"))[1]
            chosen = card.find_element("css selector", ".chosen").text
            assert chosen == f"{name} {100 * float(found):.1f} %"
    chips[0].click()
    assert shown() == ["0", "1"]
    chips[0].click()
    assert shown() == ["0", "1", "2"] and reader.all("#filtered")[0].text == "3 images"
    assert not any(chosen.is_displayed() for chosen in reader.all(".chosen"))
    reader.check_console()
