"""Every kind of file that users have, decoded correctly or refused."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

from deeplab_tf.data.decoding import decode_image, decode_label

_RGB = (np.arange(6 * 9 * 3) % 251).astype(np.uint8).reshape(6, 9, 3)


def _bytes(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _eagerly(decode, encoded: bytes) -> np.ndarray:
    return decode(tf.constant(encoded)).numpy()


def _in_graph(decode, encoded: bytes) -> np.ndarray:
    data = tf.data.Dataset.from_tensors(tf.constant(encoded)).map(decode)
    return next(iter(data)).numpy()


@pytest.mark.parametrize("run", [_eagerly, _in_graph])
def test_color_png_is_exact(run):
    np.testing.assert_array_equal(run(decode_image, _bytes(Image.fromarray(_RGB))), _RGB)


def test_gray_becomes_three_equal_channels():
    image = decode_image(_bytes(Image.fromarray(_RGB[:, :, 0]))).numpy()
    np.testing.assert_array_equal(image, np.repeat(_RGB[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("alpha", [0, 128])
def test_alpha_is_dropped_and_colors_stay(alpha):
    picture = Image.fromarray(_RGB)
    picture.putalpha(alpha)
    np.testing.assert_array_equal(decode_image(_bytes(picture)).numpy(), _RGB)


def test_gray_with_alpha_is_gray():
    picture = Image.fromarray(_RGB[:, :, 0]).convert("LA")
    image = decode_image(_bytes(picture)).numpy()
    np.testing.assert_array_equal(image, np.repeat(_RGB[:, :, :1], 3, axis=2))


def test_sixteen_bits_become_the_upper_eight():
    deep = _RGB[:, :, 0].astype(np.uint16) * 256 + 77
    image = decode_image(_bytes(Image.fromarray(deep))).numpy()
    np.testing.assert_array_equal(image, np.repeat(_RGB[:, :, :1], 3, axis=2))


def test_palette_image_has_its_colors():
    picture = Image.fromarray((_RGB[:, :, 0] % 3).astype(np.uint8))
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]])[_RGB[:, :, 0] % 3]
    np.testing.assert_array_equal(decode_image(_bytes(picture)).numpy(), expected)


def test_cmyk_jpeg_has_nearly_pillows_colors():
    smooth = np.repeat(np.linspace(40, 200, 24, dtype=np.uint8)[None, :, None], 24, 0).repeat(3, 2)
    encoded = _bytes(Image.fromarray(smooth).convert("CMYK"), "JPEG", quality=95)
    image = decode_image(encoded).numpy().astype(int)
    assert np.abs(image - smooth).mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photo_is_turned_upright_as_viewers_do(orientation):
    blocks = np.kron(_RGB[:2, :3, 0], np.ones((16, 16))).astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    encoded = _bytes(Image.fromarray(blocks), "JPEG", exif=exif, quality=100)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))).astype(int)
    image = decode_image(encoded).numpy()[:, :, 0].astype(int)
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= 2


def test_png_photo_is_turned_upright_too():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = decode_image(_bytes(Image.fromarray(_RGB), exif=exif)).numpy()
    np.testing.assert_array_equal(image, np.rot90(_RGB, -1))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of the damaged EXIF
@pytest.mark.parametrize("run", [_eagerly, _in_graph])
def test_damaged_exif_leaves_the_photo_as_it_is(run):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    encoded = _bytes(Image.fromarray(_RGB), "JPEG", exif=exif)
    place = encoded.index(b"Exif\0\0") + 6
    # No header; a directory beyond the end; an orientation that is a text.
    for at, damage in ((0, b"\0\0\0\0"), (4, b"\0\0\xff\xff"), (13, b"\2")):
        damaged = encoded[: place + at] + damage + encoded[place + at + len(damage) :]
        assert run(decode_image, damaged).shape == (6, 9, 3)


def _palette_picture(label: np.ndarray) -> Image.Image:
    picture = Image.fromarray(label.astype(np.uint8))
    picture.putpalette([7, 7, 7] * 3 + [200, 10, 10] * 253)
    return picture


_LABEL = np.array([[0, 1, 2], [3, 20, 255]])


@pytest.mark.parametrize("run", [_eagerly, _in_graph])
@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(_LABEL.astype(np.uint8)),
        _palette_picture(_LABEL),
        Image.fromarray(_LABEL.astype(np.uint16)),
    ],
    ids=["gray", "palette", "16-bit"],
)
def test_label_is_the_index_whatever_the_colors(run, picture):
    label = run(decode_label, _bytes(picture))
    assert label.dtype == np.int32
    np.testing.assert_array_equal(label, _LABEL)


def test_one_bit_label_is_0_and_1():
    picture = Image.fromarray(np.array([[True, False]]))
    np.testing.assert_array_equal(decode_label(_bytes(picture)).numpy(), [[1, 0]])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colored_label_is_refused(mode):
    encoded = _bytes(Image.fromarray(_RGB).convert(mode))
    for run, error in ((_eagerly, ValueError), (_in_graph, tf.errors.InvalidArgumentError)):
        with pytest.raises(error, match=f"PNG of class indices.*it has mode {mode}"):
            run(decode_label, encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"text",
        _bytes(Image.fromarray(_RGB[:, :, 0]))[:-30],
        _bytes(Image.fromarray(_RGB[:, :, 0]), "JPEG"),
    ],
    ids=["empty", "text", "truncated", "JPEG"],
)
def test_damaged_label_is_refused(encoded):
    for run, error in ((_eagerly, ValueError), (_in_graph, tf.errors.InvalidArgumentError)):
        with pytest.raises(error, match="not a (readable )?picture"):
            run(decode_label, encoded)


@pytest.mark.parametrize("encoded", [b"", b"text", _bytes(Image.fromarray(_RGB), "JPEG")[:200]])
def test_damaged_image_is_refused(encoded):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        decode_image(encoded)
