"""One page with all overlays of a folder of predictions."""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Iterable, Mapping

import numpy as np

from deeplab_tf.pages.html import page, percent, swatch, text
from deeplab_tf.recipe.dataset_spec import DatasetSpec

_LISTED = 4  # ours: classes below an overlay; those that take up most of it


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictedImage:
    """A prediction whose files lie beside the page.

    Attributes:
      name: of the image, as a reader knows it.
      overlay_href: path of the overlay, relative to the page; not quoted.
      label_map_href: path of the file with the classes; None: there is none.
      shares: name of a class -> its share of the pixels, 0..1; classes that do not occur may be
        left out.
    """

    name: str
    overlay_href: str
    label_map_href: str | None
    shares: Mapping[str, float]


def predictions_page(title: str, items: Iterable[PredictedImage], spec: DatasetSpec) -> str:
    """A page with every overlay, a legend, and a filter by class.

    Pictures are loaded as they come into view, so that a page has room for 10,000.

    Args:
      title: text, not HTML.
      items: in the order in which they are shown.
      spec: the classes and their colors.

    Returns:
      HTML.

    Raises:
      ValueError: a share is of a class that `spec` does not have.
    """
    numbers = {name: i for i, name in enumerate(spec.class_names)}
    images_with = np.zeros(spec.num_classes, np.int64)
    cards = []
    for item in items:
        unknown = item.shares.keys() - numbers.keys()
        if unknown:
            raise ValueError(f"shares of {item.name} must be of classes; got {sorted(unknown)}.")
        shares = {numbers[name]: share for name, share in item.shares.items() if share > 0}
        ranked = sorted(shares, key=lambda i: -shares[i])
        images_with[ranked] += 1
        cards.append(_card(item, ranked, shares, spec))
    filters = [
        f'<button type="button" class="chip" aria-pressed="false" data-class="{i}"'
        f' data-name="{text(name)}">{swatch(spec.palette[i])}{text(name)}'
        f" <small>{images_with[i]:,}</small></button>"
        for i, name in enumerate(spec.class_names)
        if images_with[i]
    ]
    count = f"{len(cards):,} image{'' if len(cards) == 1 else 's'}"
    return page(
        title,
        [
            '<p class="muted">The classes, with the number of images that show each.<span'
            ' class="needs-scripts"> Choose one to see those images alone, the largest share first.'
            "</span></p>",
            f'<nav class="chips" id="class-filter" aria-label="Filter by class">{"".join(filters)}'
            "</nav>",
            f'<p id="filtered" role="status" data-all="{count}">{count}</p>',
            '<div class="cards" id="predictions">',
            *cards,
            "</div>",
        ],
        pictures_beside=True,
    )


def _card(
    item: PredictedImage, ranked: list[int], shares: Mapping[int, float], spec: DatasetSpec
) -> str:
    """An overlay with its name and its largest classes."""
    overlay, name = _address(item.overlay_href), text(item.name)
    of_classes = " ".join(f"{i}:{shares[i]:.4f}" for i in ranked)
    listed = "".join(
        f"<li>{swatch(spec.palette[i])}{text(spec.class_names[i])} {percent(shares[i])} %</li>"
        for i in ranked[:_LISTED]
    )
    label_map = ""
    if item.label_map_href is not None:
        label_map = f' <a href="{_address(item.label_map_href)}">classes</a>'
    return (
        f'<figure class="card" data-shares="{of_classes}"><a href="{overlay}">'
        f'<img src="{overlay}" alt="{name}" loading="lazy" decoding="async"></a>'
        f'<figcaption><strong>{name}</strong>{label_map} <span class="chosen" hidden></span>'
        f'<ul class="shares">{listed}</ul>'
        "</figcaption></figure>"
    )


def _address(path: str) -> str:
    """A relative path as an address: "#", "?", "%" and ":" are parts of a file's name here."""
    return text(f"./{urllib.parse.quote(path, errors='surrogateescape')}")
