"""The user's own folders: what is paired, split, named, and refused."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.recipe.options import DataConfig
from deeplab_tf.data import open_dataset
from deeplab_tf.data.check import check_dataset
from deeplab_tf.recipe.dataset_spec import bit_palette


def _write(directory, stems, ending=".jpg", label=None):
    """Images and labels; a label's classes are 0, 1, 2 and void unless given."""
    for stem in stems:
        image = directory / "images" / f"{stem}{ending}"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(image)
        path = directory / "labels" / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.arange(48).reshape(6, 8) % 3 if label is None else np.asarray(label)
        values = values.astype(np.uint8)
        values[0, 0] = 255
        Image.fromarray(values).save(path)


def _data(directory, **options):
    return DataConfig(
        dataset="folder",
        images_dir=str(directory / "images"),
        labels_dir=str(directory / "labels"),
        **options,
    )


_STEMS = [f"photo{i}" for i in range(20)]


def test_pairs_have_the_same_path_without_ending(tmp_path):
    _write(tmp_path, ["a", "sub/b"], ".JPG")
    _write(tmp_path, ["c"], ".png")
    source = open_dataset(_data(tmp_path, val_fraction=0.0), None).source("train")
    names = [source.name(i) for i in range(len(source))]
    assert [name.split("images/")[1].split(" ")[0] for name in names] == [
        "a.JPG",
        "c.png",
        "sub/b.JPG",
    ]
    example = source.read(0)
    assert example["image"].shape == (6, 8, 3) and example["label"].shape == (6, 8)
    assert example["name"] == b"a"


def test_classes_are_counted_where_no_file_names_them(tmp_path):
    _write(tmp_path, _STEMS)
    spec = open_dataset(_data(tmp_path), None).spec
    assert spec.class_names == ("class_0", "class_1", "class_2")
    assert sum(spec.splits.values()) == 20


def test_classes_file_names_them(tmp_path):
    _write(tmp_path, _STEMS)
    names = tmp_path / "classes.txt"
    names.write_text("sky\nsea\nsand\nship\n")
    spec = open_dataset(_data(tmp_path, class_names_file=str(names)), None).spec
    assert spec.class_names == ("sky", "sea", "sand", "ship")


def test_held_out_share_stays_when_photos_are_added(tmp_path):
    _write(tmp_path, _STEMS)

    def held_out():
        source = open_dataset(_data(tmp_path, val_fraction=0.3), None).source("val")
        return {source.name(i) for i in range(len(source))}

    before = held_out()
    assert 1 <= len(before) <= 12
    _write(tmp_path, [f"new{i}" for i in range(10)])
    assert {name for name in held_out() if "new" not in name} == before


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_two_photos_are_one_to_train_on_and_one_held_out(tmp_path, fraction):
    _write(tmp_path, ["a", "b"])
    spec = open_dataset(_data(tmp_path, val_fraction=fraction), None).spec
    assert spec.splits == {"train": 1, "val": 1}


def test_no_fraction_holds_out_nothing(tmp_path):
    _write(tmp_path, _STEMS[:3])
    assert open_dataset(_data(tmp_path, val_fraction=0.0), None).spec.splits == {"train": 3}


def test_hidden_folders_are_not_read_and_linked_ones_are(tmp_path):
    _write(tmp_path, ["a", ".ipynb_checkpoints/a-checkpoint"])
    _write(tmp_path / "elsewhere", ["b"])
    for kind in ("images", "labels"):
        (tmp_path / kind / "linked").symlink_to(tmp_path / "elsewhere" / kind)
    (tmp_path / "labels/.ipynb_checkpoints/a-checkpoint.png").unlink()
    source = open_dataset(_data(tmp_path, val_fraction=0.0), None).source("train")
    assert [source.read(i)["name"] for i in range(len(source))] == [b"a", b"linked/b"]


def test_list_names_what_is_held_out(tmp_path):
    _write(tmp_path, _STEMS)
    names = tmp_path / "val.txt"
    names.write_text("photo3\nphoto5.jpg\n\n")
    dataset = open_dataset(_data(tmp_path, val_list=str(names)), None)
    source = dataset.source("val")
    assert [source.read(i)["name"] for i in range(len(source))] == [b"photo3", b"photo5"]
    assert len(dataset.source("train")) == 18


def test_folders_of_their_own_are_val(tmp_path):
    _write(tmp_path, _STEMS)
    _write(tmp_path / "more", ["x"])
    data = _data(
        tmp_path,
        val_images_dir=str(tmp_path / "more" / "images"),
        val_labels_dir=str(tmp_path / "more" / "labels"),
    )
    assert open_dataset(data, None).spec.splits == {"train": 20, "val": 1}


def test_same_photos_in_train_and_val_are_refused(tmp_path):
    _write(tmp_path, _STEMS[:3])
    places = {f"val_{k}_dir": str(tmp_path / k) for k in ("images", "labels")}
    with pytest.raises(ValueError, match=r"val_images_dir must have no image.*photo0\.jpg"):
        open_dataset(_data(tmp_path, **places), None)
    with pytest.raises(ValueError, match="val_list or --data.val_images_dir, not both"):
        open_dataset(_data(tmp_path, val_list="v.txt", **places), None)


def test_one_folder_for_images_and_labels_is_refused(tmp_path):
    _write(tmp_path, ["a"])
    data = _data(tmp_path)
    data = dataclasses.replace(data, labels_dir=data.images_dir)
    with pytest.raises(ValueError, match="must be in different folders; both are .*images"):
        open_dataset(data, None)


def test_many_names_are_cut_short(tmp_path):
    _write(tmp_path, [f"photo{i:02}" for i in range(30)])
    for i in range(25):
        (tmp_path / f"labels/photo{i:02}.png").unlink()
    with pytest.raises(ValueError, match=r"(?s)photo19\.jpg\n  and 5 more$"):
        open_dataset(_data(tmp_path), None)


def test_palette_of_the_labels_becomes_the_datasets(tmp_path):
    _write(tmp_path, ["a", "b"])
    picture = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8))
    picture.putpalette([1, 2, 3, 40, 50, 60, 70, 80, 90] + [0] * 759)
    for stem in ("a", "b"):
        picture.save(tmp_path / "labels" / f"{stem}.png")
    spec = open_dataset(_data(tmp_path), None).spec
    assert spec.palette == ((1, 2, 3), (40, 50, 60), (70, 80, 90))


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda d: (d / "labels/photo2.png").unlink(), {}, r"no label for .*photo2\.jpg"),
        (lambda d: (d / "images/photo2.jpg").unlink(), {}, r"no image for .*photo2\.png"),
        (
            lambda d: Image.new("RGB", (8, 6)).save(d / "images/photo2.png"),
            {},
            r"photo2\.(png|jpg) and .*photo2\.(png|jpg) have the same name",
        ),
        (lambda d: None, {"ignore_label": 2}, "ignore_label must not be one of the classes"),
        (
            lambda d: (d / "v.txt").write_text("nobody"),
            {"val_list": "v.txt"},
            "names examples that",
        ),
        (
            lambda d: (d / "v.txt").write_text("\n"),
            {"val_list": "v.txt"},
            "must name one or more examples",
        ),
        (lambda d: (d / "c.txt").write_text("one\n"), {"class_names_file": "c.txt"}, "two or more"),
        (
            lambda d: (d / "labels/photo2.png").write_bytes(b"junk"),
            {},
            r"photo2\.png: not a picture in PNG format",
        ),
        (
            lambda d: [Image.new("RGB", (8, 6)).save(d / f"labels/photo{i}.png") for i in (1, 3)],
            {},
            r"(?s)photo1\.png: a label must be a PNG.*photo3\.png: a label must be a PNG",
        ),
    ],
)
def test_faulty_folder_is_refused_by_name(tmp_path, spoil, options, message):
    _write(tmp_path, _STEMS[:4])
    if message.startswith("ignore_label"):
        _write(tmp_path, ["big"], label=np.full((6, 8), 3))
    spoil(tmp_path)
    options = {k: str(tmp_path / v) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(ValueError, match=message):
        open_dataset(_data(tmp_path, **options), None)


def test_missing_or_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no directory .*images"):
        open_dataset(_data(tmp_path), None)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    with pytest.raises(FileNotFoundError, match="images has no file that ends in .jpg"):
        open_dataset(_data(tmp_path), None)


def test_folder_without_places_says_which_flags(tmp_path):
    with pytest.raises(ValueError, match="needs --data.images_dir and --data.labels_dir"):
        open_dataset(DataConfig(dataset="folder"), None)


def test_check_names_every_fault_and_counts_the_rest(tmp_path):
    _write(tmp_path, _STEMS)
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\n")
    data = _data(tmp_path, class_names_file=str(tmp_path / "classes.txt"), val_fraction=0.0)
    dataset = open_dataset(data, None)
    good = check_dataset(dataset)
    assert good.problems == ()
    good.raise_if_bad()
    assert good.num_examples == {"train": 20}
    np.testing.assert_array_equal(good.pixels["train"], [20 * 15, 20 * 16, 20 * 16, 0, 20])
    assert "warning: no pixel in 'train' of class 3 (d)" in good.text()

    Image.fromarray(np.full((6, 8), 9, np.uint8)).save(tmp_path / "labels" / "photo1.png")
    Image.fromarray(np.zeros((5, 8), np.uint8)).save(tmp_path / "labels" / "photo2.png")
    Image.new("RGB", (8, 6)).save(tmp_path / "labels" / "photo3.png")
    photo4 = tmp_path / "images" / "photo4.jpg"
    photo4.write_bytes(photo4.read_bytes()[:100])
    (tmp_path / "labels" / "photo5.png").write_bytes(b"")
    report = check_dataset(dataset)
    told = dict(
        zip(("photo1", "photo2", "photo3", "photo4", "photo5"), report.problems, strict=True)
    )
    for stem, problem in told.items():
        assert f"images/{stem}.jpg" in problem
    assert "must be 0..3 or 255 (void); got 9 (48 pixels)" in told["photo1"]
    assert "the image has (6, 8) pixels (height, width), its label (5, 8)" in told["photo2"]
    assert "it has mode RGB" in told["photo3"]
    assert "not a picture" in told["photo5"]
    assert report.pixels["train"].sum() == 15 * 48
    with pytest.raises(ValueError, match="has 5 faulty examples"):
        report.raise_if_bad()


def test_label_of_many_wrong_values_makes_a_short_line(tmp_path):
    _write(tmp_path, ["a"])
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(tmp_path / "labels/a.png")
    data = _data(tmp_path, class_names_file=str(tmp_path / "classes.txt"))
    (problem,) = check_dataset(open_dataset(data, None)).problems
    assert problem.endswith("11 (1 pixels), 12 (1 pixels), and 35 more values")


def test_camvid_and_its_void_are_read(shared_dir):
    data = DataConfig(
        dataset="folder",
        ignore_label=11,
        **{
            f"{prefix}{kind}_dir": str(shared_dir / "data" / "camvid" / split / kind)
            for prefix, split in (("", "train"), ("val_", "val"))
            for kind in ("images", "labels")
        },
    )
    dataset = open_dataset(data, None)
    assert dataset.spec.splits == {"train": 367, "val": 101}
    assert dataset.spec.num_classes == 11
    report = check_dataset(dataset, splits=["val"])
    assert report.problems == ()
    assert (report.smallest, report.largest) == ((360, 480), (360, 480))
    assert report.pixels["val"].sum() == 101 * 360 * 480


def test_voc_palette_pictures_give_indices_and_the_voc_colours(shared_dir):
    directory = shared_dir / "data" / "voc_samples"
    dataset = open_dataset(_data(directory, val_fraction=0.0), None)
    assert dataset.spec.palette == bit_palette(dataset.spec.num_classes)
    seen = set(np.unique(dataset.source("train").read(0)["label"]))  # 2011_000003: people
    assert seen <= {*range(21), 255} and 15 in seen
