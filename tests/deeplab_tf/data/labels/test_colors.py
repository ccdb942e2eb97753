"""--dataset.colors_file: colors become classes, and anything else is refused by name."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from deeplab_tf import zoo
from deeplab_tf.data.augment import RandomCrop
from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.datasets.folder import Folder
from deeplab_tf.data.labels.colors import read_colors_file
from deeplab_tf.data.pipeline import eval_examples
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe import as_json
from deeplab_tf.recipe.dataset_spec import distinct_palette
from deeplab_tf.recipe.parts import Recipe, Train
from deeplab_tf.training.loop import train
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.schedules import Poly

TEXT = "128 64 128 road\n0\t0\t0\tVoid\n 70 130 180  open sky \n\n220 20 60 road\n250 170 30 sign\n"
COLORS = np.array([(128, 64, 128), (0, 0, 0), (70, 130, 180), (220, 20, 60), (250, 170, 30)])
VALUES = [0, 255, 1, 0, 2]  # of these colors


def picture(numbers, mode: str = "RGB") -> Image.Image:
    """A picture of the colors with these numbers."""
    if mode == "P":
        indices = Image.fromarray((len(COLORS) - 1 - np.asarray(numbers)).astype(np.uint8))
        indices.putpalette(COLORS[::-1].astype(np.uint8).tobytes())
        return indices
    return Image.fromarray(COLORS.astype(np.uint8)[np.asarray(numbers)]).convert(mode)


@pytest.fixture
def folder(tmp_path) -> Folder:
    """Four photos with labels in colors."""
    (tmp_path / "colors.txt").write_text(TEXT)
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for i in range(4):
        Image.new("RGB", (20, 10)).save(tmp_path / f"images/{i}.jpg")
        picture(np.arange(200).reshape(10, 20) % 5).save(tmp_path / f"labels/{i}.png")
    return Folder(
        images_dir=str(tmp_path / "images"),
        labels_dir=str(tmp_path / "labels"),
        colors_file=str(tmp_path / "colors.txt"),
        val_fraction=0.0,
    )


def test_names_colors_and_void_are_those_of_the_file(folder):
    spec = folder.open().spec
    assert spec.class_names == ("road", "open sky", "sign")
    assert spec.palette == ((128, 64, 128), (70, 130, 180), (250, 170, 30))
    other = folder.replace(ignore_label=77).open()
    assert other.spec.ignore_label == 77
    assert 77 in other.source("train").read(0)["label"].numpy()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_labels_are_the_classes_of_their_colors(folder, tmp_path, mode):
    numbers = np.arange(200).reshape(10, 20) // 7 % 5
    picture(numbers, mode).save(tmp_path / "labels/0.png")
    read = folder.open().source("train").read(0)["label"].numpy()
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, np.array(VALUES)[numbers])


def test_gray_levels_are_colors_too_and_classes_are_drawn_in_other_ones(folder, tmp_path):
    (tmp_path / "colors.txt").write_text("0 0 0 ground\n255 255 255 tree\n")
    mask = np.arange(200).reshape(10, 20) % 3 == 0
    for i in range(4):
        gray = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
        (gray.convert("1") if i == 1 else gray).save(tmp_path / f"labels/{i}.png")
    dataset = folder.open()
    for i in range(2):
        np.testing.assert_array_equal(dataset.source("train").read(i)["label"], mask)
    assert dataset.spec.palette == distinct_palette(2)
    assert check_dataset(dataset).problems == ()


def test_graphs_read_the_classes(folder):
    for example in eval_examples(folder.open().source("train")):
        assert set(np.unique(example["label"])) == {0, 1, 2, 255}


@pytest.mark.slow  # a network is built and trained
def test_labels_in_colors_train_and_are_scored(folder, tmp_path):
    recipe = Recipe(
        model=DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", atrous_rates=(1,), aspp_channels=8),
        dataset=folder.replace(val_fraction=0.3),
        augment=(RandomCrop(size=17),),
        optimizer=SGD(),
        schedule=Poly(),
        loss=CrossEntropy(),
        train=Train(steps=2, batch_size=2, eval_every=2),
        predict=WholeImage(),
    )
    lines = []
    train(recipe, workdir=str(tmp_path / "run"), print_fn=lines.append)
    assert any("mean IoU" in line or "mean_iou" in line for line in lines), lines
    spec = (tmp_path / "run/dataset.json").read_text()
    assert json.loads(spec)["class_names"] == ["road", "open sky", "sign"]


def test_the_check_counts_the_classes(folder):
    report = check_dataset(folder.open())
    assert report.problems == () and report.warnings == ()
    np.testing.assert_array_equal(report.pixels["train"], [320, 160, 160, 160])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (picture(np.ones((10, 20), int)), None),
        (
            Image.new("RGB", (20, 10), (1, 2, 3)),
            r"must be in --dataset\.colors_file; these are not: 1 2 3 \(200 pixels\)",
        ),
        (Image.new("RGBA", (20, 10), (0, 0, 0, 9)), "opaque; 200 of its pixels are transparent"),
        (Image.new("LA", (20, 10), (0, 0)), "opaque; 200 of its pixels are transparent"),
        (Image.fromarray(np.zeros((10, 20), np.uint16)), "must have 8 bits per channel.*I;16"),
    ],
    ids=["right", "unknown", "RGBA", "LA", "16 bits"],
)
def test_pixels_without_a_class_are_named(folder, tmp_path, label, message):
    label.save(tmp_path / "labels/2.png")
    problems = check_dataset(folder.open()).problems
    if message is None:
        assert problems == ()
    else:
        (problem,) = problems
        assert "labels/2.png: " in problem and re.search(message, problem)


def test_colors_that_the_file_lacks_are_listed_once_for_all_labels(folder, tmp_path):
    text = TEXT.replace("250 170 30 sign\n", "9 9 9 ghost\n").replace("220 20 60 road\n", "")
    (tmp_path / "colors.txt").write_text(text)
    report = check_dataset(folder.open())
    (problem,) = report.problems
    assert "220 20 60 (40 pixels)" in problem and problem.endswith("and 1 more")
    (hint,) = report.hints
    assert "4 labels have 2 colors that are no class" in hint
    assert "\n    220 20 60 class" in hint and "\n    250 170 30 class" in hint
    assert "128 64 128" not in hint
    with pytest.raises(ValueError, match="has 4 faulty examples"):
        report.raise_if_bad()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3 a\n4,5,6,b\n", r"colors\.txt, line 2: .*'R G B name'.*got '4,5,6,b'"),
        ("1 2 3 a\n\n4 5 b\n", r"line 3: .*got '4 5 b'"),
        ("1 2 3\n4 5 6 b\n", r"line 1: .*got '1 2 3'"),
        ("a 1 2 3\nb 4 5 6\n", r"line 1: .*got 'a 1 2 3'"),
        ("1 2 3 a\n4 5 256 b\n", r"line 2: .*0\.\.255"),
        ("1 2 3 a\n4 5 -6 b\n", r"line 2: .*got '4 5 -6 b'"),
        ("1 2 3 a\n4 5 6 b\n1 2 3 c\n", r"lines 1 and 3: each color must occur once; 1 2 3 "),
        ("1 2 3 a\n4 5 6 void\n", "two or more different classes.*got a"),
        ("", "two or more different classes.*got none"),
    ],
)
def test_other_files_are_refused_with_the_line(tmp_path, text, message):
    (tmp_path / "colors.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_colors_file(str(tmp_path / "colors.txt"), 255)


def test_a_file_that_is_none_is_refused(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path, "/dev/zero"):
        with pytest.raises(FileNotFoundError, match=r"--dataset\.colors_file must name one"):
            read_colors_file(str(path), 255)
    (tmp_path / "latin").write_bytes(b"1 2 3 caf\xe9\n")
    with pytest.raises(ValueError, match="latin must be a text file in UTF-8"):
        read_colors_file(str(tmp_path / "latin"), 255)
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbf1 2 3 a\r\n4 5 6 b\r\n")
    assert read_colors_file(str(tmp_path / "marked"), 255).names == ("a", "b")


def test_classes_have_one_file_of_names(folder):
    with pytest.raises(ValueError, match="colors_file or --dataset.class_names_file, not both"):
        folder.replace(class_names_file="classes.txt").open()


def test_recipes_without_the_new_options_still_open(folder):
    recipe = zoo.RECIPES["quickstart_shapes"]
    tree = json.loads(as_json.to_json(recipe.__class__(**{**vars(recipe), "dataset": folder})))
    for name in ("colors_file", "label_suffix"):
        assert tree["dataset"].pop(name, None) is not None
    read = as_json.from_json(json.dumps(tree), zoo.PARTS)
    assert read.dataset == folder.replace(colors_file=None)


def test_a_label_takes_one_look_up_per_pixel_whatever_the_number_of_classes(tmp_path):
    """Hundreds of classes, some with neighboring colors."""
    colors = [(i // 256 * 9, i % 256, 7) for i in range(700)]
    lines = [f"{r} {g} {b} class {i}" for i, (r, g, b) in enumerate(colors)]
    (tmp_path / "colors.txt").write_text("\n".join(lines))
    classes = read_colors_file(str(tmp_path / "colors.txt"), -1)
    numbers = np.random.default_rng(0).integers(0, 700, (40, 50))
    shown = Image.fromarray(np.array(colors, np.uint8)[numbers])
    buffer = io.BytesIO()
    shown.save(buffer, "PNG")
    np.testing.assert_array_equal(classes.label(Image.open(buffer)), numbers)
