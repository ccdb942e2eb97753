"""Batches of examples, in an order that is reproducible from any step.

Element k of the endless training stream is example index_shuffle(k mod N) of pass k div N,
augmented with the seed (seed, k). A batch is thus a function of (seed, step, N) alone, whatever the
number of workers, replicas and restarts, and shuffling needs no memory.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from deeplab_tf.data.augment import ADDED_LABEL, compose
from deeplab_tf.recipe.dataset_spec import ExampleSource
from deeplab_tf.recipe.parts import Augmentation

# What surrounds the message of an error from a graph.
_TENSORFLOWS_OWN = re.compile(
    r"\{\{.*?\}\}|\[Op:\w+\]( name: *)?|Error in user-defined function.*?Iterator::\S+: "
)
_ATTEMPTS = 10  # ours: examples tried for one element; if all are bad, most of the dataset is
_STAND_IN = 1 << 16  # ours: far from the augmentations' seeds
_MOST_READERS = 8  # ours: images that are read at once for predictions; each may take 100 MB
_READ_AHEAD = 64  # ours: batches; prefetching is never that far ahead of the step that failed
_MOST_SKIPPED = 50  # ours: examples listed before the number of all others


def _example_index(element: tf.Tensor, seed: int, num_examples: int) -> tf.Tensor:
    """The index of the example that is element k of the stream; int64 scalars."""
    if num_examples == 1:
        return tf.zeros_like(element)
    epoch = element // num_examples
    return tf.random.experimental.index_shuffle(
        element % num_examples,
        seed=tf.stack([tf.constant(seed, tf.int64), epoch]),
        max_index=tf.constant(num_examples - 1, tf.int64),
    )


def batch_indices(num_examples: int, batch_size: int, *, seed: int, step: int) -> np.ndarray:
    """The examples of batch `step`; int64 [batch_size]."""
    elements = range(step * batch_size, (step + 1) * batch_size)
    return np.array(
        [
            int(_example_index(tf.constant(element, tf.int64), seed, num_examples))
            for element in elements
        ]
    )


@functools.cache
def check_one_size(augment: tuple[Augmentation, ...]) -> tuple[int, int]:
    """Checks that augmentations bring images of any size to one size.

    Returns:
      Its height and width, pixels.

    Raises:
      ValueError: they do not.
    """
    image = tf.TensorSpec([None, None, 3], tf.uint8)
    label, seed = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([2], tf.int64)
    augmented = tf.function(compose(augment), autograph=False)
    traced = augmented.get_concrete_function(image, label, seed)
    _check_defined([output.shape for output in traced.outputs], augment)
    height, width, _ = traced.outputs[0].shape
    return height, width


def _check_defined(shapes: Sequence[tf.TensorShape], augment: Sequence[Augmentation]) -> None:
    if not all(shape.is_fully_defined() for shape in shapes):
        raise ValueError(
            "--augment must bring all images to one size: it needs random_crop or center_crop, and"
            " nothing after it that changes sizes;"
            f" got {','.join(a.kind for a in augment) or 'nothing'}."
        )


@tf.autograph.experimental.do_not_convert  # takes seconds, and nothing here needs it
def train_batches(
    source: ExampleSource,
    augment: Sequence[Augmentation],
    *,
    batch_size: int,
    ignore_label: int,
    num_classes: int,
    seed: int,
    start_step: int = 0,
    on_bad_example: Literal["fail", "skip"] = "fail",
    part: tf.distribute.InputContext | None = None,
    skipped: set[int] | None = None,
) -> tf.data.Dataset:
    """The endless stream of training batches, or one worker's part of it.

    Args:
      source: examples of the training split.
      augment: augmentations, in their order; they bring all images to one size.
      batch_size: global batch size, over all replicas.
      ignore_label: label value of void; pixels that the augmentations add get it too.
      num_classes: number of classes, background counted, void not.
      seed: seed of order and augmentation.
      start_step: step of the first batch.
      on_bad_example: "fail" to raise an error for an example that cannot be read, "skip" to take
        another one in its place.
      part: read only this worker's share of each batch, one replica's share at a time. The shares
        of all replicas are the batch of one. None: whole batches.
      skipped: with "skip", the indices of the examples that were replaced are added to it.

    Returns:
      Dataset of {"image": float32 [B, H, W, 3] 0..255, "label": int32 [B, H, W]}.

    Raises:
      ValueError: the split is empty, or the images come out in different sizes.
    """
    if not len(source):
        raise ValueError("the training split must have at least one example; it has none.")
    transform = compose(augment)

    def read(index: tf.Tensor) -> dict[str, tf.Tensor]:
        read = source.read(index)
        return {"image": read["image"], "label": _checked(read, num_classes, ignore_label)}

    def augmented(element: tf.Tensor, example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        element_seed = tf.stack([tf.constant(seed, tf.int64), element])
        image, label = transform(example["image"], example["label"], element_seed)
        return {"image": image, "label": tf.where(label == ADDED_LABEL, ignore_label, label)}

    elements = _elements(batch_size, start_step, part)
    if on_bad_example == "fail":
        examples = elements.map(
            lambda e: augmented(e, read(_example_index(e, seed, len(source)))),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    else:
        readable = _readable(elements, read, seed, len(source), skipped)
        examples = readable.map(augmented, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    _check_defined([spec.shape for spec in examples.element_spec.values()], augment)
    size = part.get_per_replica_batch_size(batch_size) if part else batch_size
    return examples.batch(size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def distributed_batches(
    strategy: tf.distribute.Strategy,
    source: ExampleSource,
    augment: Sequence[Augmentation],
    *,
    batch_size: int,
    ignore_label: int,
    num_classes: int,
    seed: int,
    start_step: int,
    on_bad_example: Literal["fail", "skip"],
    skipped: set[int],
    parts: int = 1,
) -> Iterator[list[Mapping[str, tf.Tensor]]]:
    """The global batches of `train_batches`, each in `parts` that are split over the replicas.

    Raises:
      ValueError: examples cannot be read; the message names them.
    """
    # Each worker makes its own share: sharded by TensorFlow, the order would be different.
    shares = strategy.distribute_datasets_from_function(
        lambda part: train_batches(
            source,
            augment,
            batch_size=batch_size // parts,
            ignore_label=ignore_label,
            num_classes=num_classes,
            seed=seed,
            start_step=start_step * parts,
            on_bad_example=on_bad_example,
            part=part,
            skipped=skipped,
        ),
        _input_options(strategy),
    )
    iterator = iter(shares)
    step = start_step
    while True:
        try:
            batch = [next(iterator) for _ in range(parts)]
        except tf.errors.ResourceExhaustedError:  # no example is to blame
            raise
        except tf.errors.OpError as error:
            message = explain_failure(
                source,
                batch_size=batch_size,
                seed=seed,
                first_step=step,
                on_bad_example=on_bad_example,
                error=error,
            )
            raise ValueError(message) from error
        yield batch
        step += 1


def _input_options(strategy: tf.distribute.Strategy) -> tf.distribute.InputOptions | None:
    """On CPUs alone, each replica reads its own part; else None, TensorFlow's default.

    The default copies batches to the devices ahead of time. CPUs need no copy, and TensorFlow would
    warn at each start that "GeneratorDatasetOp will not be optimized".
    """
    if not isinstance(strategy, tf.distribute.MirroredStrategy):
        return None  # only this strategy lets replicas read on their own
    if not all("CPU" in device for device in strategy.extended.worker_devices):
        return None
    return tf.distribute.InputOptions(
        experimental_fetch_to_device=False,
        experimental_replication_mode=tf.distribute.InputReplicationMode.PER_REPLICA,
    )


def _elements(
    batch_size: int, start_step: int, part: tf.distribute.InputContext | None
) -> tf.data.Dataset:
    """This worker's elements of the stream; int64 scalars."""
    share = batch_size // part.num_input_pipelines if part else batch_size
    first = part.input_pipeline_id * share if part else 0
    own = tf.data.Dataset.counter(start_step * share, 1, dtype=tf.int64)
    return own.map(lambda i: i // share * batch_size + first + i % share)


def _readable(
    elements: tf.data.Dataset,
    read: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    seed: int,
    num_examples: int,
    skipped: set[int] | None,
) -> tf.data.Dataset:
    """(element, example) in the same order, with other examples for those that cannot be read.

    The choice of another one is a function of seed, element and number of examples alone.
    """

    def index_of(element, attempt):
        element_seed = tf.stack([tf.constant(seed, tf.int64), element])
        own_seed = tf.random.experimental.stateless_fold_in(element_seed, _STAND_IN + attempt)
        other = tf.random.stateless_uniform([], own_seed, 0, num_examples, tf.int64)
        return tf.where(attempt == 0, _example_index(element, seed, num_examples), other)

    def first_readable(element):
        def attempt(number):
            return element, number, read(index_of(element, number))

        # If all attempts fail, the error of the last one is raised.
        attempts = tf.data.Dataset.range(_ATTEMPTS).map(attempt).ignore_errors()
        last = tf.data.Dataset.range(_ATTEMPTS - 1, _ATTEMPTS).map(attempt)
        return attempts.concatenate(last).take(1)

    def note(bad: np.ndarray) -> np.int64:
        if skipped is not None:
            skipped.update(map(int, bad))
        return np.int64(0)

    def noted(element, number, example):
        def note_all():
            bad = tf.map_fn(lambda i: index_of(element, i), tf.range(number))
            return tf.numpy_function(note, [bad], tf.int64)

        with tf.control_dependencies(
            [tf.cond(number > 0, note_all, lambda: tf.constant(0, tf.int64))]
        ):
            return tf.identity(element), example

    found = elements.interleave(
        first_readable, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    return found.map(noted)


def _checked(read: dict[str, tf.Tensor], num_classes: int, ignore_label: int) -> tf.Tensor:
    label, image_size = read["label"], tf.shape(read["image"])[:2]
    wrong = (label != ignore_label) & ((label < 0) | (label >= num_classes))
    checks = [
        tf.debugging.Assert(
            tf.reduce_all(tf.shape(label) == image_size),
            ["label and image differ in size:", read["name"], tf.shape(label), image_size],
        ),
        tf.debugging.Assert(
            tf.logical_not(tf.reduce_any(wrong)),
            ["label value is not a class:", read["name"], tf.boolean_mask(label, wrong)],
        ),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(label)


@tf.autograph.experimental.do_not_convert
def eval_examples(source: ExampleSource, only: Sequence[int] | None = None) -> tf.data.Dataset:
    """The examples in order, at their own sizes.

    Args:
      source: of the split.
      only: indices of the examples to read, in order; None: all.

    Returns:
      Dataset of {"image": uint8 [H, W, 3], "label": int32 [H, W], "name": string []}.
    """
    indices = tf.data.Dataset.range(len(source))
    if only is not None:
        indices = tf.data.Dataset.from_tensor_slices(tf.constant(only, tf.int64))
    readers = min(_MOST_READERS, os.cpu_count() or 1)
    examples = indices.map(source.read, num_parallel_calls=readers, deterministic=True)
    # Where numbers are autotuned, TensorFlow 2.21 may wait at the end of the examples for a thread
    # that sleeps 2.56, 5.12, 10.24 s and so on after the beginning, up to a minute at a time.
    options = tf.data.Options()
    options.autotune.enabled = False
    return examples.prefetch(readers).with_options(options)


def explain_failure(
    source: ExampleSource,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    on_bad_example: Literal["fail", "skip"],
    error: Exception,
) -> str:
    """Finds out which examples broke the stream of training batches.

    Args:
      source: as in `train_batches`, like `batch_size`, `seed` and `on_bad_example`.
      batch_size: global batch size.
      seed: seed of the order.
      first_step: step of the first batch that is missing.
      on_bad_example: "fail" or "skip".
      error: the error that was raised instead of this batch.

    Returns:
      A message that names each example that cannot be read, with the reason.
    """
    steps = range(first_step, first_step + _READ_AHEAD)
    seen = (batch_indices(len(source), batch_size, seed=seed, step=step) for step in steps)
    indices = dict.fromkeys(int(i) for batch in seen for i in batch)
    found = []
    for index in indices:
        try:
            read = source.read(tf.constant(index, tf.int64))
            if read["image"].shape[:2] != read["label"].shape:
                found.append(f"{source.name(index)}: image and label differ in size")
        except (tf.errors.OpError, ValueError) as reason:
            found.append(f"{source.name(index)}: {first_line(reason)}")
    # The message includes the error: reading alone may not reproduce it.
    what = "\n  ".join([*found, f"the error was: {first_line(error)}"])
    if on_bad_example == "skip":
        what += f"\n  none of the {_ATTEMPTS} examples tried in its place could be read"
    return f"training examples cannot be read (step {first_step + 1}):\n  {what}"


def skipped_text(source: ExampleSource, skipped: set[int]) -> str:
    """A message that names the examples that were replaced by others."""
    known = sorted(skipped)  # reading ahead may add to the set at any time
    more = len(known) - _MOST_SKIPPED
    names = [source.name(index) for index in known[:_MOST_SKIPPED]]
    listed = "\n  ".join(names + [f"and {more} more"] * (more > 0))
    return (
        f"skipped {len(known)} of {len(source)} training examples, which cannot be read; other"
        f" examples take their places:\n  {listed}"
    )


def first_line(error: Exception) -> str:
    """The message of an error, without TensorFlow's names of nodes and traces."""
    text = _TENSORFLOWS_OWN.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # A Python error from a graph comes with its traceback, whose last line is the error.
    python_errors = [line for line in lines if line.startswith(("ValueError:", "OSError:"))]
    line = (python_errors or lines or [repr(error)])[0]
    return re.sub(r"^(ValueError|OSError): ", "", line)[:300]
