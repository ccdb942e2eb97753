"""Results whose names try to break out of a page, and a reader of pages."""

import html.parser
from collections.abc import Callable

import numpy as np
import pytest

from deeplab_tf.evaluation.metrics import ConfusionMatrix, Counts
from deeplab_tf.evaluation.report import EvalResult
from deeplab_tf.evaluation.scores.boundary import boundary_counts
from deeplab_tf.evaluation.scores.comparison import Comparison
from deeplab_tf.evaluation.trimap import Trimap
from deeplab_tf.pages.comparison import comparison_page
from deeplab_tf.pages.evaluation import evaluation_page
from deeplab_tf.pages.examples import choose, shrunken
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.recipe.parts import Eval

EVIL = "<script>document.title='broken'</script>\"'&amp;</style>-->"
VOID_TAGS = {"meta", "link", "img", "input", "br"}


class Page(html.parser.HTMLParser):
    """What a page holds; fails where its tags do not match.

    Attributes:
      tags: (name, attributes) of each.
      text: all text outside of style and script.
      tables: rows of texts, of each table.
    """

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.tables, self._open = [], "", [], []
        self.feed(source)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID_TAGS:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open and self._open[-1] == tag, (tag, self._open)
        self._open.pop()

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data
            if {"td", "th"} & set(self._open):
                self.tables[-1][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def spec_of(num_classes: int) -> DatasetSpec:
    names = (EVIL, *(f"class {i}" for i in range(1, num_classes)))
    return DatasetSpec(
        name="things & <b>such</b>",
        class_names=names,
        ignore_label=-1 if num_classes > 200 else 255,
        palette=tuple(bit_palette(256)[i % 256] for i in range(num_classes)),
        splits={"val": 4},
    )


def drawn(spec: DatasetSpec, shape: tuple[int, int], seed: int, right: float):
    """Image, label with void, and a prediction, in blocks of 6 pixels."""
    random = np.random.default_rng(seed)
    height, width = shape
    blocks = random.integers(0, spec.num_classes, (2, height // 6 + 1, width // 6 + 1))
    label, other = (np.kron(each, np.ones((6, 6), int))[:height, :width] for each in blocks)
    label_map = np.where(random.random(shape) < right, label, other).astype(np.int32)
    label = label.copy()
    label[::7] = spec.ignore_label
    return random.integers(0, 256, (*shape, 3), np.uint8), label.astype(np.int32), label_map


class Scored:
    """A result of drawn images, and the images."""

    def __init__(self, num_classes=3, shapes=((40, 60),) * 4, seed=0, widths=(1, 3), right=0.8):
        self.spec = spec = spec_of(num_classes)
        confusion = ConfusionMatrix(num_classes, spec.ignore_label)
        trimap = Trimap(num_classes, spec.ignore_label, widths)
        self.images, counts, boundaries = [], [], []
        for i, shape in enumerate(shapes):
            image, label, _ = drawn(spec, shape, i, 1)
            # Later images are predicted better.
            _, _, label_map = drawn(spec, shape, i, right * (i + 1) / len(shapes) - 0.1 * seed)
            counts.append(Counts.of(confusion.update(label, label_map)))
            trimap.update(label, label_map)
            boundaries.append(boundary_counts(label, label_map, num_classes, spec.ignore_label))
            self.images.append((image, label, label_map))
        self.names = tuple(f"image {i} {EVIL}" for i in range(len(shapes)))
        self.result = EvalResult(
            spec=spec,
            options=Eval(trimap_widths=widths, boundary_iou=True),
            predict=None,
            matrix=confusion.matrix,
            num_examples=len(shapes),
            trimap=trimap.counts,
            names=self.names,
            images=Counts.stack(counts),
            boundaries=Counts.stack(boundaries),
        )

    def example(self, index: int, *others: "Scored"):
        image, label, label_map = self.images[index]
        label_maps = [label_map, *(other.images[index][2] for other in others)]
        return shrunken(self.names[index], image, label, label_maps)

    def page(self, number: int = 1) -> str:
        examples = {
            title: [(i, self.example(i)) for i in indices]
            for title, indices in choose(self.result.image_scores, number).items()
        }
        record = {"command": f"python evaluate.py --output={EVIL}", "date": "2026-11-22"}
        return evaluation_page(self.result, examples, record, {"model": EVIL})


@pytest.fixture(scope="session")
def scored() -> Callable[..., Scored]:
    return Scored


@pytest.fixture(scope="session")
def compared() -> Callable[..., str]:
    def page(number: int = 2, **options) -> str:
        one, other = Scored(**options), Scored(seed=1, **options)
        comparison = Comparison(names=(EVIL, "other"), results=(one.result, other.result))
        examples = [(i, one.example(i, other)) for i in comparison.image_ranking[:number]]
        return comparison_page(comparison, examples, {"date": "now"}, {EVIL: {}, "other": {}})

    return page


@pytest.fixture(scope="session")
def read_page() -> Callable[[str], Page]:
    return Page


@pytest.fixture(scope="session")
def evil() -> str:
    return EVIL
