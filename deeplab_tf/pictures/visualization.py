"""Pictures of label maps, with numpy and Pillow alone."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deeplab_tf.recipe.dataset_spec import Color
from deeplab_tf.recipe.files import write_bytes

VOID_COLOR: Color = (224, 224, 224)
_STRIP_SIDE = 480  # ours: longer side of each picture of a strip, in pixels
_SEPARATOR = 4  # pixels between the pictures of a strip
_TITLES = ("image", "label", "prediction")  # of the pictures of a strip


def colorize(
    label_map: np.ndarray, palette: Sequence[Color], ignore_label: int | None = None
) -> np.ndarray:
    """Paints each class in its color, void in light gray.

    Args:
      label_map: int [H, W].
      palette: one color per class, RGB 0..255.
      ignore_label: value of void; None: there is none.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: a value is neither a class nor void.
    """
    label_map = np.asarray(label_map)
    void = np.zeros(label_map.shape, bool) if ignore_label is None else label_map == ignore_label
    _check_classes(label_map[~void], len(palette))
    colors = np.asarray([*palette, VOID_COLOR], np.uint8)
    return colors[np.where(void, len(palette), label_map)]


def overlay(
    image: np.ndarray,
    label_map: np.ndarray,
    palette: Sequence[Color],
    alpha: float = 0.5,
    ignore_label: int | None = None,
) -> np.ndarray:
    """Lays the colors of the classes over the image and draws the boundaries between them.

    Args:
      image: uint8 [H, W, 3] RGB.
      label_map: int [H, W].
      palette: one color per class, RGB 0..255.
      alpha: weight of the colors; 0 leaves the image, 1 hides it.
      ignore_label: value of void, where the image stays as it is; None: there is none.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: sizes differ, alpha is not in 0..1, or a value is neither a class nor void.
    """
    image, label_map = np.asarray(image), np.asarray(label_map)
    _check_size(image, label_map)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in 0..1; got {alpha}.")
    colors = colorize(label_map, palette, ignore_label)
    mixed = np.rint((1 - alpha) * image + alpha * colors.astype(np.float32)).astype(np.uint8)
    if ignore_label is not None:
        void = label_map == ignore_label
        mixed[void] = image[void]
    mixed[_boundary(label_map)] = 255
    return mixed


def strip(
    image: np.ndarray,
    label: np.ndarray,
    label_map: np.ndarray,
    palette: Sequence[Color],
    ignore_label: int | None = None,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Image, label and prediction side by side, below their titles.

    Args:
      image: uint8 [H, W, 3] RGB.
      label: int [H, W].
      label_map: int [H, W].
      palette: one color per class, RGB 0..255.
      ignore_label: value of void; None: there is none.
      class_names: one per color, for a legend of what the label and the prediction show; None: no
        legend.

    Returns:
      uint8 [h, w, 3]; the longer side of each of the three is 480 pixels, whatever the image's.

    Raises:
      ValueError: sizes differ, or a value is neither a class nor void.
    """
    image, label, label_map = np.asarray(image, np.uint8), np.asarray(label), np.asarray(label_map)
    _check_size(image, label)
    _check_size(image, label_map)
    painted = (colorize(values, palette, ignore_label) for values in (label, label_map))
    scale = _STRIP_SIDE / max(label.shape)
    height, width = (max(1, round(scale * side)) for side in label.shape)
    # Interpolation would mix the colors of classes.
    filters = (Image.Resampling.BOX, Image.Resampling.NEAREST, Image.Resampling.NEAREST)
    font, header = ImageFont.load_default(size=14), 22
    strip = Image.new("RGB", (3 * width + 2 * _SEPARATOR, header + height), "white")
    for i, picture in enumerate((image, *painted)):
        left = i * (width + _SEPARATOR)
        strip.paste(Image.fromarray(picture).resize((width, height), filters[i]), (left, header))
        ImageDraw.Draw(strip).text((left, header / 2), _TITLES[i], "black", font, anchor="lm")
    if class_names is None:
        return np.asarray(strip)
    values = np.union1d(label, label_map)
    shown = [(class_names[c], palette[c]) for c in values if c != ignore_label]
    if ignore_label in values:
        shown.append(("void", VOID_COLOR))
    return _side_by_side(np.asarray(strip), legend(*zip(*shown, strict=True)))


def legend(class_names: Sequence[str], palette: Sequence[Color]) -> np.ndarray:
    """A column of color swatches with the names of the classes; uint8 [H, W, 3].

    Raises:
      ValueError: there is not one color per name.
    """
    if len(class_names) != len(palette):
        raise ValueError(
            f"palette must have one color per class ({len(class_names)}); got {len(palette)}."
        )
    font, row, margin = ImageFont.load_default(size=14), 20, 6
    width = int(max(map(font.getlength, class_names), default=0)) + row + 3 * margin
    picture = Image.new("RGB", (width, row * len(class_names) + 2 * margin), "white")
    draw = ImageDraw.Draw(picture)
    for i, (name, color) in enumerate(zip(class_names, palette, strict=True)):
        top = margin + row * i
        box = (margin, top + 2, margin + row, top + row - 2)
        draw.rectangle(box, fill=tuple(color), outline="grey")
        draw.text((2 * margin + row, top + row / 2), name, "black", font, anchor="lm")
    return np.asarray(picture)


def save_label_map(path: str, label_map: np.ndarray, palette: Sequence[Color]) -> None:
    """Writes a PNG whose pixel values are the classes.

    With up to 256 classes it has a palette and looks like `colorize`; with more it is 16-bit gray.

    Args:
      path: of the PNG.
      label_map: int [H, W].
      palette: one color per class, RGB 0..255.

    Raises:
      ValueError: a value is not a class.
      OSError: the file cannot be written.
    """
    label_map = np.asarray(label_map)
    _check_classes(label_map, len(palette))
    if len(palette) > 256:
        picture = Image.fromarray(label_map.astype(np.uint16))
    else:
        picture = Image.fromarray(label_map.astype(np.uint8))
        picture.putpalette([channel for color in palette for channel in color])
    write_bytes(path, _png(picture))


def save_picture(path: str, picture: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] RGB as a PNG.

    Raises:
      OSError: the file cannot be written.
    """
    write_bytes(path, encode_png(picture))


def encode_png(picture: np.ndarray) -> bytes:
    """uint8 [H, W, 3] RGB as the bytes of a PNG."""
    return _png(Image.fromarray(picture))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _side_by_side(*pictures: np.ndarray) -> np.ndarray:
    """Joins uint8 [H, W, 3] pictures, with white below those that are less high."""
    height = max(len(picture) for picture in pictures)
    pads = [((0, height - len(picture)), (0, 0), (0, 0)) for picture in pictures]
    padded = [np.pad(p, pad, constant_values=255) for p, pad in zip(pictures, pads, strict=True)]
    return np.concatenate(padded, axis=1)


def _boundary(label_map: np.ndarray) -> np.ndarray:
    """Whether the pixel below or to the right is of another class; bool [H, W]."""
    boundary = np.zeros(label_map.shape, bool)
    boundary[:-1] |= label_map[:-1] != label_map[1:]
    boundary[:, :-1] |= label_map[:, :-1] != label_map[:, 1:]
    return boundary


def _check_size(image: np.ndarray, label_map: np.ndarray) -> None:
    if image.shape != (*label_map.shape, 3):
        raise ValueError(
            "image must be [H, W, 3] and its label map [H, W];"
            f" got {image.shape} and {label_map.shape}."
        )


def _check_classes(values: np.ndarray, num_classes: int) -> None:
    wrong = values[(values < 0) | (values >= num_classes)]
    if wrong.size:
        raise ValueError(
            f"values must be the palette's classes 0..{num_classes - 1};"
            f" got {', '.join(map(str, np.unique(wrong)[:10]))}."
        )
