"""Which classes are taken for which: the confusion matrix, and what is confused most."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from deeplab_tf.pages.html import (
    ACCENT,
    WRONG,
    cell,
    data,
    embedded,
    percent,
    scrolled,
    section,
    table,
    text,
)

_READABLE = 25  # ours: classes up to which the matrix is a table with numbers
_LISTED = 20  # ours: of the most frequent confusions
_LEAST_SIDE = 600  # ours: of the picture, pixels


def confusion_section(matrix: np.ndarray, class_names: Sequence[str]) -> str:
    """The confusion matrix in shares of each label's pixels, and the most frequent confusions.

    Args:
      matrix: int64 [K, K]; row: label, column: prediction.
      class_names: K names.

    Returns:
      HTML: up to 25 classes a table with numbers, with more a picture that names the cell under
      the pointer.
    """
    pixels = matrix.sum(axis=1, keepdims=True)
    shares = np.full(matrix.shape, math.nan)
    np.divide(matrix, pixels, out=shares, where=pixels > 0)
    if len(class_names) <= _READABLE:
        shown = _matrix_table(matrix, shares, class_names)
    else:
        shown = _heat_map(shares, class_names)
    return section(
        "Confusion matrix",
        '<p class="muted">Rows are labels, columns are predictions. A cell is the share of the'
        " label's pixels that are predicted as the class of the column, in percent.</p>",
        shown,
        "<h3>Most frequent confusions</h3>",
        _confusions(matrix, shares, class_names),
    )


def _matrix_table(matrix: np.ndarray, shares: np.ndarray, class_names: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col">{text(name)}</th>' for name in class_names)
    rows = []
    for i, name in enumerate(class_names):
        cells = []
        for j, other in enumerate(class_names):
            share = shares[i, j]
            kind = "none" if math.isnan(share) else "right" if i == j else "other"
            what = f"{name} predicted as {other}: {matrix[i, j]:,} pixels"
            color = 0.0 if math.isnan(share) else share
            shown = f'style="--share:{color:.3f}" title="{text(what)}">{_short(share)}'
            cells.append(f'<td class="{kind}" {shown}</td>')
        rows.append(f'<tr><th scope="row">{text(name)}</th>{"".join(cells)}</tr>')
    return scrolled(
        f'<table class="confusion"><thead><tr><th>label \\ prediction</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>",
        "Confusion matrix",
    )


def _short(share: float) -> str:
    """A cell: nothing for no pixel, so that the eye finds what there is."""
    if math.isnan(share):
        return "–"
    if share == 0:
        return ""
    return "&lt;0.1" if share < 0.0005 else f"{100 * share:.1f}"


def _heat_map(shares: np.ndarray, class_names: Sequence[str]) -> str:
    """The matrix as a picture, transparent where the share is 0; its root shows small shares."""
    strength = np.rint(255 * np.sqrt(np.nan_to_num(shares))).astype(np.uint8)
    picture = np.zeros((*shares.shape, 4), np.uint8)
    picture[..., :3] = WRONG
    picture[range(len(shares)), range(len(shares)), :3] = ACCENT
    picture[..., 3] = strength
    side = math.ceil(_LEAST_SIDE / len(shares)) * len(shares)
    heat = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
    permille = [
        [None if math.isnan(share) else round(1000 * share) for share in row] for row in shares
    ]
    what = (
        f"Confusion matrix of {len(shares)} classes: rows are labels, columns are predictions, in"
        " the order of the table of classes. The stronger the color of a cell, the larger the share"
        " of the label's pixels; the diagonal is right. The table below lists the most frequent"
        " confusions."
    )
    return "\n".join(
        [
            f'<img class="heat" alt="{text(what)}" src="{embedded(heat)}">',
            '<p id="confusion-cell" role="status" class="muted needs-scripts">Point at a cell to'
            " read it.</p>",
            data("confusion-shares", {"names": list(class_names), "permille": permille}),
        ]
    )


def _confusions(matrix: np.ndarray, shares: np.ndarray, class_names: Sequence[str]) -> str:
    """The pairs of classes with the most wrong pixels."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    total = wrong.sum()
    if not total:
        return "<p>No pixel is wrong.</p>"
    order = np.argsort(-wrong, axis=None, kind="stable")[:_LISTED]
    rows = []
    for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[i, j]:
            of_all = float(wrong[i, j] / total)
            rows.append(
                [
                    cell(text(class_names[i])),
                    cell(text(class_names[j])),
                    cell(f"{wrong[i, j]:,}", float(wrong[i, j])),
                    cell(percent(shares[i, j]), float(shares[i, j])),
                    cell(percent(of_all), of_all),
                ]
            )
    headings = [
        ("label", "text"),
        ("predicted as", "text"),
        ("pixels", "number"),
        ("% of the label", "number"),
        ("% of all errors", "number"),
    ]
    return table(headings, rows, label="Most frequent confusions", sortable=True)
