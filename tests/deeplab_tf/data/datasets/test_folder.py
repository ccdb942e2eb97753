"""Folders of the user: what is paired, split, named and refused."""

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.datasets.folder import Folder
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


def _folder(directory, **options):
    places = {f"{kind}_dir": str(directory / kind) for kind in ("images", "labels")}
    return Folder(**{**places, **options})


def _open(directory, **options):
    return _folder(directory, **options).open()


_STEMS = [f"photo{i}" for i in range(20)]


def test_pairs_have_the_same_path_without_ending(tmp_path):
    _write(tmp_path, ["a", "sub/b"], ".JPG")
    _write(tmp_path, ["c"], ".png")
    source = _open(tmp_path, val_fraction=0.0).source("train")
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
    spec = _open(tmp_path).spec
    assert spec.class_names == ("class_0", "class_1", "class_2")
    assert sum(spec.splits.values()) == 20


def test_classes_file_names_them(tmp_path):
    _write(tmp_path, _STEMS)
    names = tmp_path / "classes.txt"
    names.write_text("sky\nsea\nsand\nship\n")
    spec = _open(tmp_path, class_names_file=str(names)).spec
    assert spec.class_names == ("sky", "sea", "sand", "ship")


def _held_out(directory, fraction):
    source = _open(directory, val_fraction=fraction).sources.get("val", ())
    return {source.read(i)["name"].numpy().decode() for i in range(len(source))}


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.8])
def test_held_out_share_stays_when_photos_are_added(tmp_path, fraction):
    _write(tmp_path, _STEMS)
    before = _held_out(tmp_path, fraction)
    assert 1 <= len(before) < 20
    for added in ("new", "also", "and"):
        _write(tmp_path, [f"{added}{i}" for i in range(5)])
        after = _held_out(tmp_path, fraction)
        assert {name for name in after if name in _STEMS} == before


def test_of_a_few_photos_only_the_one_that_fills_an_empty_split_may_move(tmp_path):
    """Photo by photo, a photo leaves its split only where the hashes filled one split alone."""
    before, moved = None, set()
    for count in range(2, 21):
        _write(tmp_path, _STEMS[count - 2 : count])
        after = _held_out(tmp_path, 0.2)
        assert 1 <= len(after) < count
        if before is not None:
            left = before - after
            moved |= left
            assert after - before <= {_STEMS[count - 1]}  # no old photo enters 'val'
            assert not left or (left == before and len(before) == 1)
        before = after
    assert len(moved) <= 2


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_two_photos_are_one_to_train_on_and_one_held_out(tmp_path, fraction):
    _write(tmp_path, ["a", "b"])
    spec = _open(tmp_path, val_fraction=fraction).spec
    assert spec.splits == {"train": 1, "val": 1}


def test_no_fraction_holds_out_nothing(tmp_path):
    _write(tmp_path, _STEMS[:3])
    assert _open(tmp_path, val_fraction=0.0).spec.splits == {"train": 3}


def test_hidden_folders_are_not_read_and_linked_ones_are(tmp_path):
    _write(tmp_path, ["a", ".ipynb_checkpoints/a-checkpoint"])
    _write(tmp_path / "elsewhere", ["b"])
    for kind in ("images", "labels"):
        (tmp_path / kind / "linked").symlink_to(tmp_path / "elsewhere" / kind)
    (tmp_path / "labels/.ipynb_checkpoints/a-checkpoint.png").unlink()
    source = _open(tmp_path, val_fraction=0.0).source("train")
    assert [source.read(i)["name"] for i in range(len(source))] == [b"a", b"linked/b"]


def test_list_names_what_is_held_out(tmp_path):
    _write(tmp_path, _STEMS)
    names = tmp_path / "val.txt"
    names.write_text("photo3\nphoto5.jpg\n\n")
    dataset = _open(tmp_path, val_list=str(names))
    source = dataset.source("val")
    assert [source.read(i)["name"] for i in range(len(source))] == [b"photo3", b"photo5"]
    assert len(dataset.source("train")) == 18


def test_val_may_have_folders_of_its_own(tmp_path):
    _write(tmp_path, _STEMS)
    _write(tmp_path / "more", ["x"])
    more = {f"val_{kind}_dir": str(tmp_path / "more" / kind) for kind in ("images", "labels")}
    assert _open(tmp_path, **more).spec.splits == {"train": 20, "val": 1}


def test_same_photos_in_train_and_val_are_refused(tmp_path):
    _write(tmp_path, _STEMS[:3])
    places = {f"val_{k}_dir": str(tmp_path / k) for k in ("images", "labels")}
    with pytest.raises(ValueError, match=r"val_images_dir must have no image.*photo0\.jpg"):
        _open(tmp_path, **places)
    with pytest.raises(ValueError, match="val_list or --dataset.val_images_dir, not both"):
        _open(tmp_path, val_list="v.txt", **places)


def test_one_folder_for_images_and_labels_is_refused(tmp_path):
    _write(tmp_path, ["a"])
    with pytest.raises(ValueError, match="must be in different folders; both are .*images"):
        _open(tmp_path, labels_dir=str(tmp_path / "images"))


def test_long_lists_of_names_are_shortened(tmp_path):
    _write(tmp_path, [f"photo{i:02}" for i in range(30)])
    for i in range(25):
        (tmp_path / f"labels/photo{i:02}.png").unlink()
    with pytest.raises(ValueError, match=r"(?s)photo19\.jpg\n  and 5 more$"):
        _open(tmp_path)


def test_palette_of_the_labels_becomes_that_of_the_dataset(tmp_path):
    _write(tmp_path, ["a", "b"])
    picture = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8))
    picture.putpalette([1, 2, 3, 40, 50, 60, 70, 80, 90] + [0] * 759)
    for stem in ("a", "b"):
        picture.save(tmp_path / "labels" / f"{stem}.png")
    spec = _open(tmp_path).spec
    assert spec.palette == ((1, 2, 3), (40, 50, 60), (70, 80, 90))


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda d: (d / "labels/photo2.png").unlink(), {}, r"no label for .*photo2\.jpg"),
        (lambda d: (d / "images/photo2.jpg").unlink(), {}, r"no image for .*photo2\.png"),
        (
            lambda d: Image.new("RGB", (8, 6)).save(d / "images/photo2.png"),
            {},
            r"photo2\.(png|jpg) and .*photo2\.(png|jpg) differ only in the ending",
        ),
        (
            lambda d: None,
            {"ignore_label": 2},
            r"(?s)value 255 is in 5 of 5 .*2 \(void\) in 4: .* --dataset.ignore_label=255",
        ),
        (
            lambda d: (d / "c.txt").write_text("one\ntwo\nthree\n"),
            {"ignore_label": 2, "class_names_file": "c.txt"},
            "ignore_label must not be one of the classes 0..2; got 2",
        ),
        (
            lambda d: (d / "v.txt").write_text("nobody"),
            {"val_list": "v.txt"},
            "names examples that do not exist",
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
            r"photo(1|3)\.png: a label must be a PNG.* mode RGB.*likewise .*photo(1|3)\.png",
        ),
    ],
)
def test_faulty_folder_is_refused_by_name(tmp_path, spoil, options, message):
    _write(tmp_path, _STEMS[:4])
    if options == {"ignore_label": 2}:
        _write(tmp_path, ["big"], label=np.full((6, 8), 3))
    spoil(tmp_path)
    options = {k: str(tmp_path / v) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(ValueError, match=message):
        _open(tmp_path, **options)


def test_missing_or_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no directory .*images"):
        _open(tmp_path)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    with pytest.raises(FileNotFoundError, match="images has no file that ends in .jpg"):
        _open(tmp_path)


def test_folder_without_directories_names_the_flags(tmp_path):
    with pytest.raises(ValueError, match="needs --dataset.images_dir and --dataset.labels_dir"):
        Folder().open()


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_share_is_at_least_0_and_below_1(fraction):
    with pytest.raises(ValueError, match="^val_fraction must be"):
        Folder(val_fraction=fraction)


@pytest.mark.parametrize(
    "path", ["streets/images", "streets/Train/images", "streets/img", "streets"]
)
def test_dataset_is_named_after_the_folder_that_says_what_it_is(tmp_path, path):
    _write(tmp_path / "source", ["a", "b"])
    images = tmp_path / path
    images.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "source/images").rename(images)
    dataset = Folder(images_dir=f"{images}/", labels_dir=str(tmp_path / "source/labels")).open()
    assert dataset.spec.name == "streets"


def test_dataset_is_named_after_the_folder_whatever_the_working_directory(tmp_path, monkeypatch):
    _write(tmp_path / "streets", ["a", "b"])
    monkeypatch.chdir(tmp_path / "streets")
    assert Folder(images_dir="images", labels_dir="labels").open().spec.name == "streets"


def test_a_folder_has_nothing_to_prepare(tmp_path):
    _write(tmp_path, ["a", "b"])
    assert _folder(tmp_path).prepare(None).spec.splits == {"train": 1, "val": 1}
    with pytest.raises(ValueError, match="official release.*--dataset=folder has none"):
        _folder(tmp_path).prepare(None, raw_dir=str(tmp_path))


def test_check_names_every_fault_and_counts_the_rest(tmp_path):
    _write(tmp_path, _STEMS)
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\n")
    dataset = _open(tmp_path, class_names_file=str(tmp_path / "classes.txt"), val_fraction=0.0)
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
    named = dict(
        zip(("photo1", "photo2", "photo3", "photo4", "photo5"), report.problems, strict=True)
    )
    for stem, problem in named.items():
        assert f"images/{stem}.jpg" in problem
    assert "must be 0..3 or 255 (void); got 9 (48 pixels)" in named["photo1"]
    assert "the image has (6, 8) pixels (height, width), its label (5, 8)" in named["photo2"]
    assert "it has mode RGB" in named["photo3"]
    assert "not a readable picture: it is empty" in named["photo5"]
    assert report.pixels["train"].sum() == 15 * 48
    with pytest.raises(ValueError, match="has 5 faulty examples"):
        report.raise_if_bad()


def test_label_of_many_wrong_values_makes_a_short_line(tmp_path):
    _write(tmp_path, ["a"])
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(tmp_path / "labels/a.png")
    dataset = _open(tmp_path, class_names_file=str(tmp_path / "classes.txt"))
    (problem,) = check_dataset(dataset).problems
    assert problem.endswith("11 (1 pixels), 12 (1 pixels), and 35 more values")


def test_camvid_and_its_void_are_read(shared_dir):
    folder = Folder(
        ignore_label=11,
        **{
            f"{prefix}{kind}_dir": str(shared_dir / "data" / "camvid" / split / kind)
            for prefix, split in (("", "train"), ("val_", "val"))
            for kind in ("images", "labels")
        },
    )
    dataset = folder.open()
    assert dataset.spec.name == "camvid"
    assert dataset.spec.splits == {"train": 367, "val": 101}
    assert dataset.spec.num_classes == 11
    report = check_dataset(dataset, splits=["val"])
    assert report.problems == ()
    assert (report.smallest, report.largest) == ((360, 480), (360, 480))
    assert report.pixels["val"].sum() == 101 * 360 * 480


def test_voc_palette_pictures_give_indices_and_the_voc_colors(shared_dir):
    directory = shared_dir / "data" / "voc_samples"
    dataset = _open(directory, val_fraction=0.0)
    assert dataset.spec.palette == bit_palette(dataset.spec.num_classes)
    seen = set(np.unique(dataset.source("train").read(0)["label"]))  # 2011_000003: people
    assert seen <= {*range(21), 255} and 15 in seen
