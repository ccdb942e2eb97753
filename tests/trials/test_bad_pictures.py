"""Bad photos and labels: a photo is named and the others are predicted; labels are one error."""

import io
import os
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from trials.bad_inputs import Case, Damage, check, without

SIZE = (24, 32)  # height, width
RGB = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
CLASSES = (np.arange(SIZE[0] * SIZE[1]) % 3).reshape(SIZE).astype(np.uint8)


def picture(values, kind: str = "PNG", **options) -> bytes:
    """A picture's file."""
    values = values if isinstance(values, Image.Image) else Image.fromarray(np.asarray(values))
    buffer = io.BytesIO()
    values.save(buffer, kind, **options)
    return buffer.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claims(width: int, height: int, colors: int = 2) -> bytes:
    """A PNG that says it is so large, and holds a thousand bytes."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colors, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(bytes(1000)))


def is_file(data: bytes) -> Damage:
    """Makes a file."""
    return lambda path: path.write_bytes(data)


PHOTO = picture(RGB)
JPEG = picture(RGB, "JPEG")
_NO_PICTURE = "not a picture that can be read"

# What is wrong -> (name of the file, how it is made, what its error says).
IMAGES = {
    "cut PNG": (
        "b.png",
        is_file(PHOTO[: len(PHOTO) // 2]),
        "not a readable picture: image file is truncated",
    ),
    "cut JPEG": (
        "b.jpg",
        is_file(JPEG[: len(JPEG) // 2]),
        "not a readable picture: Truncated File Read",
    ),
    "header alone": ("b.jpg", is_file(JPEG[:20]), _NO_PICTURE),
    "empty": ("b.png", is_file(b""), "it is empty"),
    "text": ("b.png", is_file(b"holiday, 12 May\n"), _NO_PICTURE),
    "zeros": ("b.png", is_file(bytes(5000)), _NO_PICTURE),
    "SVG": ("b.png", is_file(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), _NO_PICTURE),
    "HTML": ("b.jpg", is_file(b"<!DOCTYPE html><html><body>404</body></html>"), _NO_PICTURE),
    "pipe": ("b.png", lambda path: os.mkfifo(path), "it is a pipe, not a regular file"),
    "link to nothing": (
        "b.png",
        lambda path: path.symlink_to("nothing.png"),
        "nothing.png, which is not there",
    ),
    "link to itself": (
        "b.png",
        lambda path: path.symlink_to("b.png"),
        "Too many levels of symbolic links",
    ),
    "device": (
        "b.png",
        lambda path: path.symlink_to("/dev/zero"),
        "it is a device, not a regular file",
    ),
    "claims much": (
        "b.png",
        is_file(claims(60000, 60000)),
        "a picture may have 89478485 pixels at most",
    ),
    "claims the most": (
        "b.png",
        is_file(claims(2**31 - 1, 2**31 - 1)),
        "a picture may have 89478485 pixels at most",
    ),
    "no pixels": ("b.png", is_file(claims(0, 0)), _NO_PICTURE),
    "floats": (
        "b.tif",
        is_file(picture(Image.fromarray(np.ones(SIZE, "f4") * 1e9), "TIFF")),
        "gray values must be integers; they are floats",
    ),
    "line break": ("b\nerror: c.png", is_file(b"text"), _NO_PICTURE),
    "no text": (b"b\xff.png".decode(errors="surrogateescape"), is_file(b"text"), _NO_PICTURE),
}


@pytest.mark.slow  # TensorFlow and the network, like those below
@pytest.mark.parametrize("kind", IMAGES)
def test_a_bad_image_is_named_and_the_others_are_predicted(scripts, run_copy, kind):
    name, make, says = IMAGES[kind]
    images, new = run_copy / "images", run_copy.parent / "new"
    images.mkdir()
    (images / "a.png").write_bytes(PHOTO)
    make(images / name)
    done = scripts.run("predict", f"--workdir={run_copy}", f"--images={images}", f"--output={new}")
    assert done.code == 1, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert errors[0].startswith("error: cannot read ") and says in errors[0]
    assert "1 of 2 images failed" in errors[1]
    of_all = ["index.html", "legend.png", "predictions.jsonl"]
    assert sorted(os.listdir(new)) == sorted(["a.png", "a_overlay.png", *of_all])


ANIMATED = {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}
ODD = {
    "one pixel": (RGB[:1, :1], "PNG", {}),
    "one row": (RGB[:1], "PNG", {}),
    "one column": (RGB[:, :1], "PNG", {}),
    "CMYK": (Image.fromarray(RGB).convert("CMYK"), "JPEG", {}),
    "gray": (RGB[:, :, 0], "PNG", {}),
    "16 bits": (RGB[:, :, 0].astype(np.uint16) * 257, "PNG", {}),
    "two values": (Image.fromarray(RGB).convert("1"), "PNG", {}),
    "transparent palette": (Image.fromarray(RGB).quantize(9), "PNG", {"transparency": b"\0\x99"}),
    "RGBA": (Image.fromarray(RGB).convert("RGBA"), "PNG", {}),
    "animated GIF": (RGB, "GIF", ANIMATED),
    "animated WebP": (RGB, "WEBP", ANIMATED),
}


@pytest.mark.slow
def test_odd_images_are_predicted_at_their_sizes(scripts, run_copy):
    images, new = run_copy / "images", run_copy.parent / "new"
    images.mkdir()
    for i, (values, kind, options) in enumerate(ODD.values()):
        (images / f"{i}.{kind.lower()}").write_bytes(picture(values, kind, **options) + b"more")
    (images / "Übung, 日本 {x} *[1].png").write_bytes(PHOTO)
    done = scripts.run("predict", f"--workdir={run_copy}", f"--images={images}", f"--output={new}")
    assert done.code == 0, done.stderr
    for path in images.iterdir():
        with Image.open(path) as image, Image.open(new / f"{path.stem}.png") as label:
            assert label.size == image.size


PREDICT = "--workdir={run} --images={run}/val.png"


def besides(name: str) -> Damage:
    """A damage: a photo besides."""
    return lambda run: (run / name).write_bytes(JPEG)


OUTPUTS = [
    Case("images", "predict", flags, says, damage)
    for flags, says, damage in [
        (f"{PREDICT} --output={{run}}", "--output must not be the directory of ", None),
        (f"{PREDICT} --output={{run}}/val.png", "--output must be a directory; ", None),
        (
            f"{PREDICT} --output={{run}}/recipe.json/x",
            "recipe.json/x/predictions.jsonl cannot be",
            None,
        ),
        (f"{PREDICT} --output=", "--output must be given and not empty", None),
        (f"{PREDICT} --output=/proc/x", "/proc/x", None),
        (f"{PREDICT} --output={'x' * 300}", "File name too long", None),
        (
            f"{PREDICT},{{run}}/val.jpg --output={{new}}",
            "would both be written to",
            besides("val.jpg"),
        ),
        (
            f"{PREDICT},{{run}}/val_overlay.jpg --output={{new}}",
            "val_overlay.jpg would both be written to",
            besides("val_overlay.jpg"),
        ),
        (
            "--workdir={run} --images={run}/legend.jpg --output={new}",
            "the legend and ",
            besides("legend.jpg"),
        ),
        ("--workdir={run} --images={run}/*.bmp --output={new}", "/*.bmp'; it must be a file", None),
        ("--workdir={run} --images={run}/[ --output={new}", "/['; it must be a file", None),
        (f"{PREDICT},{{run}}/x.png --output={{new}}", "/x.png'; it must be a file", None),
        ("--workdir={run} --images=, --output={new}", "no images at ''", None),
    ]
]


def pairs(label: bytes | None = None, change: Damage = lambda run: None) -> Damage:
    """A damage: six images with labels, one of them the given, and then a change."""

    def damage(run: pathlib.Path) -> None:
        for kind, data in (("images", PHOTO), ("labels", picture(CLASSES))):
            (run / kind).mkdir()
            for i in range(6):
                (run / kind / f"{i}.png").write_bytes(data)
        if label is not None:
            (run / "labels/3.png").write_bytes(label)
        change(run)

    return damage


def every(label: bytes) -> Damage:
    """A damage: six images, all with this label."""
    return pairs(change=lambda run: [p.write_bytes(label) for p in (run / "labels").iterdir()])


def instead(name: str, make: Damage, was: str | None = None) -> Damage:
    """A damage: six pairs, and another thing in the place of the file `was`, or of that name."""
    return pairs(change=lambda run: [without(was or name)(run), make(run / name)])


FOLDER = "--dataset=folder --dataset.images_dir={run}/images --dataset.labels_dir={run}/labels"
NAMED = f"{FOLDER} --dataset.class_names_file={{run}}/names.txt"
TRAIN = (
    "--workdir={new} --recipe=quickstart_shapes --train.steps=4 --train.batch_size=2"
    " --model.atrous_rates=1 --model.aspp_channels=8 --model.decoder=false"
)
WIDE = picture(np.zeros((24, 31), np.uint8))
_SEVEN = CLASSES.copy()
_SEVEN[5, 5] = 7


def names(text: str, label: bytes | None = None) -> Damage:
    return pairs(label, lambda run: (run / "names.txt").write_text(text))


# (flags, damage, what the error or the list of faults says)
_LABELS = [
    (
        NAMED,
        names("a\nb\nc\n", picture(_SEVEN)),
        "label values must be 0..2 or 255 (void); got 7 (1 pixels)",
    ),
    (
        NAMED,
        names("a\nb\n"),
        "label values must be 0..1 or 255 (void); got 2 (256 pixels); likewise ",
    ),
    (
        NAMED,
        names("a\nb\nc\n", picture(np.full(SIZE, 255, np.uint8) - _SEVEN)),
        "got 248 (1 pixels), 253 (256 pixels), 254 (256 pixels)",
    ),
    (NAMED, names(""), "names.txt must name two or more different classes, one per line; got none"),
    (
        NAMED,
        names("a\nb\na\n"),
        "names.txt must name two or more different classes, one per line; got a, b, a",
    ),
    (NAMED, pairs(), "names.txt; --dataset.class_names_file must name one"),
    (
        FOLDER,
        every(picture(np.full(SIZE, 255, np.uint8))),
        "the labels must show at least two classes; all of their pixels are 0 or 255",
    ),
    (
        FOLDER,
        every(picture(np.zeros(SIZE, np.uint8))),
        "the labels must show at least two classes; all of their pixels are 0 or 255",
    ),
    (
        FOLDER,
        pairs(picture(RGB)),
        "labels/3.png: a label must be a PNG of class indices",
    ),
    (
        FOLDER,
        every(picture(RGB)),
        "have the many colors of photos: are --dataset.images_dir and --dataset.labels_dir swapped",
    ),
    (FOLDER, pairs(picture(Image.fromarray(RGB).convert("RGBA"))), "it has mode RGBA."),
    (FOLDER, pairs(WIDE), "the image has (24, 32) pixels (height, width), its label (24, 31)"),
    (
        FOLDER,
        pairs(picture(np.zeros((32, 24), np.uint8))),
        "turn the label the same way, or remove the orientation",
    ),
    (FOLDER, pairs(b""), "labels/3.png: not a readable picture: it is empty"),
    (FOLDER, pairs(b"labels"), "labels/3.png: not a picture in PNG format"),
    (
        FOLDER,
        pairs(picture(CLASSES)[:-40]),
        "labels/3.png: not a readable picture: image file is truncated",
    ),
    (FOLDER, pairs(picture(CLASSES, "JPEG")), "1 labels are JPEG files that are named .png"),
    (
        FOLDER,
        pairs(claims(60000, 60000, colors=0)),
        "labels/3.png: a picture may have 89478485 pixels at most",
    ),
    (
        FOLDER,
        pairs(picture(np.full(SIZE, 70000, np.int32), "TIFF")),
        "1 labels are TIFF files that are named .png",
    ),
    (
        FOLDER,
        instead("labels/3.jpg", is_file(picture(CLASSES, "JPEG")), "labels/3.png"),
        "JPEG changes values along borders, so labels must be PNG",
    ),
    (FOLDER, instead("labels/3.png", lambda path: path.mkdir()), "no label for "),
    (
        FOLDER,
        instead("labels/3.png", lambda path: os.mkfifo(path)),
        "labels/3.png: it is a pipe, not a regular file",
    ),
    (
        FOLDER,
        instead("labels/3.png", lambda path: path.symlink_to("nothing")),
        "labels/3.png: No such file or directory",
    ),
    (
        FOLDER,
        instead("images/3.png", lambda path: os.mkfifo(path)),
        "images/3.png: it is a pipe, not a regular file",
    ),
    (FOLDER, instead("images/3.png", is_file(PHOTO[:-60])), "Invalid PNG data"),
    (
        FOLDER,
        instead("images/3.png", is_file(claims(60000, 60000))),
        "a picture may have 89478485 pixels at most",
    ),
    (FOLDER, pairs(change=without("labels/3.png")), "no label for "),
    (FOLDER, pairs(change=without("images/3.png")), "no image for "),
    (
        FOLDER,
        pairs(change=lambda run: (run / "labels").rename(run / "masks")),
        "there is no directory ",
    ),
    (
        FOLDER,
        pairs(change=lambda run: [p.unlink() for p in (run / "labels").iterdir()]),
        "labels has no file that ends in .png",
    ),
    (
        f"{FOLDER} --dataset.label_suffix=_mask",
        pairs(),
        "has no file that ends in _mask.png, as --dataset.label_suffix says",
    ),
    (
        f"{FOLDER} --dataset.val_list={{run}}/val.txt",
        pairs(),
        "val.txt; --dataset.val_list must name one",
    ),
    (
        f"{FOLDER} --dataset.val_list={{run}}/val.txt",
        pairs(change=lambda run: (run / "val.txt").write_text("9\n")),
        "val.txt names examples that do not exist: 9",
    ),
    (
        f"{FOLDER} --dataset.val_images_dir={{run}}/images",
        pairs(),
        "give both or neither of --dataset.val_images_dir and --dataset.val_labels_dir",
    ),
    (
        f"{FOLDER} --dataset.colors_file={{run}}/colors.txt",
        pairs(),
        "colors.txt; --dataset.colors_file must name one",
    ),
    (
        f"{FOLDER} --dataset.colors_file={{run}}/colors.txt",
        pairs(change=lambda run: (run / "colors.txt").write_text("0 0 999 sky\n")),
        "colors.txt, line 1: a line of --dataset.colors_file must be 'R G B name'",
    ),
    (
        f"{FOLDER} --dataset.colors_file={{run}}/colors.txt",
        pairs(change=lambda run: (run / "colors.txt").write_text("0 0 0 sky\n1 1 1 sea\n")),
        "each color of a label must be in --dataset.colors_file; these are not: 2 2 2 (256 pixels)",
    ),
    (
        f"{FOLDER} --dataset.ignore_label=1",
        pairs(picture(_SEVEN)),
        "ignore_label must not be one of the classes 0..7; got 1",
    ),
]
LABELS = [
    Case("labels", script, f"{start} {flags}".strip(), says, damage)
    for flags, damage, says in _LABELS
    for script, start in (("check_dataset", ""), ("train", TRAIN))
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [*OUTPUTS, *LABELS], ids=lambda case: f"{case.category}-{case.script}"
)
def test_a_bad_label_or_output_is_an_error_and_changes_nothing(
    scripts, run_copy, data_dir, recipe_flags, case
):
    check(case, scripts, run_copy, data_dir, recipe_flags)
