"""Images with their label and predictions as layers that a reader switches between."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from deeplab_tf.pages.html import ACCENT, WRONG, data, embedded, section, swatch, text
from deeplab_tf.pictures.visualization import VOID_COLOR
from deeplab_tf.recipe.dataset_spec import Color, DatasetSpec

_SIDE = 640  # ours: longer side of an embedded picture, pixels
_QUALITY = 82  # ours: of JPEG
_MOST_OPEN = 30  # ours: entries of a legend that is open at first
FIRST_RIGHT, SECOND_RIGHT = ACCENT, WRONG
# ours: stripes, since one color may be that of a class; .striped in page.css shows the same
BOTH_WRONG: tuple[Color, Color] = ((0, 0, 0), (255, 255, 255))
_STRIPE = 4  # ours: width of a stripe, along a row, pixels


@dataclasses.dataclass(frozen=True)
class Example:
    """An image in the size in which it is shown.

    Attributes:
      name: of the image.
      size: its own height and width, pixels.
      image: uint8 [h, w, 3] RGB.
      label: int32 [h, w].
      label_maps: int32 [h, w], of one model or two.
    """

    name: str
    size: tuple[int, int]
    image: np.ndarray
    label: np.ndarray
    label_maps: tuple[np.ndarray, ...]


def shrunken(
    name: str, image: np.ndarray, label: np.ndarray, label_maps: Sequence[np.ndarray]
) -> Example:
    """An example in the size in which it is shown, so that large images do not add up.

    Args:
      name: of the image.
      image: uint8 [H, W, 3] RGB.
      label: int [H, W].
      label_maps: int [H, W], of one model or two.
    """
    height, width = label.shape
    scale = min(1.0, _SIDE / max(height, width))
    h, w = (max(1, round(scale * side)) for side in (height, width))
    # The same pixel of the label and of each prediction: a mixture of classes is no class.
    rows = (np.arange(h) * 2 + 1) * height // (2 * h)
    columns = (np.arange(w) * 2 + 1) * width // (2 * w)
    small, *smalls = (
        np.asarray(classes, np.int32)[np.ix_(rows, columns)] for classes in (label, *label_maps)
    )
    resized = Image.fromarray(image).resize((w, h), Image.Resampling.BOX)
    return Example(name, (height, width), np.asarray(resized), small, tuple(smalls))


def choose(scores: np.ndarray, number: int) -> dict[str, list[int]]:
    """The best, the median and the worst images.

    Args:
      scores: float64 [N]; images whose score is NaN are not chosen.
      number: of each.

    Returns:
      Title of a group -> indices in the order that the title says. One group if the images are so
      few that all are in.
    """
    known = np.flatnonzero(~np.isnan(scores))
    ranked = known[np.argsort(-scores[known], kind="stable")].tolist()
    if number == 0 or not ranked:
        return {}
    if len(ranked) <= 3 * number:
        return {"All images, the best first": ranked}
    middle = (len(ranked) - number) // 2
    return {
        "Best images, the best first": ranked[:number],
        "Median images, the best first": ranked[middle : middle + number],
        "Worst images, the worst first": ranked[-number:][::-1],
    }


def examples_section(
    title: str,
    groups: Mapping[str, Iterable[tuple[Example, str]]],
    spec: DatasetSpec,
    names: Sequence[str],
    *notes: str,
) -> str:
    """Groups of images, the legend, and how strongly the layers cover the images.

    Args:
      title: of the section.
      groups: title -> (example, its caption in HTML), in order.
      spec: the classes and their colors.
      names: of the predictions, one for each of an example's label maps.
      notes: HTML that comes first.

    Returns:
      HTML.
    """
    parts, seen = [], set()
    for heading, group in groups.items():
        parts.append(f"<h3>{text(heading)}</h3>")
        parts.append('<div class="examples">')
        for example, caption in group:
            parts.append(_figure(example, caption, spec, names))
            seen.update(*map(np.unique, (example.label, *example.label_maps)))
        parts.append("</div>")
    legend = [
        f"<span>{swatch(spec.palette[i])}{text(spec.class_names[i])}</span>"
        for i in sorted(seen)
        if i != spec.ignore_label
    ]
    if len(names) == 1:
        legend.append(f"<span>{swatch(WRONG)}wrong, in Errors</span>")
    else:
        one, other = names
        for square, what in (
            (swatch(FIRST_RIGHT), f"{one} alone is right"),
            (swatch(SECOND_RIGHT), f"{other} alone is right"),
            ('<span class="swatch striped"></span>', "both are wrong, in different ways"),
        ):
            legend.append(f"<span>{square}{text(what)}, in Differences</span>")
    return section(
        title,
        *notes,
        '<p class="muted needs-scripts">The buttons choose what lies over an image; so do the arrow'
        " keys once it has the focus. Point at it or touch it to read the classes there. Hold it,"
        " or hold the space bar, to see the image alone.</p>",
        '<p class="muted">Void has no color.</p>',
        _legend(legend),
        '<div class="controls"><label>Strength of the colors <input type="range" id="opacity"'
        ' min="0" max="100" value="65"></label></div>',
        *parts,
        data("classes-of-color", _classes_of_color(spec)),
    )


def _legend(entries: Sequence[str]) -> str:
    """The legend, which opens on a click if it is long."""
    listed = f'<p class="chips">{"".join(entries)}</p>'
    if len(entries) <= _MOST_OPEN:
        return listed
    return f"<details><summary>Legend, {len(entries)} colors</summary>{listed}</details>"


def _classes_of_color(spec: DatasetSpec) -> dict[str, str]:
    """Color "r,g,b" -> its class, or its classes where the palette repeats itself."""
    found: dict[str, list[str]] = {}
    for name, color in zip(spec.class_names, spec.palette, strict=True):
        found.setdefault(",".join(map(str, color)), []).append(name)
    return {color: " or ".join(names) for color, names in found.items()}


def _figure(example: Example, caption: str, spec: DatasetSpec, names: Sequence[str]) -> str:
    """An image, its layers and their buttons; the last prediction is shown at first."""
    height, width = example.label.shape
    layers = [("label", "Label", _painted(example.label, spec), "label")]
    for i, (name, classes) in enumerate(zip(names, example.label_maps, strict=True)):
        layers.append((f"prediction-{i}", name, _painted(classes, spec), name))
    if len(names) == 1:
        layers.append(("errors", "Errors", _errors(example, spec), ""))
    else:
        layers.append(("errors", "Differences", _differences(example, spec), ""))
    shown = "prediction-0" if len(names) == 1 else "errors"
    pictures = []
    for key, _, picture, reads in layers:
        state = (" solid" if key == "errors" else "") + (" on" if key == shown else "")
        reading = f' data-reads="{text(reads)}"' if reads else ""
        pictures.append(
            f'<img class="layer{state}" data-layer="{key}"{reading} alt=""'
            f' src="{embedded(picture)}">'
        )
    buttons = "".join(
        f'<button type="button" data-layer="{key}" aria-pressed="{str(key == shown).lower()}">'
        f"{text(title)}</button>"
        for key, title in [("image", "Image"), *((key, title) for key, title, *_ in layers)]
    )
    image = embedded(Image.fromarray(example.image), quality=_QUALITY)
    what = f"{example.name}; the arrow keys choose the layer"
    return (
        '<figure class="example">'
        f'<div class="stack" tabindex="0" role="group" aria-label="{text(what)}" style="'
        f'aspect-ratio:{width}/{height};width:min(100%,calc(75vh * {width} / {height}))">'
        f'<img alt="{text(example.name)}" src="{image}">{"".join(pictures)}</div>'
        f'<div class="layers">{buttons}</div><output></output>'
        f"<figcaption><strong>{text(example.name)}</strong> <small>{example.size[1]}"
        f"×{example.size[0]}</small><br>{caption}</figcaption></figure>"
    )


def _painted(classes: np.ndarray, spec: DatasetSpec) -> Image.Image:
    """The classes in their colors, void transparent."""
    colors = {i: (*spec.palette[i], 255) for i in np.unique(classes) if i != spec.ignore_label}
    return _picture(classes, {**colors, spec.ignore_label: (*VOID_COLOR, 0)})


def _errors(example: Example, spec: DatasetSpec) -> Image.Image:
    """What is predicted as another class than its label's."""
    wrong = (example.label_maps[0] != example.label) & (example.label != spec.ignore_label)
    return _picture(wrong.astype(np.int32), {0: (0, 0, 0, 0), 1: (*WRONG, 255)})


def _differences(example: Example, spec: DatasetSpec) -> Image.Image:
    """Where two models differ, and which of them is right."""
    one, other = example.label_maps
    which = np.where(one == example.label, 1, np.where(other == example.label, 2, 3))
    rows, columns = np.indices(which.shape)
    which[(which == 3) & ((rows + columns) // _STRIPE % 2 == 1)] = 4
    which[(one == other) | (example.label == spec.ignore_label)] = 0
    colors = (FIRST_RIGHT, SECOND_RIGHT, *BOTH_WRONG)
    opaque = {i: (*color, 255) for i, color in enumerate(colors, start=1)}
    return _picture(which, {0: (0, 0, 0, 0), **opaque})


def _picture(values: np.ndarray, colors: Mapping[int, tuple[int, int, int, int]]) -> Image.Image:
    """Each value in its color, as a PNG with a palette where that has room for all."""
    found, indices = np.unique(values, return_inverse=True)
    indices = indices.reshape(values.shape)
    table = np.array([colors[value] for value in found.tolist()], np.uint8)
    if len(found) > 256:
        return Image.fromarray(table[indices])
    picture = Image.fromarray(indices.astype(np.uint8))
    picture.putpalette(table.ravel().tolist(), "RGBA")
    return picture
