"""Scores a model on a split, image by image at the images' own sizes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.data.pipeline import first_line
from deeplab_tf.evaluation.metrics import ConfusionMatrix, Counts, check_options
from deeplab_tf.evaluation.report import EvalResult
from deeplab_tf.evaluation.scores.boundary import boundary_counts
from deeplab_tf.evaluation.trimap import Trimap
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.messages import shown
from deeplab_tf.recipe.parts import Eval, Predict, Predictor


def evaluate(
    model: keras.Model | Predictor,
    examples: tf.data.Dataset,
    spec: DatasetSpec,
    options: Eval,
    *,
    predict: Predict | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    name_of: Callable[[int], str] | None = None,
) -> EvalResult:
    """Scores a model.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K] at the image's size; or a
        predictor, such as `WholeImage().predictor(model)`, which is traced once for several
        evaluations.
      examples: of {"image": uint8 [H, W, 3], "label": int32 [H, W], "name": string []}, unbatched.
      spec: of the dataset; K is its number of classes.
      options: which classes count, and whether bands around void and the pixels near contours are
        scored too. The split is only reported.
      predict: how a model predicts; None: `WholeImage()`. For a predictor it must be None.
      progress: called after each example with (examples done, examples in all or None).
      name_of: index -> the name of an example that cannot be read; None: its number.

    Returns:
      The scores.

    Raises:
      ValueError: there are no examples, or none with a labeled pixel; the model has not K outputs;
        `options` do not fit K classes; an example cannot be read; or a label is of another size
        than its image or has a value that is not a class. The message names the example.
    """
    if isinstance(model, keras.Model):
        predict = predict or WholeImage()
        predictor = predict.predictor(model)
    elif predict is None:
        predictor = model
    else:
        raise ValueError("predict must be None for a predictor, which has its own options.")
    spec.check_outputs(predictor.num_classes)
    check_options(options, spec.num_classes)
    confusion = ConfusionMatrix(spec.num_classes, spec.ignore_label)
    trimap = Trimap(spec.num_classes, spec.ignore_label, options.trimap_widths)
    cardinality = int(examples.cardinality())
    total = cardinality if cardinality >= 0 else None
    names: list[str] = []
    images: list[Counts] = []
    boundaries: list[Counts] = []
    for example in each_example(examples, name_of):
        name = example["name"].numpy().decode()
        try:
            label = np.asarray(example["label"])
            label_map = np.asarray(predictor.label_map(example["image"]))
            images.append(Counts.of(confusion.update(label, label_map)))
            trimap.update(label, label_map)
        except ValueError as error:
            raise ValueError(f"example {name!r}: {error}") from error
        if options.boundary_iou:
            size = spec.num_classes, spec.ignore_label
            boundaries.append(boundary_counts(label, label_map, *size))
        names.append(name)
        if progress is not None:
            progress(len(names), total)
    if not names:
        raise ValueError(f"{spec.name} must have at least one example to evaluate; got none.")
    if not confusion.matrix.any():
        raise ValueError(
            f"labels of {spec.name} must have classes; all pixels of {len(names)} examples are"
            " void. A test split without labels can be predicted, but not evaluated."
        )
    return EvalResult(
        spec=spec,
        options=options,
        predict=predict,
        matrix=confusion.matrix,
        num_examples=len(names),
        trimap=trimap.counts,
        names=tuple(names),
        images=Counts.stack(images),
        boundaries=Counts.stack(boundaries) if boundaries else None,
    )


class Renumbered:
    """A predictor of a dataset's classes, made from one that knows some of them.

    Classes that the network was not trained on are never predicted. Where it was trained on the 59
    classes of `pascal_context` and is scored on `pascal_context60`, this is background: its IoU is
    0, and its pixels are false positives of the 59. So with B_c background pixels predicted as c,

        mean IoU of 60 = 1/60 * sum over the 59 of TP_c / (union_c + B_c),

    which is at most the mean IoU of 59 x 59/60, the "mean IoU of 60 classes, background as 0" that
    FastFCN states (`metrics.mean_iou_background_as_0`). The two are equal where background is not
    counted. Absent classes count as 0 here, as in FastFCN's code.

    Attributes:
      num_classes: K, classes of the dataset.
    """

    def __init__(self, predictor: Predictor, classes: Sequence[int], num_classes: int):
        """Wraps a predictor.

        Args:
          predictor: of the network.
          classes: the dataset's class of each of the network's.
          num_classes: K.

        Raises:
          ValueError: there is not one class for each output of the network, 0..K-1.
        """
        if len(classes) != predictor.num_classes or not all(0 <= c < num_classes for c in classes):
            raise ValueError(
                f"classes must be {predictor.num_classes}, one for each output of the network, of"
                f" 0..{num_classes - 1}; got {shown(tuple(classes))}."
            )
        self.num_classes = num_classes
        self._predictor = predictor
        self._classes = np.array(classes, np.int32)

    def label_map(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """[H, W, 3] RGB 0..255 -> int32 [H, W], classes of the dataset."""
        return tf.gather(self._classes, self._predictor.label_map(image))

    def update(self) -> None:
        """Reads the weights of the network again, after they were trained on."""
        self._predictor.update()


def each_example(
    examples: tf.data.Dataset, name_of: Callable[[int], str] | None
) -> Iterator[Mapping[str, tf.Tensor]]:
    """The elements of a dataset, one for each example of a split.

    Raises:
      ValueError: an example cannot be read; the message names it.
    """
    iterator = iter(examples)
    for index in itertools.count():
        try:
            example = next(iterator)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            what = f"example {index + 1}" if name_of is None else name_of(index)
            raise ValueError(f"{what} cannot be read: {first_line(error)}") from error
        yield example
