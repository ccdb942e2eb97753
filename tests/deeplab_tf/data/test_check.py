"""What a check reports, and when it refuses."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from deeplab_tf.data.check import CheckReport, check_dataset
from deeplab_tf.data.datasets.folder import Folder
from deeplab_tf.data.datasets.image_classes import ImageClasses
from deeplab_tf.recipe.dataset_spec import DatasetSpec, OpenDataset, bit_palette

SIZE = (6, 8)
GOOD = np.arange(48).reshape(SIZE) // 16  # classes 0, 1, 2


class Arrays:
    """Labels from memory as a source."""

    def __init__(self, labels):
        self.labels = [np.asarray(label, np.int32) for label in labels]

    def __len__(self):
        return len(self.labels)

    def read(self, index):
        import tensorflow as tf

        label = tf.constant(self.labels[int(index)])
        return {"image": tf.zeros([*SIZE, 3], tf.uint8), "label": label, "name": tf.constant("x")}

    def name(self, index):
        return f"example{index}"


def report_of(**splits) -> CheckReport:
    """The report on splits of labels with three classes; 255 is void."""
    spec = DatasetSpec(
        name="arrays",
        class_names=("sky", "sea", "sand"),
        ignore_label=255,
        palette=bit_palette(3),
        splits={split: len(labels) for split, labels in splits.items()},
    )
    sources = {split: Arrays(labels) for split, labels in splits.items()}
    return check_dataset(OpenDataset(spec=spec, sources=sources))


VOID = np.full(SIZE, 255)
WRONG = np.where(GOOD == 2, 7, GOOD)


def test_faults_that_are_alike_are_one_line():
    small = [np.zeros((5, width), int) for width in (3, 4, 5, 6)]
    report = report_of(train=[WRONG] * 30 + [GOOD] * 30 + small, val=[WRONG])
    of_values, of_sizes, of_val = report.problems
    assert of_values.startswith("train: example0: label values must be 0..2 or 255 (void); got 7")
    assert of_values.endswith("likewise example1, example2, and 27 more")
    assert "train: example60: the image has (6, 8) pixels (height, width), its lab" in of_sizes
    assert of_sizes.endswith("likewise example61, example62, and 1 more")
    assert of_val.startswith("val: example0: ")
    text = report.text()
    assert text.count("fault: ") == 3 and text.count("hint: ") == 1
    with pytest.raises(ValueError, match="arrays has 35 faulty examples:") as caught:
        report.raise_if_bad()
    message = str(caught.value)
    assert "hint: value 7 is in 31 of 61 labels" not in message  # sizes do not hide values
    assert "hint: value 7 is in 31 of 65 labels" in message


def test_a_good_dataset_has_no_lines():
    report = report_of(train=[GOOD, GOOD], val=[GOOD])
    report.raise_if_bad()
    assert (report.problems, report.hints, report.warnings) == ((), (), ())


def test_faulty_examples_of_one_split_may_be_forgiven():
    report = report_of(train=[WRONG, GOOD], val=[GOOD])
    report.raise_if_bad(forgiven="train")
    with pytest.raises(ValueError, match="1 faulty examples"):
        report.raise_if_bad(forgiven="val")
    assert "fault: train: example0" in report.text()


def test_a_split_without_one_good_example_is_not_forgiven():
    report = report_of(train=[WRONG, WRONG], val=[GOOD])
    with pytest.raises(ValueError, match="2 faulty examples"):
        report.raise_if_bad(forgiven="train")


@pytest.mark.parametrize("split", ["train", "val", "validation", "trainval"])
def test_a_split_that_is_all_void_is_refused_even_where_faults_are_forgiven(split):
    report = report_of(**{"train": [GOOD], split: [VOID, VOID]})
    with pytest.raises(ValueError, match=rf"2 labels of '{split}' .* void \(255\) everywhere"):
        report.raise_if_bad(forgiven=split)


def test_a_test_split_may_be_all_void_as_in_releases():
    report_of(train=[GOOD], val=[GOOD], test=[VOID]).raise_if_bad()


def test_one_label_with_a_class_is_enough():
    report_of(train=[GOOD], val=[VOID, np.where(GOOD, 255, 0)]).raise_if_bad()


def test_a_split_whose_good_labels_are_void_is_refused():
    report = report_of(train=[VOID, WRONG], val=[GOOD])
    with pytest.raises(ValueError, match="the 1 labels of 'train' without other faults are void"):
        report.raise_if_bad(forgiven="train")


def test_datasets_for_classification_raise_no_alarm(tmp_path):
    for name in ("owl", "wren", "lark"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("RGB", (8, 6)).save(tmp_path / name / f"{i}.png")
    report = check_dataset(ImageClasses(train_dir=str(tmp_path)).open())
    assert (report.problems, report.hints, report.warnings) == ((), (), ())


def photo(size: tuple[int, int], orientation: int | None, kind: str = "JPEG") -> bytes:
    options = {}
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("size", "orientation", "of_label", "warned"),
    [
        ((8, 6), None, None, False),
        ((8, 6), 1, None, False),
        *(((8, 6), orientation, None, True) for orientation in (2, 3, 4)),
        *(((6, 6), orientation, None, True) for orientation in range(2, 9)),
        ((6, 6), 3, 3, False),
        ((8, 6), 6, 6, False),
    ],
)
def test_photos_that_exif_turns_unseen_are_named(
    tmp_path, kind, size, orientation, of_label, warned
):
    for name in ("a", "b", "c"):
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / f"images/{name}.png").write_bytes(photo(size, orientation, kind))
        label = Image.fromarray(np.arange(size[0] * size[1]).reshape(size[::-1]) % 2 == 0)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = of_label or 1
        label.save(tmp_path / f"labels/{name}.png", **({"exif": exif} if of_label else {}))
    folder = Folder(images_dir=str(tmp_path / "images"), labels_dir=str(tmp_path / "labels"))
    report = check_dataset(folder.open())
    assert report.problems == ()
    assert [w.startswith("3 photos are turned or mirrored") for w in report.warnings] == (
        [True] if warned else []
    )


def test_progress_counts_every_example():
    seen = []
    spec = report_of(train=[GOOD]).spec
    dataset = OpenDataset(
        spec=spec, sources={"train": Arrays([GOOD] * 5), "val": Arrays([GOOD, WRONG])}
    )
    check_dataset(dataset, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 7) for i in range(1, 8)]


def test_splits_may_be_chosen():
    spec = report_of(train=[GOOD]).spec
    dataset = OpenDataset(spec=spec, sources={"train": Arrays([GOOD]), "val": Arrays([WRONG])})
    report = check_dataset(dataset, splits=["train"])
    assert report.problems == () and report.num_examples == {"train": 1}
