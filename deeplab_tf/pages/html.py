"""What all pages share: escaping, the skeleton, tables and embedded pictures.

A page is one file. It loads nothing from a network, and its content security policy has the
browser refuse to: `page.css` and `page.js` are written into it, pictures are embedded or lie beside
it. Without scripts the scores and the images with one layer can be read; what needs scripts is
hidden or, as the headings that sort, text alone, and the page says so.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from PIL import Image

from deeplab_tf.recipe.dataset_spec import Color

# ours: --accent and --wrong of page.css, told apart by people who do not see all colors
ACCENT: Color = (31, 95, 191)
WRONG: Color = (213, 94, 0)

Column = Literal["text", "number", "bar-column"]  # what a column has; classes in page.css
_WITHOUT_SCRIPTS = (
    "Scripts are off in this browser: tables cannot be sorted, images show one layer, and nothing"
    " can be chosen or pointed at."
)
_MOST_ROWS = 50  # ours: of a table that is shown as a whole


def text(value: object) -> str:
    """A value as text in HTML, in attributes too. Bytes that are not text are in hex."""
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode())


def page(title: str, body: Iterable[str], *, pictures_beside: bool = False) -> str:
    """A whole page.

    Args:
      title: text, not HTML.
      body: parts in HTML, in order.
      pictures_beside: whether the page shows files beside it; false: embedded pictures alone.

    Returns:
      HTML.
    """
    script = _own_file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    pictures = "data: 'self' file:" if pictures_beside else "data:"
    # Inline styles place bars and pictures. No other script than ours runs, whatever a name holds.
    policy = (
        f"default-src 'none'; img-src {pictures}; style-src 'unsafe-inline';"
        f" script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>{text(title)}</title>",
            f"<style>{_own_file('page.css')}</style>",
            "</head>",
            "<body>",
            f"<header><h1>{text(title)}</h1></header>",
            f'<noscript><p class="warning">{_WITHOUT_SCRIPTS}</p></noscript>',
            "<main>",
            *body,
            "</main>",
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _own_file(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


def section(title: str, *parts: str) -> str:
    """A part of the page under its heading; `title` is text, `parts` are HTML."""
    return "\n".join(["<section>", f"<h2>{text(title)}</h2>", *parts, "</section>"])


def data(name: str, tree: Any) -> str:
    """A JSON value for the page's script, by name."""
    # "</script>" and "<!--" end or change a script wherever they stand.
    plain = json.dumps(tree, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{text(name)}">{plain}</script>'


def scrolled(inside: str, label: str, *, tall: bool = False) -> str:
    """A box that scrolls if what is inside is wider than the page.

    Args:
      inside: HTML.
      label: name of the box for those who hear the page, text.
      tall: whether it also scrolls if what is inside is higher than the window.

    Returns:
      HTML.
    """
    name = "scroll tall" if tall else "scroll"
    return (
        f'<div class="{name}" tabindex="0" role="region" aria-label="{text(label)}">{inside}</div>'
    )


def swatch(color: Color) -> str:
    """A small square of a color."""
    return f'<span class="swatch" style="background:rgb({color[0]},{color[1]},{color[2]})"></span>'


def embedded(picture: Image.Image, *, quality: int | None = None) -> str:
    """A picture as the source of an `img`.

    Args:
      picture: to embed.
      quality: of JPEG, 1..95; None: PNG, which loses nothing.

    Returns:
      A `data:` address.
    """
    buffer = io.BytesIO()
    if quality is None:
        picture.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def table(
    headings: Sequence[tuple[str, Column]],
    rows: Iterable[Sequence[str]],
    *,
    label: str,
    sortable: bool = False,
) -> str:
    """A table, which scrolls in its own box if it is wider than the page or has many rows.

    Args:
      headings: (text, what the column has) of each column.
      rows: cells, made by `cell`.
      label: name of the table for those who hear the page, text.
      sortable: whether a click on a heading sorts the rows by it.

    Returns:
      HTML.
    """
    head = []
    for title, column in headings:
        shown = f'<button type="button">{text(title)}</button>' if sortable else text(title)
        head.append(f'<th scope="col" class="{column}">{shown}</th>')
    name = "sortable" if sortable else "plain"
    rows = list(rows)
    inside = [
        f'<table class="{name}">',
        f"<thead><tr>{''.join(head)}</tr></thead><tbody>",
        *(f"<tr>{''.join(cells)}</tr>" for cells in rows),
        "</tbody></table>",
    ]
    return scrolled("\n".join(inside), label, tall=len(rows) > _MOST_ROWS)


def cell(content: str, value: float | None = None, column: Column = "number") -> str:
    """A cell of a table.

    Args:
      content: HTML.
      value: number that the column is sorted by, NaN if there is none; None: by the text.
      column: what it has besides the number.

    Returns:
      HTML.
    """
    if value is None:
        return f"<td>{content}</td>"
    # Rows without a value come last, however the table is sorted.
    number = "" if math.isnan(value) else f"{value:.15g}"  # a count of pixels, to the last one
    return f'<td class="{column}" data-value="{number}">{content}</td>'


def percent(fraction: float, *, signed: bool = False) -> str:
    """A fraction in percent, "–" if it is NaN.

    A signed one is a difference, which is small: it has the sign of what is shown, and two decimals
    instead of one.
    """
    if math.isnan(fraction):
        return "–"
    decimals = 2 if signed else 1
    rounded = round(100 * fraction, decimals) + 0.0  # not -0.0
    sign = "+" if signed and rounded > 0 else "\N{MINUS SIGN}" if rounded < 0 else ""
    return f"{sign}{abs(rounded):.{decimals}f}"
