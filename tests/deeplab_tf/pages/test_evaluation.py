import base64
import html
import importlib.resources
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.evaluation.classify import Classify, ClassifyResult
from deeplab_tf.evaluation.metrics import METRICS
from deeplab_tf.evaluation.scores.bootstrap import DRAWS, LEVEL, percentiles, share_interval
from deeplab_tf.pages.evaluation import evaluation_page
from deeplab_tf.pages.examples import choose
from deeplab_tf.pages.html import percent
from deeplab_tf.recipe.parts import Eval


def layers(page) -> list[dict[str, Image.Image]]:
    """Layer -> picture, of each example of a page."""
    examples = []
    for attributes in page.all("img"):
        source = attributes["src"]
        kind, _, content = source.partition(";base64,")
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        if kind == "data:image/jpeg":
            examples.append({"image": picture})
        elif "data-layer" in attributes:
            examples[-1][attributes["data-layer"]] = picture
    return examples


def test_a_page_loads_nothing_and_no_name_becomes_a_tag(scored, compared, read_page, evil):
    for source in (scored().page(), scored(num_classes=40).page(), compared()):
        page = read_page(source)
        assert evil in page.text and evil not in source
        for tag, attributes in page.tags:
            assert tag not in ("iframe", "object", "embed", "form", "base"), tag
            assert not [name for name in attributes if name.startswith("on")]
            for name in ("src", "href", "srcset", "action", "data"):
                assert attributes.get(name, "data:").startswith("data:"), attributes
        assert not re.search(r"url\(|@import|fetch|XMLHttp|https?:", source)
        scripts = page.all("script")
        assert [s.get("type") for s in scripts].count(None) == 1
        (policy,) = (m["content"] for m in page.all("meta") if "http-equiv" in m)
        assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_scores_on_the_page_are_those_of_the_result(scored, read_page):
    given = scored()
    page = read_page(given.page())
    for name, (title, value) in given.result.headlines.items():
        found = given.result.intervals[name]
        shown = f"{title}{percent(value)}\u2009% {percent(found.low)} to {percent(found.high)}"
        assert shown in page.text
    classes = page.tables[0]
    assert classes[0][:4] == ["class", "IoU %", "accuracy %", "boundary IoU %"]
    assert classes[0][4:] == ["% of label pixels", "images with it"]
    pixels = given.result.matrix.sum(axis=1)
    assert classes[1][4] == f"{percent(pixels[0] / pixels.sum())} {pixels[0]:,} px"
    for i, row in enumerate(classes[1:]):
        for (name, (_, values)), cell in zip(
            given.result.class_columns.items(), row[1:], strict=False
        ):
            ends = given.result.intervals[name]
            assert cell == f"{percent(values[i])} {percent(ends.low[i])} to {percent(ends.high[i])}"
    trimap = page.tables[1]
    assert [row[0] for row in trimap] == ["width", "1", "3"]
    assert trimap[0][1:] == [*(f"{row.title} %" for row in METRICS.values()), "pixels"]
    for width, row in zip((1, 3), trimap[1:], strict=True):
        for name, shown in zip(METRICS, row[1:5], strict=True):
            found = given.result.trimap_intervals[width][name]
            assert shown == f"{percent(found.value)} {percent(found.low)} to {percent(found.high)}"
        assert row[5] == f"{given.result.trimap[width].label.sum():,}"


@pytest.mark.parametrize("num_classes", [2, 11, 21, 25])
def test_up_to_25_classes_have_numbers_in_the_matrix(scored, read_page, num_classes):
    given = scored(num_classes=num_classes, widths=())
    page = read_page(given.page(0))
    matrix = given.result.matrix
    (table,) = (t for t in page.tables if t[0][0] == "label \\ prediction")
    assert len(table) == num_classes + 1 and {len(row) for row in table} == {num_classes + 1}
    share = matrix[0, 0] / matrix[0].sum()
    assert table[1][1] == percent(share)
    assert not [a for a in page.all("img") if a.get("class") == "heat"]


@pytest.mark.parametrize("num_classes", [26, 150, 300])
def test_more_classes_are_a_picture_whose_cells_can_be_read(scored, read_page, num_classes):
    given = scored(num_classes=num_classes, shapes=((60, 90),) * 3, widths=())
    source = given.page(0)
    page = read_page(source)
    (heat,) = (a for a in page.all("img") if a.get("class") == "heat")
    assert heat["alt"].startswith(f"Confusion matrix of {num_classes} classes: rows are labels")
    picture = Image.open(io.BytesIO(base64.b64decode(heat["src"].partition(",")[2])))
    assert picture.size[0] == picture.size[1] >= 600 and picture.size[0] % num_classes == 0
    matrix = given.result.matrix
    (content,) = re.findall(r'id="confusion-shares">(.*?)</script>', source)
    tree = json.loads(content)
    assert tree["names"] == list(given.spec.class_names)
    side = picture.size[0] // num_classes
    alpha = np.asarray(picture)[side // 2 :: side, side // 2 :: side, 3]
    for i, row in enumerate(matrix):
        if not row.any():
            assert tree["permille"][i] == [None] * num_classes
            continue
        shares = row / row.sum()
        np.testing.assert_allclose(tree["permille"][i], 1000 * shares, atol=0.5)
        np.testing.assert_allclose((alpha[i] / 255) ** 2, shares, atol=0.01)
    assert len(source) < 1e6


def test_boxes_that_scroll_are_regions_with_a_name(scored, compared, read_page):
    for source in (scored().page(), scored(num_classes=60).page(), compared()):
        boxes = [a for a in read_page(source).all("div") if "scroll" in a.get("class", "").split()]
        assert boxes and all(box["role"] == "region" and box["aria-label"] for box in boxes)
    names = [box["aria-label"] for box in boxes]
    assert {"Scores", "IoU of the classes", "boundary IoU of the classes"} <= set(names)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_cells_of_the_confusion_matrix_can_be_read_whatever_their_share(scheme):
    css = importlib.resources.files("deeplab_tf.pages").joinpath("page.css").read_text("utf-8")
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[scheme == "dark"]
    colors = {
        name: np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        for name, digits in re.findall(r"--(\w+): #(\w{6})", block)
    }
    mixed = re.findall(r"var\(--(\w+)\) calc\(var\(--share\) \* (\d+)%\), var\(--back\)", css)
    assert [name for name, _ in mixed] == ["wrong", "accent"]

    def luminance(color) -> np.ndarray:  # WCAG 2.2: relative luminance
        linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    ink = luminance(colors["ink"])
    for name, most in mixed:
        part = np.linspace(0, int(most) / 100, 21)[:, None]
        cells = luminance(part * colors[name] + (1 - part) * colors["back"])
        contrast = (np.maximum(ink, cells) + 0.05) / (np.minimum(ink, cells) + 0.05)
        assert contrast.min() >= 4.5  # WCAG 2.2: 1.4.3


def test_confusions_are_listed_with_the_most_frequent_first(scored, read_page):
    given = scored()
    listed = read_page(given.page()).tables[-1]
    assert listed[0] == ["label", "predicted as", "pixels", "% of the label", "% of all errors"]
    wrong = given.result.matrix - np.diag(np.diag(given.result.matrix))
    pixels = [int(row[2].replace(",", "")) for row in listed[1:]]
    assert pixels == sorted(wrong[wrong > 0].tolist(), reverse=True)
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    assert listed[1][:2] == [given.spec.class_names[i], given.spec.class_names[j]]


def test_layers_are_the_label_the_prediction_and_where_they_differ(scored, read_page):
    given = scored(right=0.9)
    page = read_page(given.page(2))
    found = layers(page)
    assert len(found) == 4  # all, the best first
    best = int(np.argmax(given.result.image_scores))
    _, label, label_map = given.images[best]
    palette = np.array(given.spec.palette)
    void = label == given.spec.ignore_label
    seen = np.asarray(found[0]["label"].convert("RGBA"))
    assert not seen[void][:, 3].any() and (seen[~void][:, 3] == 255).all()
    np.testing.assert_array_equal(seen[~void][:, :3], palette[label[~void]])
    predicted = np.asarray(found[0]["prediction-0"].convert("RGBA"))
    np.testing.assert_array_equal(predicted[..., :3], palette[label_map])
    errors = np.asarray(found[0]["errors"].convert("RGBA"))[..., 3] > 0
    np.testing.assert_array_equal(errors, (label != label_map) & ~void)
    assert "Best images" not in page.text and "All images, the best first" in page.text


def test_best_median_and_worst_are_shown_and_none_on_request(scored, read_page):
    given = scored(shapes=((24, 36),) * 7)
    page = read_page(given.page(1))
    titles = [
        "Best images, the best first",
        "Median images, the best first",
        "Worst images, the worst first",
    ]
    assert all(title in page.text for title in titles) and len(layers(page)) == 3
    scores = np.array([0.3, np.nan, 0.9, 0.1, 0.5, 0.7, 0.2, 0.6])
    assert list(choose(scores, 2).values()) == [[2, 5], [7, 4], [3, 6]]
    without = read_page(given.page(0))
    assert not layers(without) and "Strength of the colors" not in without.text


def test_large_and_tiny_images_and_images_of_void_are_shown(scored, read_page):
    given = scored(shapes=((1, 1), (1500, 2500), (3, 400)), widths=())
    shapes = [image.shape for image, _, _ in given.images]
    assert shapes[1] == (1500, 2500, 3)
    source = given.page(3)
    sizes = {each["image"].size for each in layers(read_page(source))}
    assert (640, 384) in sizes and (400, 3) in sizes
    assert all(
        picture.size == each["image"].size
        for each in layers(read_page(source))
        for picture in each.values()
    )
    # The image of one pixel is all void: no score, not shown.
    assert np.isnan(given.result.image_scores[0]) and (1, 1) not in sizes
    reason = "Without a score, since no class that counts is in the label or the prediction: 1."
    assert reason in read_page(source).text


def test_one_image_and_one_class_are_a_report_without_intervals(scored, read_page, evil):
    given = scored(num_classes=1, shapes=((20, 30),), widths=(1,))
    page = read_page(given.page(3))
    assert "1 image of" in page.text and "One image has no interval." in page.text
    assert "No pixel is wrong." in page.text and "too narrow" not in page.text
    assert page.tables[0][1][0] == evil and page.tables[0][1][1] == "100.0"
    assert page.tables[1][1][:2] == ["1", "100.0"]


def test_more_than_256_classes_in_an_image_keep_their_colors(scored, read_page):
    given = scored(num_classes=300, shapes=((150, 150),), widths=())
    (found,) = layers(read_page(given.page(1)))
    _, _, label_map = given.images[0]
    assert len(np.unique(label_map)) > 256
    seen = np.asarray(found["prediction-0"].convert("RGBA"))[..., :3]
    np.testing.assert_array_equal(seen, np.array(given.spec.palette)[label_map])


def test_alarms_stand_before_the_scores(scored, read_page):
    given = scored()
    one = np.zeros_like(given.result.matrix)
    one[:, 1] = 50
    object.__setattr__(given.result, "matrix", one)
    text = read_page(given.page()).text
    assert 0 < text.index("all pixels are predicted as class 1") < text.index("mean IoU")


def test_a_report_of_accuracies_has_intervals_and_classes(scored, read_page, evil):
    spec = scored().spec
    ranks = np.array([[6, 2, 0, 0, 0, 0], [3, 0, 1, 0, 0, 4], [0, 0, 0, 0, 0, 0]])
    result = ClassifyResult(
        spec=spec,
        options=Eval(split="val"),
        predict=Classify(),
        ranks=ranks,
        predicted=np.array([9, 7, 0]),
        num_examples=16,
    )
    source = evaluation_page(result, {}, {"date": "now"}, {})
    page = read_page(source)
    assert html.escape(evil) in source
    found = share_interval(9, 16)
    assert f"56.2\u2009% {percent(found.low)} to {percent(found.high)}" in page.text
    assert page.tables[0][0] == ["class", "top-1 accuracy %", "images", "predicted"]
    assert page.tables[0][1][1].startswith("75.0 ") and page.tables[0][1][2:] == ["8", "9"]
    assert page.tables[0][3][1] == "–"


def test_the_interval_of_a_share_is_that_of_drawn_images():
    right = np.arange(40) < 30
    random = np.random.default_rng(5)
    drawn = right[random.integers(0, 40, (20_000, 40))].mean(axis=1)
    found = share_interval(30, 40, draws=20_000)
    np.testing.assert_allclose((found.low, found.high), percentiles(drawn, LEVEL), atol=0.026)
    assert found.value == 0.75 and DRAWS == 2000
    assert np.isnan(share_interval(1, 1).low) and np.isnan(share_interval(0, 0).value)
