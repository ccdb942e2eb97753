"""Kinds of wrong labels, made from drawn ones and from CamVid, and what the check says to each."""

import dataclasses
import io
import pathlib
import re
from collections.abc import Callable

import numpy as np
import pytest
from PIL import ExifTags, Image

from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.datasets.camvid import CLASSES
from deeplab_tf.data.datasets.folder import Folder
from deeplab_tf.recipe.dataset_spec import bit_palette

NUMBER = 8  # of labels
COLORS = np.array([*CLASSES.values(), (0, 0, 0)], np.uint8)  # void is black
ALL = rf"{NUMBER} of {NUMBER}"


def png(values, **options) -> bytes:
    """A PNG file of an array or picture."""
    picture = values if isinstance(values, Image.Image) else Image.fromarray(np.asarray(values))
    buffer = io.BytesIO()
    picture.save(buffer, options.pop("kind", "PNG"), **options)
    return buffer.getvalue()


def through_jpeg(values, quality=85) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png(values, kind="JPEG", quality=quality))))


def smoothed(values) -> Image.Image:
    """At the same size, after one resizing that is right and one that is not."""
    picture = Image.fromarray(values)
    half = picture.resize((picture.width // 2, picture.height // 2), Image.NEAREST)
    return half.resize(picture.size, Image.BILINEAR)


def with_palette(values, seed: int) -> Image.Image:
    """The same colors as always, numbered separately."""
    order = np.random.default_rng(seed).permutation(len(COLORS))
    picture = Image.fromarray(np.argsort(order).astype(np.uint8)[values])
    picture.putpalette(COLORS[order].tobytes())
    return picture


def with_alpha(values) -> np.ndarray:
    rgba = np.zeros((*values.shape, 4), np.uint8)
    rgba[:, :, 3] = values * 20
    return rgba


@dataclasses.dataclass(frozen=True)
class Kind:
    """One way to have wrong labels."""

    label: Callable[[np.ndarray, int], object]  # (values, number) -> picture or file
    says: str  # pattern of what the check says, as a fault, hint or warning
    named: bool | int = True  # whether the classes are; 2: only as many
    name: Callable[[str], str] = "{}.png".format  # of the file
    fatal: bool = True
    options: tuple[tuple[str, object], ...] = ()
    photo: Callable[[bytes], bytes] = lambda content: content


def exif(orientation: int) -> Image.Exif:
    value = Image.Exif()
    value[ExifTags.Base.Orientation] = orientation
    return value


def turned_photo(content: bytes) -> bytes:
    return png(Image.open(io.BytesIO(content)), kind="JPEG", exif=exif(3))


UNNAMED = {"named": False}
AS_VOID_IS = (("ignore_label", 11),)
KINDS = {
    "void is 11, not 255": Kind(
        lambda v, i: v, rf"value 11 is in {ALL} labels \(.* % of pixels\).*ignore_label=11"
    ),
    "classes start at 1": Kind(
        lambda v, i: np.where(v == 11, 255, v + 1).astype(np.uint8),
        r"values are 1\.\.11 and never 0.*start at 1.*Subtract 1",
    ),
    "classes start at 1, not named": Kind(
        lambda v, i: np.where(v == 11, 255, v + 1).astype(np.uint8),
        r"no label has the value 0.*start at 1",
        named=False,
        fatal=False,
    ),
    "mask of 0 and 255": Kind(
        lambda v, i: np.where(v == 3, 255, 0).astype(np.uint8),
        r"values 0 .* and 255 .* alone, and 255 is void.*colors_file: '0 0 0",
        named=2,
    ),
    "mask of 0 and 255, not named": Kind(
        lambda v, i: np.where(v == 3, 255, 0).astype(np.uint8),
        r"at least two classes.*255 is void.*colors_file: '0 0 0",
        **UNNAMED,
    ),
    "masks of 0, 128 and 255": Kind(
        lambda v, i: np.select([v == 3, v == 8], [255, 128], 0).astype(np.uint8),
        r"2 values far apart, 0, 128, 255 \(void\).*saved as gray",
        named=3,
    ),
    "colors saved as gray": Kind(
        lambda v, i: Image.fromarray(COLORS[v]).convert("L"),
        r"values far apart, 0, \d+.*saved as gray.*colors_file",
    ),
    "colors saved as gray, not named": Kind(
        lambda v, i: Image.fromarray(COLORS[v]).convert("L"),
        r"has the label value 1\d\d, and \d+ values occur.*saved as gray",
        **UNNAMED,
    ),
    "colors of VOC saved as gray": Kind(
        lambda v, i: Image.fromarray(np.array(bit_palette(12), np.uint8)[v]).convert("L"),
        r"values far apart, 0, \d+.*saved as gray",
    ),
    "RGB masks": Kind(
        lambda v, i: COLORS[v],
        rf"{NUMBER} labels have 12 colors .* map these 12 colors with --dataset.colors_file.*"
        r"\n    \d+ \d+ \d+ class_0\n",
    ),
    "RGB masks, not named": Kind(
        lambda v, i: COLORS[v], r"map these 12 colors with --dataset.colors_file", **UNNAMED
    ),
    "RGB masks through JPEG": Kind(
        lambda v, i: through_jpeg(COLORS[v]),
        rf"{NUMBER} labels are drawings with more colors than were drawn.*JPEG",
    ),
    "RGB masks resized smoothly": Kind(
        lambda v, i: smoothed(COLORS[v]),
        rf"{NUMBER} labels are drawings with more colors.*nearest neighbor",
    ),
    "JPEG named .png": Kind(
        lambda v, i: png(v, kind="JPEG", quality=95),
        rf"{NUMBER} labels are JPEG files that are named \.png.*JPEG changes values",
    ),
    "JPEG files": Kind(
        lambda v, i: png(v, kind="JPEG", quality=95),
        rf"{NUMBER} files that end in \.jpg: JPEG changes values",
        name="{}.jpg".format,
    ),
    "numbers through JPEG": Kind(
        lambda v, i: through_jpeg(v), r"\d+ pixels have a value between those of both neighbors"
    ),
    "numbers through the best JPEG": Kind(
        lambda v, i: through_jpeg(v, 100), r"\d+ pixels have a value between those of both"
    ),
    "numbers resized smoothly": Kind(
        lambda v, i: smoothed(v),
        r"\d+ pixels have a value between.*nearest neighbor",
        fatal=False,
        options=AS_VOID_IS,
    ),
    "numbers resized smoothly, not named": Kind(
        lambda v, i: smoothed(v),
        r"\d+ pixels have a value between.*nearest neighbor",
        named=False,
        options=AS_VOID_IS,
    ),
    "named x_mask.png": Kind(
        lambda v, i: v,
        rf"{ALL} labels are called <image>_mask\.png: --dataset\.label_suffix=_mask",
        name="{}_mask.png".format,
    ),
    "named mask_x.png": Kind(
        lambda v, i: v, rf"{ALL} labels are called mask_<image>\.png", name="mask_{}.png".format
    ),
    "16 bits, scaled by 257": Kind(
        lambda v, i: v.astype(np.uint16) * 257, r"multiples of 257, up to 2827: .*Divide them"
    ),
    "16 bits, scaled by 256, not named": Kind(
        lambda v, i: v.astype(np.uint16) * 256, r"multiples of 256, up to 2816: ", **UNNAMED
    ),
    "instance ids": Kind(
        lambda v, i: np.where(v == 8, 26001 + i, v.astype(int)).astype(np.uint16),
        rf"{NUMBER} values are above 255, up to 260{NUMBER:02}.*instance ids",
        options=AS_VOID_IS,
    ),
    "half the size": Kind(
        lambda v, i: v[::2, ::2],
        rf"{ALL} labels have 0\.5 times the height and width of",
        options=AS_VOID_IS,
    ),
    "rows and columns exchanged": Kind(
        lambda v, i: v.T.copy(),
        rf"{ALL} labels have the height of their images as width",
        options=AS_VOID_IS,
    ),
    "void everywhere": Kind(
        lambda v, i: np.full_like(v, 255),
        r"the \d labels of 'train' without other faults are void \(255\) everywhere",
    ),
    "one class alone": Kind(
        lambda v, i: np.full_like(v, 3),
        rf"all {NUMBER} labels have one class alone, 3",
        fatal=False,
    ),
    "mask in alpha": Kind(
        lambda v, i: with_alpha(v), rf"{NUMBER} labels have one color and a varying alpha"
    ),
    "palettes numbered separately": Kind(
        with_palette,
        r"palettes disagree: value \d+ is \d+ \d+ \d+ in .*colors_file",
        fatal=False,
        options=AS_VOID_IS,
    ),
    "photos as labels": Kind(
        lambda v, i: PHOTOS[i], rf"{NUMBER} labels have the many colors of photos: .* swapped, or"
    ),
    "gray photos as labels": Kind(
        lambda v, i: Image.fromarray(PHOTOS[i]).convert("L"), r"as in photos: .* swapped\?"
    ),
    "photos turned by EXIF, labels not": Kind(
        lambda v, i: v,
        rf"{NUMBER} photos are turned or mirrored by their EXIF",
        fatal=False,
        options=AS_VOID_IS,
        photo=turned_photo,
    ),
}
PHOTOS: list[np.ndarray] = []
Examples = list[tuple[str, bytes, np.ndarray]]  # name, photo, label


@pytest.fixture(scope="module")
def drawn() -> Examples:
    """Ellipses on noisy photos; the classes 0..10 are in each label, and so is void, 11."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:120, :160]
    found = []
    for i in range(NUMBER):
        label = np.zeros((120, 160), np.uint8)
        for value in (3, 8, 0, 5):
            y, x, a, b = rng.integers([0, 0, 10, 10], [120, 160, 50, 50])
            label[((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1] = value
        label[:2] = np.arange(160) * 12 // 160
        photo = rng.integers(0, 256, (120, 160, 3)).astype(np.uint8)
        found.append((f"photo{i}", png(photo, kind="JPEG"), label))
    return found


@pytest.fixture(scope="module")
def camvid(shared_dir) -> Examples:
    """Some of CamVid's; 11 is void."""
    directory = shared_dir / "data/camvid/val"
    paths = sorted((directory / "images").iterdir())[::5][:NUMBER]
    labels = [np.asarray(Image.open(directory / f"labels/{path.stem}.png")) for path in paths]
    photos = [path.read_bytes() for path in paths]
    return list(zip([path.stem for path in paths], photos, labels, strict=True))


def write(directory: pathlib.Path, examples: Examples, kind: Kind) -> Folder:
    """The folder with labels of a kind."""
    PHOTOS[:] = [np.asarray(Image.open(io.BytesIO(photo))) for _, photo, _ in examples]
    for name in ("images", "labels"):
        (directory / name).mkdir()
    for i, (name, photo, values) in enumerate(examples):
        (directory / f"images/{name}.jpg").write_bytes(kind.photo(photo))
        label = kind.label(values, i)
        content = label if isinstance(label, bytes) else png(label)
        (directory / "labels" / kind.name(name)).write_bytes(content)
    options = dict(kind.options)
    if kind.named:
        number = len(CLASSES) if kind.named is True else kind.named
        (directory / "classes.txt").write_text("\n".join([*CLASSES][:number]))
        options["class_names_file"] = str(directory / "classes.txt")
    places = {f"{which}_dir": str(directory / which) for which in ("images", "labels")}
    return Folder(**places, **options)


def said(folder: Folder) -> tuple[bool, str]:
    """Whether the dataset is refused, and what the user reads."""
    try:
        report = check_dataset(folder.open())
        report.raise_if_bad()
    except (ValueError, OSError) as error:
        return True, str(error)
    return False, "\n".join(report.warnings)


def check_kind(directory: pathlib.Path, examples: Examples, kind: Kind) -> None:
    refused, text = said(write(directory, examples, kind))
    assert refused == kind.fatal, text
    assert re.search(f"(?s){kind.says}", text), text
    assert text.count("hint: ") <= 1 and len(text.splitlines()) <= 20, text


@pytest.mark.parametrize("name", KINDS)
def test_wrong_labels_are_diagnosed(tmp_path, drawn, name):
    check_kind(tmp_path, drawn, KINDS[name])


@pytest.mark.slow  # real labels
@pytest.mark.parametrize("name", KINDS)
def test_wrong_labels_made_from_camvid_are_diagnosed(tmp_path, camvid, name):
    check_kind(tmp_path, camvid, KINDS[name])


def two_classes(values, i):
    return (values == 3).astype(np.uint8)


RIGHT = {
    "as they are": Kind(lambda v, i: v, "", options=AS_VOID_IS),
    "not named": Kind(lambda v, i: v, "", named=False, options=AS_VOID_IS),
    "void is 255": Kind(lambda v, i: np.where(v == 11, 255, v).astype(np.uint8), ""),
    "one palette": Kind(lambda v, i: with_palette(v, 0), "", named=False),
    "two classes": Kind(two_classes, "", named=2),
    "two classes, not named": Kind(two_classes, "", named=False),
    "two classes and void": Kind(
        lambda v, i: np.select([v == 11, v == 3], [255, 1]).astype(np.uint8), "", named=2
    ),
    "one bit": Kind(lambda v, i: Image.fromarray(v == 3), "", named=2),
    "thin lines": Kind(
        lambda v, i: (np.arange(v.size).reshape(v.shape) % 7 == 0).astype(np.uint8), "", named=2
    ),
    "16 bits": Kind(lambda v, i: v.astype(np.uint16), "", options=AS_VOID_IS),
    "half the size, as the photos": Kind(
        lambda v, i: v[::2, ::2],
        "",
        options=AS_VOID_IS,
        photo=lambda content: png(np.asarray(Image.open(io.BytesIO(content)))[::2, ::2]),
    ),
    "named x_mask.png, which is said": Kind(
        lambda v, i: v,
        "",
        name="{}_mask.png".format,
        options=(*AS_VOID_IS, ("label_suffix", "_mask")),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_labels_raise_no_alarm(tmp_path, drawn, name):
    assert said(write(tmp_path, drawn, RIGHT[name])) == (False, "")


@pytest.mark.slow  # real labels
@pytest.mark.parametrize("name", RIGHT)
def test_right_labels_of_camvid_raise_no_alarm(tmp_path, camvid, name):
    assert said(write(tmp_path, camvid, RIGHT[name])) == (False, "")


@pytest.mark.slow  # real labels
@pytest.mark.parametrize(
    ("place", "void", "named"),
    [
        ("camvid/val", 11, 11),
        ("camvid/train", 11, 0),
        ("voc_samples", 255, 21),
        ("voc_samples", 255, 0),
        ("ade20k_samples", 255, 151),
        ("ade20k_samples", 255, 0),
    ],
)
def test_real_labels_raise_no_alarm(shared_dir, tmp_path, place, void, named):
    options = {}
    if named:
        (tmp_path / "classes.txt").write_text("\n".join(f"class {i}" for i in range(named)))
        options["class_names_file"] = str(tmp_path / "classes.txt")
    for kind in ("images", "labels"):
        options[f"{kind}_dir"] = str(shared_dir / "data" / place / kind)
    report = check_dataset(Folder(ignore_label=void, **options).open())
    assert report.problems == () and report.hints == ()
    # Of a few samples, many classes are in none; that is all there is to say.
    assert all(line.startswith("no pixel in 'train' of class") for line in report.warnings)


def test_labels_of_many_classes_raise_no_alarm(tmp_path, drawn):
    """150 classes of which each label has a few, as ADE20K."""
    classes = np.random.default_rng(1).permutation(150).astype(np.uint8)
    kind = Kind(lambda v, i: classes[(v.astype(int) + 19 * i) % 150], "", named=False)
    refused, text = said(write(tmp_path, drawn, kind))
    assert not refused and re.fullmatch("no pixel in 'train' of class .*", text)


@pytest.mark.parametrize("name", ["mask of 0 and 255", "masks of 0, 128 and 255", "RGB masks"])
def test_the_remedy_of_colors_and_masks_works(tmp_path, drawn, name):
    kind = KINDS[name]
    folder = write(tmp_path, drawn, kind)
    lines = ["0 0 0 ground", "255 255 255 tree", "128 128 128 car"][: kind.named]
    if kind.named is True:
        _, text = said(folder)
        lines = re.findall(r"^ {4}(\d.*)$", text, re.MULTILINE)
    (tmp_path / "colors.txt").write_text("\n".join(lines))
    remedied = folder.replace(class_names_file=None, colors_file=str(tmp_path / "colors.txt"))
    assert said(remedied) == (False, "")
    dataset = remedied.open()
    assert dataset.spec.num_classes == len(lines)
    shown = dataset.source("val").read(0)["label"].numpy()
    assert len(np.unique(shown)) == len(lines)


def test_labels_with_palettes_numbered_separately_are_mended_by_their_colors(tmp_path, drawn):
    folder = write(tmp_path, drawn, KINDS["palettes numbered separately"])
    lines = [f"{r} {g} {b} {name}" for name, (r, g, b) in CLASSES.items()]
    (tmp_path / "colors.txt").write_text("\n".join([*lines, "0 0 0 void"]))
    remedied = folder.replace(
        class_names_file=None, colors_file=str(tmp_path / "colors.txt"), val_fraction=0.0
    )
    assert said(remedied) == (False, "")
    source = remedied.open().source("train")
    expected = {name: label for name, _, label in drawn}
    for index in range(NUMBER):
        read = source.read(index)
        name = read["name"].numpy().decode()
        np.testing.assert_array_equal(read["label"], expected[name])
