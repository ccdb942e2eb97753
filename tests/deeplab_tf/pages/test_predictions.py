import urllib.parse

import pytest

from deeplab_tf.pages.predictions import PredictedImage, predictions_page
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette

SPEC = DatasetSpec(
    name="rooms", class_names=("wall", "floor", "a<b>"), ignore_label=255,
    palette=bit_palette(3), splits={},
)  # fmt: skip


def item(name: str, overlay: str | None = None, **shares: float) -> PredictedImage:
    return PredictedImage(
        name=name,
        overlay_href=overlay or f"{name}_overlay.png",
        label_map_href=f"{name}.png",
        shares={key.replace("ab", "a<b>"): share for key, share in shares.items()},
    )


def test_every_image_is_there_with_its_classes_and_the_page_stays_small(read_page):
    items = (item(f"photo {i}", wall=0.75, floor=0.25) for i in range(2000))
    source = predictions_page("Rooms", items, SPEC)
    page = read_page(source)
    pictures = page.all("img")
    assert len(pictures) == 2000 and {p["loading"] for p in pictures} == {"lazy"}
    assert pictures[7]["src"] == "./photo%207_overlay.png"
    assert page.all("figure")[0]["data-shares"] == "0:0.7500 1:0.2500"
    assert "2,000 images" in page.text and "wall 75.0 %" in page.text
    assert "a<b>" not in page.text  # no image shows it
    assert len(source) < 2000 * 800


@pytest.mark.parametrize(
    "path",
    ["a b.png", "50%41.png", "x#y?z.png", "javascript:alert(1)", "q\"'<i>.png", "d\udce9.png"],
)
def test_a_file_of_any_name_is_linked(read_page, path):
    page = read_page(predictions_page("All", [item(path, path, ab=1.0)], SPEC))
    (picture,) = page.all("img")
    assert picture["src"].startswith("./")
    assert urllib.parse.unquote(picture["src"][2:], errors="surrogateescape") == path
    page_text = predictions_page("All", [item(path, path, ab=1.0)], SPEC)
    page_text.encode()  # as write_text does


def test_no_images_and_no_label_map_are_a_page(read_page):
    assert "0 images" in read_page(predictions_page("None", [], SPEC)).text
    without = PredictedImage(name="x", overlay_href="x.png", label_map_href=None, shares={})
    page = read_page(predictions_page("One", [without], SPEC))
    assert [a["href"] for a in page.all("a")] == ["./x.png"] and "1 image" in page.text


def test_a_share_of_an_unknown_class_is_refused():
    with pytest.raises(ValueError, match=r"shares of x must be of classes; got \['roof'\]"):
        predictions_page("One", [item("x", roof=1.0)], SPEC)
