"""Photos that are damaged, hostile or odd are read correctly or refused by name.

They are read by the check before training, by prediction, and when an official release is prepared.
"""

import io
import os
import pathlib
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

from deeplab_tf.data import pipeline
from deeplab_tf.data.augment import AUGMENTATIONS
from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.datasets.folder import Folder
from deeplab_tf.data.photos import find_photos, read_photo
from deeplab_tf.data.release.examples import ReleasedExample, encode

SIZE = (20, 30)
RGB = np.kron(np.arange(2 * 3 * 3).reshape(2, 3, 3) * 13 + 17, np.ones((10, 10, 1))).astype(
    np.uint8
)
PHOTO = Image.fromarray(RGB)
LABEL = (np.arange(600) % 3).reshape(SIZE).astype(np.uint8)


def _file(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def _png(width, height, depth, colors, rows: bytes, interlaced=0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colors, 0, 0, interlaced)
    chunks = [_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _deep() -> bytes:
    rows = (RGB.astype(">u2") * 257).reshape(SIZE[0], -1)
    return _png(SIZE[1], SIZE[0], 16, 2, b"".join(b"\0" + row.tobytes() for row in rows))


def _interlaced() -> bytes:
    """Adam7: seven passes, each with every so many-th row and column."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    passes.append((1, 0, 2, 1))
    parts = [RGB[row::down, column::right] for row, column, down, right in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    return _png(SIZE[1], SIZE[0], 8, 2, rows, interlaced=1)


def _broken(place: int) -> bytes:
    """A PNG with one wrong byte in the chunk of the pixels."""
    png = bytearray(_file(PHOTO))
    start = png.index(b"IDAT")
    length = int.from_bytes(png[start - 4 : start])
    png[start + 4 + (place if place >= 0 else length - 1 - place)] ^= 0xFF
    return bytes(png)


def _folder(directory: pathlib.Path, image: bytes, name="a.jpg", label=LABEL) -> Folder:
    for kind, file, content in (
        ("images", name, image),
        ("labels", f"{os.path.splitext(name)[0]}.png", _file(Image.fromarray(label))),
    ):
        (directory / kind).mkdir()
        (directory / kind / file).write_bytes(content)
    return Folder(
        images_dir=str(directory / "images"),
        labels_dir=str(directory / "labels"),
        val_fraction=0.0,
    )


def _batch(source, num_classes: int):
    augment = [AUGMENTATIONS["random_scale"](), AUGMENTATIONS["random_crop"](size=16)]
    batches = pipeline.train_batches(
        source, augment, batch_size=1, ignore_label=255, num_classes=num_classes, seed=0
    )
    return next(iter(batches))


def _outcomes(directory: pathlib.Path, image: bytes) -> dict[str, np.ndarray | str]:
    """What training, prediction and preparation make of it: the pixels or the error."""
    dataset = _folder(directory, image).open()
    path = str(directory / "images" / "a.jpg")

    def prepared():
        content = encode(ReleasedExample(name="a", image=path))["image"].getvalue()
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))[:, :, :3]

    found: dict[str, np.ndarray | str] = {}
    for who, read in {"predict": lambda: read_photo(path), "prepare": prepared}.items():
        try:
            found[who] = read()
        except ValueError as error:
            found[who] = str(error)
    problems = check_dataset(dataset).problems
    found["train"] = problems[0] if problems else dataset.source("train").read(0)["image"].numpy()
    for outcome in found.values():
        assert not isinstance(outcome, str) or path in outcome, outcome  # errors name the file
    return found


@pytest.mark.parametrize(
    ("image", "tolerance", "unknown_to"),
    [
        (_file(PHOTO), 0, ()),
        (_file(PHOTO) + b"junk" * 99, 0, ()),
        (_file(PHOTO, "JPEG", quality=95) + b"junk" * 99, 6, ()),
        (_file(PHOTO, "JPEG", quality=95, progressive=True), 6, ()),
        (_file(PHOTO.convert("CMYK"), "JPEG", quality=95), 40, ()),
        (_file(PHOTO.convert("RGBA")), 0, ()),
        (_file(PHOTO.quantize(16)), 0, ()),
        (_file(PHOTO.quantize(16), transparency=bytes([0, 99, 255])), 0, ()),
        (_deep(), 0, ()),
        (_interlaced(), 0, ()),
        (_file(PHOTO, save_all=True, append_images=[PHOTO.rotate(180)]), 0, ()),  # animated
        (_file(PHOTO, "MPO", quality=95, save_all=True, append_images=[PHOTO]), 6, ()),
        (_file(PHOTO, "GIF", save_all=True, append_images=[PHOTO.rotate(180)]), 0, ("prepare",)),
        (_file(PHOTO, "WEBP", lossless=True), 0, ("prepare",)),
        (_file(PHOTO, "BMP"), 0, ("prepare",)),
        (_file(PHOTO, "TIFF"), 0, ("prepare", "train")),
    ],
    ids=[
        *("PNG", "PNG and more", "JPEG and more", "progressive", "CMYK", "RGBA", "palette"),
        *("transparent palette", "48 bits", "interlaced", "animated PNG", "MPO", "animated GIF"),
        *("WebP", "BMP", "TIFF"),
    ],
)
def test_odd_photos_have_their_colors_or_are_refused(tmp_path, image, tolerance, unknown_to):
    for who, outcome in _outcomes(tmp_path, image).items():
        if who in unknown_to:
            assert "JPEG" in outcome and "PNG" in outcome  # what must hold
        else:
            assert outcome.shape == RGB.shape
            assert np.abs(outcome.astype(int) - RGB).mean() <= tolerance, who


@pytest.mark.parametrize("kind", ["L", "1", "16 bits", "LA"])
def test_gray_photos_have_three_equal_channels(tmp_path, kind):
    gray = np.repeat(np.where(RGB[:, :, :1] > 90, 255, 0), 3, axis=2)
    picture = Image.fromarray(gray[:, :, 0].astype(np.uint8))
    deep = Image.fromarray(gray[:, :, 0].astype(np.uint16) * 257)
    for who, outcome in _outcomes(
        tmp_path, _file(deep if kind == "16 bits" else picture.convert(kind))
    ).items():
        if (who, kind) != ("prepare", "16 bits"):  # stored as it is; Pillow's conversion clips
            np.testing.assert_array_equal(outcome, gray)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "not a picture|not a readable"),
        (b"holiday, 12 May", "not a picture|not a readable"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture|not a readable"),
        (_file(PHOTO, "JPEG")[:300], "readable picture|damaged"),
        (_file(PHOTO, "JPEG", quality=95)[:-40], "Invalid JPEG|readable picture|damaged"),
        (_file(PHOTO)[:-30], "Invalid PNG|readable picture|damaged"),
        (_broken(20), "Invalid PNG|readable picture|damaged"),
        (_png(0, 0, 8, 2, b""), "not a picture|not a readable"),
    ],
    ids=["empty", "text", "SVG", "JPEG header", "JPEG end", "PNG cut", "PNG data", "0x0"],
)
def test_damaged_photos_are_refused_by_name_everywhere(tmp_path, image, message):
    for outcome in _outcomes(tmp_path, image).values():
        assert isinstance(outcome, str) and re.search(message, outcome)
        assert "BytesIO" not in outcome and "function_node" not in outcome


def test_a_wrong_checksum_is_refused_where_data_is_made_and_forgiven_where_it_is_shown(tmp_path):
    outcomes = _outcomes(tmp_path, _broken(-2))
    assert "damaged or truncated" in outcomes["prepare"] and "Invalid PNG" in outcomes["train"]
    np.testing.assert_array_equal(outcomes["predict"], RGB)  # as viewers do


@pytest.mark.parametrize("size", [(12000, 9000), (60000, 60000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.parametrize("part", ["image", "label"])
def test_decompression_bombs_are_refused_before_they_are_unpacked(tmp_path, size, part):
    resource = pytest.importorskip("resource")
    bomb = _png(*size, 8, 2 if part == "image" else 0, bytes(1000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if part == "image":
        outcomes = _outcomes(tmp_path, bomb)
    else:
        folder = _folder(tmp_path, _file(PHOTO))
        (tmp_path / "labels" / "a.png").write_bytes(bomb)
        with pytest.raises(ValueError) as caught:
            folder.open()
        outcomes = {"labels/a.png": str(caught.value)}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    for who, outcome in outcomes.items():
        assert (
            f"{Image.MAX_IMAGE_PIXELS} pixels at most" in outcome and "Make it smaller" in outcome
        )
        assert who in ("train", "predict", "prepare") or who in outcome
    assert grown < 60_000  # kB; the smallest would be 324 MB as RGB


def test_a_sparse_file_is_refused_before_it_is_read(tmp_path):
    dataset = _folder(tmp_path, _file(PHOTO)).open()
    path = tmp_path / "images" / "a.jpg"
    with open(path, "r+b") as file:
        file.truncate(1 << 40)
    (problem,) = check_dataset(dataset).problems
    with pytest.raises(ValueError) as predicted:
        read_photo(str(path))
    with pytest.raises(ValueError) as prepared:
        encode(ReleasedExample(name="a", image=str(path)))
    for said in (problem, str(predicted.value), str(prepared.value)):
        assert str(path) in said and "it has 1099511627776 bytes; no picture needs more" in said


def test_a_whole_bomb_that_is_a_valid_jpeg_is_refused(tmp_path):
    small = bytearray(_file(PHOTO, "JPEG"))
    frame = small.index(b"\xff\xc0") + 5
    small[frame : frame + 4] = struct.pack(">HH", 65500, 65500)
    for outcome in _outcomes(tmp_path, bytes(small)).values():
        assert "pixels at most" in outcome


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_tiny_and_narrow_photos_train(tmp_path, size):
    image = np.full((*size, 3), 90, np.uint8)
    label = np.ones(size, np.uint8)
    dataset = _folder(tmp_path, _file(Image.fromarray(image)), "a.png", label).open()
    assert check_dataset(dataset).problems == ()
    batch = _batch(dataset.source("train"), num_classes=2)
    assert batch["image"].shape == (1, 16, 16, 3)
    assert set(np.unique(batch["label"])) <= {1, 255}
    assert read_photo(str(tmp_path / "images/a.png")).shape == (*size, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_photo_and_the_label_must_match_what_is_seen(tmp_path, orientation):
    encoded = _file(PHOTO, "JPEG", exif=_exif(orientation), quality=95)
    seen = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))))
    stored_label = _folder(tmp_path, encoded).open()
    problems = check_dataset(stored_label).problems
    if orientation < 5:
        assert problems == ()
    else:
        (problem,) = problems
        assert "the image has (30, 20) pixels (height, width), its label (20, 30)" in problem
        assert "a.jpg" in problem and "EXIF" in problem and "turn the label" in problem
    (tmp_path / "turned").mkdir()
    label = np.zeros(seen.shape[:2], np.uint8)
    label[0, 0] = 1
    turned = _folder(tmp_path / "turned", encoded, label=label).open()
    assert check_dataset(turned).problems == ()
    image = turned.source("train").read(0)["image"].numpy().astype(int)
    assert np.abs(image - seen).mean() < 3  # blocks differ by 13
    predicted = read_photo(str(tmp_path / "images/a.jpg")).astype(int)
    assert np.abs(predicted - seen).mean() < 3  # blocks differ by 13


def test_a_label_with_exif_of_its_own_is_turned_like_the_photo(tmp_path):
    folder = _folder(tmp_path, _file(PHOTO, exif=_exif(6)), "a.png")
    (tmp_path / "labels/a.png").write_bytes(_file(Image.fromarray(LABEL), exif=_exif(6)))
    example = folder.open().source("train").read(0)
    np.testing.assert_array_equal(example["image"], np.rot90(RGB, -1))
    np.testing.assert_array_equal(example["label"], np.rot90(LABEL, -1))


def test_a_folder_of_photos_is_searched_for_photos_alone(tmp_path):
    (tmp_path / "x.jpg").mkdir()
    (tmp_path / "._a.jpg").write_bytes(b"\0\5\x16\7")  # left by a Mac
    for name in ("a.JPG", "b.jpeg", "Übung 日本.png", "line\nbreak.webp"):
        kind = {".png": "PNG", ".webp": "WEBP"}.get(os.path.splitext(name)[1], "JPEG")
        (tmp_path / name).write_bytes(_file(PHOTO, kind))
    found = find_photos([str(tmp_path)])
    assert [os.path.basename(path) for path in found] == [
        *("a.JPG", "b.jpeg", "line\nbreak.webp", "Übung 日本.png")
    ]
    for path in found:
        assert read_photo(path).shape == RGB.shape
    with pytest.raises(ValueError, match=r"cannot read .*x\.jpg"):
        read_photo(str(tmp_path / "x.jpg"))


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_a_photo_that_may_not_be_read_is_named(tmp_path):
    folder = _folder(tmp_path, _file(PHOTO))
    (tmp_path / "images/a.jpg").chmod(0)
    assert "images/a.jpg" in check_dataset(folder.open()).problems[0]


def test_a_bad_photo_in_the_stream_of_batches_makes_one_line(tmp_path):
    source = _folder(tmp_path, _png(12000, 9000, 8, 2, bytes(1000))).open().source("train")
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        _batch(source, num_classes=3)
    assert pipeline.first_line(caught.value).startswith("a picture may have")
