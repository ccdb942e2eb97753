"""Top-1 and top-5 accuracy of a network that gives each image one class."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deeplab_tf.evaluation.metrics import Metric, check_options
from deeplab_tf.evaluation.predict import LARGEST_SIDE, checked_image, checked_images
from deeplab_tf.evaluation.report import one_class_alarm
from deeplab_tf.inference import copy_weights, inference_model
from deeplab_tf.recipe.lazy import keras, tf
from deeplab_tf.recipe.options import Options, option

if TYPE_CHECKING:
    from deeplab_tf.recipe.dataset_spec import DatasetSpec
    from deeplab_tf.recipe.parts import Eval

_BATCH = 32  # ours: images that the network sees at once in an evaluation
_RANKS = 5  # of top-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classify(Options):
    """One class for the whole image, of its middle (ImageNet)."""

    kind: ClassVar[str] = "classify"

    # paper: DeepLabv3+ Sec. 4.3
    size: int = option(
        299, "side of the square the network sees, pixels", minimum=1, maximum=LARGEST_SIDE
    )
    # code: slim's preprocessing for Inception; of each side, not of the area
    central_fraction: float = option(
        0.875, "share of height and width that is kept, in the middle", above=0, maximum=1
    )

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Name -> metric, of the scores of `evaluate`."""
        return ACCURACIES

    @property
    def output_stride(self) -> None:
        """The network runs at the output stride it was trained at."""
        return None

    def check(self, spec: DatasetSpec, options: Eval) -> None:
        """Checks that accuracy can be computed on a dataset.

        Raises:
          ValueError: the dataset has a class for each pixel, the best metric is no accuracy, a
            class is excluded, or a trimap is asked for.
        """
        check_options(options, spec.num_classes, self.metrics)
        if spec.ignore_label >= 0:
            raise ValueError(
                "--predict=classify needs a dataset with one class per image, such as"
                f" --dataset=image_classes; {spec.name} has one for each pixel."
            )
        if options.excluded_classes:
            raise ValueError(
                "eval.excluded_classes must be empty: accuracy counts every image;"
                f" got {options.excluded_classes}."
            )
        if options.trimap_widths:
            raise ValueError(
                "eval.trimap_widths must be empty: an image with one class has no boundaries;"
                f" got {options.trimap_widths}."
            )

    def predictor(self, model: keras.Model) -> Predictor:
        """A predictor with the model's weights as they are now.

        Raises:
          ValueError: the model gives a class to each pixel.
        """
        return Predictor(model, self)

    def export_model(self, model: keras.Model) -> keras.Model:
        """Refuses: an export gives a class to each pixel.

        Raises:
          ValueError: always.
        """
        raise ValueError(
            "a network with one class per image is not exported. Name its workdir in --init_weights"
            " to train a segmentation network from it, and export that one."
        )

    def evaluate(
        self,
        predictor: Predictor,
        examples: tf.data.Dataset,
        spec: DatasetSpec,
        options: Eval,
        *,
        progress: Callable[[int, int | None], None] | None = None,
        name_of: Callable[[int], str] | None = None,
    ) -> ClassifyResult:
        """Scores a predictor that these options made.

        Args:
          predictor: of `self.predictor`.
          examples: of {"image": uint8 [H, W, 3], "label": int32 [H, W], "name": string []},
            unbatched. A label has one class everywhere, void left out; an image whose label is all
            void does not count.
          spec: of the dataset; its classes are the predictor's.
          options: the split, which is only reported; no class may be excluded.
          progress: called after each example with (examples done, examples in all or None).
          name_of: index -> the name of an example that cannot be read; None: its number.

        Returns:
          The scores.

        Raises:
          ValueError: no example has a class, the predictor has not K outputs, `options` do not fit,
            an example cannot be read, or a label has several classes or a value that is not a
            class. The message names the example.
        """
        from deeplab_tf.evaluation.evaluate import each_example

        spec.check_outputs(predictor.num_classes)
        self.check(spec, options)
        cardinality = int(examples.cardinality())
        total = cardinality if cardinality >= 0 else None

        def prepared(example):
            valid = tf.boolean_mask(example["label"], example["label"] != spec.ignore_label)
            image = predictor.prepared(example["image"])
            return {"image": image, "classes": tf.unique(valid).y, "name": example["name"]}

        ranks = np.zeros((spec.num_classes, _RANKS + 1), np.int64)
        predicted = np.zeros(spec.num_classes, np.int64)
        images, classes, done = [], [], 0
        ahead = examples.map(prepared, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        for example in each_example(ahead.prefetch(tf.data.AUTOTUNE), name_of):
            found = example["classes"].numpy()
            if len(found):
                classes.append(_only_class(found, spec, example["name"].numpy().decode()))
                images.append(example["image"])
            if len(images) == _BATCH:
                _count(ranks, predicted, classes, predictor.logits(tf.stack(images)).numpy())
                images, classes = [], []
            done += 1
            if progress is not None:
                progress(done, total)
        if images:
            _count(ranks, predicted, classes, predictor.logits(tf.stack(images)).numpy())
        if not ranks.any():
            raise ValueError(
                f"{spec.name} must have examples with a class to evaluate; none of {done} has one."
                " A test split without labels can be predicted, but not evaluated."
            )
        return ClassifyResult(
            spec=spec,
            options=options,
            predict=self,
            ranks=ranks,
            predicted=predicted,
            num_examples=done,
        )


def _only_class(found: np.ndarray, spec: DatasetSpec, name: str) -> int:
    """The class of an image.

    Raises:
      ValueError: its label has several values, or one that is not a class.
    """
    if len(found) > 1:
        listed = ", ".join(map(str, np.sort(found)[:10]))
        raise ValueError(
            f"example {name!r}: the label of an image must have one class everywhere; it has"
            f" {listed}. To score a class for each pixel, use another --predict."
        )
    if not 0 <= found[0] < spec.num_classes:
        raise ValueError(
            f"example {name!r}: label values must be 0..{spec.num_classes - 1} or"
            f" {spec.ignore_label} (ignored); got {found[0]}."
        )
    return int(found[0])


def _count(
    ranks: np.ndarray, predicted: np.ndarray, classes: list[int], logits: np.ndarray
) -> None:
    """Adds images to the table of ranks and the predicted classes; logits float32 [N, K]."""
    # Equal logits keep the order of the classes, as in argmax. NaN comes last.
    order = np.argsort(-logits, axis=-1, kind="stable")
    rank = np.argmax(order == np.array(classes)[:, None], axis=-1)
    np.add.at(ranks, (classes, np.minimum(rank, _RANKS)), 1)
    np.add.at(predicted, order[:, 0], 1)


class Predictor:
    """A model behind one graph for images of every size.

    It has the weights as they were when it was made, until `update` reads them again.

    Attributes:
      num_classes: K, outputs of the model.
    """

    def __init__(self, model: keras.Model, options: Classify):
        """Traces nothing yet.

        Args:
          model: image [N, H, W, 3] RGB 0..255 -> logits [N, K].
          options: which part of an image the network sees.

        Raises:
          ValueError: the model gives a class to each pixel.
        """
        if len(model.output_shape) != 2:
            raise ValueError(
                "--predict=classify is for a network with one class per image, such as"
                f" --model=classifier; the outputs of this one have the shape {model.output_shape}."
            )
        self._trained = model
        self._network = network = inference_model(model)
        self._options = options
        self.num_classes = model.output_shape[-1]
        square = [None, options.size, options.size, 3]

        @tf.function(input_signature=[tf.TensorSpec(square, tf.float32)], autograph=False)
        def logits(images):
            return tf.cast(network(images, training=False), tf.float32)

        self.logits = logits  # float32 [N, size, size, 3], of `prepared` -> float32 [N, K]

    def update(self) -> None:
        """Reads the model's weights again, after they were trained on."""
        copy_weights(self._trained, self._network)

    def prepared(self, image: tf.Tensor) -> tf.Tensor:
        """The middle of an image, resized; [H, W, 3] 0..255 -> float32 [size, size, 3]."""
        size = self._options.size
        middle = tf.image.central_crop(image, self._options.central_fraction)
        # As in training: bilinear with align_corners.
        resized = tf.raw_ops.ResizeBilinear(
            images=tf.cast(middle, tf.float32)[None], size=[size, size], align_corners=True
        )
        return tf.ensure_shape(resized[0], [size, size, 3])

    def probabilities(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Class probabilities of one image.

        Args:
          image: [H, W, 3] RGB 0..255, any numeric type.

        Returns:
          float32 [K]; sums to 1.

        Raises:
          ValueError: the image is not [H, W, 3] with at least one pixel, or has floats in 0..1.
        """
        return tf.nn.softmax(self.logits(self.prepared(checked_image(image))[None])[0])

    def label_map(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """The most probable class, at every pixel; arguments and errors as in `probabilities`.

        Returns:
          int32 [H, W].
        """
        return self.predict(checked_image(image)[None])["label_map"][0]

    def predict(
        self, images: np.ndarray | tf.Tensor, *, probabilities: bool = False
    ) -> dict[str, tf.Tensor]:
        """Predictions of a batch, the same at every pixel of an image.

        Arguments and result are those of `whole_image.Predictor.predict`.
        """
        images = checked_images(images)
        logits = self.logits(tf.stack([self.prepared(image) for image in tf.unstack(images)]))
        scores, size = logits[:, None, None], images.shape[:3]
        best = tf.argmax(scores, axis=-1, output_type=tf.int32)
        outputs = {"label_map": tf.broadcast_to(best, size)}
        if probabilities:
            shape = [*size, self.num_classes]
            outputs["probabilities"] = tf.broadcast_to(tf.nn.softmax(scores), shape)
        return outputs


def top_1(ranks: np.ndarray, options: Eval) -> float:
    """Share of the images whose class has the largest logit; ranks as in `ClassifyResult`."""
    return float(ranks[:, 0].sum() / ranks.sum())


def top_5(ranks: np.ndarray, options: Eval) -> float:
    """Share of the images whose class has one of the five largest logits."""
    return float(ranks[:, :_RANKS].sum() / ranks.sum())


ACCURACIES: dict[str, Metric] = {
    "top_1": Metric("top-1 accuracy", top_1),
    "top_5": Metric("top-5 accuracy", top_5),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifyResult:
    """What an evaluation found. Scores are fractions; `text` prints percent.

    Attributes:
      spec: of the dataset.
      options: the split.
      predict: how the predictions were made.
      ranks: int64 [K, 6], images by class and by the number of larger logits; in the last column
        are those with five or more.
      predicted: int64 [K], images by the class that they are predicted to be.
      num_examples: number of images, those without a class included.
    """

    spec: DatasetSpec
    options: Eval
    predict: Classify
    ranks: np.ndarray
    predicted: np.ndarray
    num_examples: int

    @property
    def alarms(self) -> tuple[str, ...]:
        """What is wrong with these scores, a line each; most often there is none."""
        return one_class_alarm(
            self.ranks.sum(axis=1), self.predicted, self.spec.class_names, "images"
        )

    @property
    def scores(self) -> dict[str, float]:
        """Name -> value, of `ACCURACIES`."""
        return {name: row.compute(self.ranks, self.options) for name, row in ACCURACIES.items()}

    @property
    def all_scores(self) -> dict[str, float]:
        """`scores`; those of a thousand classes would be a thousand columns in a run's record."""
        return self.scores

    @property
    def class_scores(self) -> dict[str, np.ndarray]:
        """Name -> float64 [K]: the top-1 accuracy of each class's images, NaN if it has none."""
        images = self.ranks.sum(axis=1)
        values = np.full(len(images), np.nan)
        np.divide(self.ranks[:, 0], images, out=values, where=images > 0)
        return {"top_1": values}

    def text(self) -> str:
        """A table with one line per class, in percent, and the alarms."""
        titles = [row.title for row in ACCURACIES.values()]
        width = max(map(len, [*titles, *self.spec.class_names]))
        lines = [f"{'class':<{width}}  {'top-1 %':>7}  {'images':>10}"]
        accuracies = self.class_scores["top_1"]
        for i, name in enumerate(self.spec.class_names):
            images = self.ranks[i].sum()
            shown = f"{100 * accuracies[i]:.2f}" if images else "-"
            lines.append(f"{name:<{width}}  {shown:>7}  {images:>10,}")
        for title, score in zip(titles, self.scores.values(), strict=True):
            lines.append(f"{title:<{width}}  {100 * score:>7.2f}")
        lines.append(
            f"{self.num_examples} examples of {self.spec.name}, split {self.options.split}"
        )
        return "\n".join([*lines, *(f"warning: {alarm}" for alarm in self.alarms)])

    def to_json(self) -> str:
        """All of it as indented JSON; fractions, null for a class without images."""
        names, accuracies = self.spec.class_names, self.class_scores["top_1"]
        tree: dict[str, Any] = {
            "dataset": self.spec.name,
            "num_examples": self.num_examples,
            **self.scores,
            "alarms": self.alarms,
            "classes": {
                name: {
                    "top_1": float(accuracies[i]) if self.ranks[i].any() else None,
                    "images": int(self.ranks[i].sum()),
                }
                for i, name in enumerate(names)
            },
            "eval": dataclasses.asdict(self.options),
            "predict": {"kind": self.predict.kind, **dataclasses.asdict(self.predict)},
        }
        return json.dumps(tree, indent=2) + "\n"

    def to_csv(self) -> str:
        """One row per class: its images and their top-1 accuracy, a fraction; empty without any."""
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["class", "images", "top_1"])
        accuracies = self.class_scores["top_1"]
        for i, name in enumerate(self.spec.class_names):
            images = self.ranks[i].sum()
            writer.writerow([name, images, f"{accuracies[i]:.6f}" if images else ""])
        return table.getvalue()
