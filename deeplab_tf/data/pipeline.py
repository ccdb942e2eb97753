"""From a source of examples to batches: one order, reproducible from any step.

Element k of the endless training stream is example index_shuffle(k mod N) of pass k div N,
augmented with the seed (seed, k). So a batch is a function of (seed, step, N) alone, whatever the
number of workers, replicas and restarts, and nothing has to be held in memory to shuffle.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from deeplab_tf.recipe.options import DataConfig
from deeplab_tf.data.augment import augmenter
from deeplab_tf.recipe.dataset_spec import ExampleSource

# Around the message of an error that was raised in a graph.
_TENSORFLOWS_OWN = re.compile(
    r"\{\{.*?\}\}|\[Op:\w+\]( name: *)?|Error in user-defined function.*?Iterator::\S+: "
)
_ATTEMPTS = 10  # ours: examples tried in the place of one; all bad, most of the dataset is
_STAND_IN = 1 << 16  # ours: far from the augmentations' seeds
_READ_AHEAD = 64  # ours: more batches than prefetching can be ahead of the step that failed
_MOST_SKIPPED = 50  # ours: examples listed before it says how many more there are


def _example_index(element: tf.Tensor, seed: int, num_examples: int) -> tf.Tensor:
    """Which example element k of the stream is; int64 scalars."""
    if num_examples == 1:
        return tf.zeros_like(element)
    epoch = element // num_examples
    return tf.random.experimental.index_shuffle(
        element % num_examples,
        seed=tf.stack([tf.constant(seed, tf.int64), epoch]),
        max_index=tf.constant(num_examples - 1, tf.int64),
    )


def batch_indices(num_examples: int, data: DataConfig, *, seed: int, step: int) -> np.ndarray:
    """The examples of batch `step`; int64 [data.batch_size]."""
    elements = range(step * data.batch_size, (step + 1) * data.batch_size)
    return np.array(
        [
            int(_example_index(tf.constant(element, tf.int64), seed, num_examples))
            for element in elements
        ]
    )


def train_batches(
    source: ExampleSource,
    data: DataConfig,
    *,
    ignore_label: int,
    num_classes: int,
    seed: int,
    start_step: int = 0,
    part: tf.distribute.InputContext | None = None,
    skipped: set[int] | None = None,
) -> tf.data.Dataset:
    """The endless stream of training batches, or one worker's part of it.

    Args:
      source: of the training split.
      data: batch size, crop and augmentations.
      ignore_label: label value of void.
      num_classes: background counted, void not.
      seed: of order and augmentation.
      start_step: the first batch handed out.
      part: read only this worker's share of each batch, a replica's share at a time, so that all
        replicas together have the batch that one would have. None: whole batches.
      skipped: with data.on_bad_example 'skip', the examples that others stood in for are added.

    Returns:
      Dataset of {"image": float32 [B, S, S, 3] 0..255, "label": int32 [B, S, S]}.

    Raises:
      ValueError: the split is empty, an augmentation is unknown, or the augmentations do not make
        one size of all images.
    """
    if not len(source):
        raise ValueError("the training split must have at least one example; it has none.")
    augment = augmenter(data, ignore_label)

    def read(index: tf.Tensor) -> dict[str, tf.Tensor]:
        read = source.read(index)
        return {"image": read["image"], "label": _checked(read, num_classes, ignore_label)}

    def augmented(element: tf.Tensor, example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        element_seed = tf.stack([tf.constant(seed, tf.int64), element])
        image, label = augment(example["image"], example["label"], element_seed)
        return {"image": image, "label": label}

    elements = _elements(data.batch_size, start_step, part)
    if data.on_bad_example == "fail":
        examples = elements.map(
            lambda e: augmented(e, read(_example_index(e, seed, len(source)))),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    else:
        readable = _readable(elements, read, seed, len(source), skipped)
        examples = readable.map(augmented, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    size = [data.crop_size, data.crop_size]
    if examples.element_spec["label"].shape != size:
        raise ValueError(
            "data.augmentations must include random_crop or center_crop, which bring all images to"
            " one size, and nothing after it that changes sizes;"
            f" got {', '.join(data.augmentations) or 'none'}."
        )
    size = part.get_per_replica_batch_size(data.batch_size) if part else data.batch_size
    return examples.batch(size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def distributed_batches(
    strategy: tf.distribute.Strategy,
    source: ExampleSource,
    data: DataConfig,
    *,
    ignore_label: int,
    num_classes: int,
    seed: int,
    start_step: int,
    skipped: set[int],
) -> Iterator[Mapping[str, tf.Tensor]]:
    """The global batches of `train_batches`, each split over workers and replicas.

    Raises:
      ValueError: examples cannot be read; the message names them.
    """
    # Each worker makes its own part: sharded by TensorFlow, the order would be another.
    parts = strategy.distribute_datasets_from_function(
        lambda part: train_batches(
            source,
            data,
            ignore_label=ignore_label,
            num_classes=num_classes,
            seed=seed,
            start_step=start_step,
            part=part,
            skipped=skipped,
        )
    )
    iterator = iter(parts)
    step = start_step
    while True:
        try:
            batch = next(iterator)
        except tf.errors.OpError as error:
            raise ValueError(
                explain_failure(source, data, seed=seed, first_step=step, error=error)
            ) from error
        yield batch
        step += 1


def _elements(
    batch_size: int, start_step: int, part: tf.distribute.InputContext | None
) -> tf.data.Dataset:
    """The elements of the stream that are this worker's; int64 scalars."""
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
    """(element, example) in the same order, another example for each that cannot be read.

    Which other one is a function of seed, element and number of examples alone.
    """

    def index_of(element, attempt):
        element_seed = tf.stack([tf.constant(seed, tf.int64), element])
        own_seed = tf.random.experimental.stateless_fold_in(element_seed, _STAND_IN + attempt)
        other = tf.random.stateless_uniform([], own_seed, 0, num_examples, tf.int64)
        return tf.where(attempt == 0, _example_index(element, seed, num_examples), other)

    def first_readable(element):
        def attempt(number):
            return element, number, read(index_of(element, number))

        # Once all attempts have failed, the last one's error is raised.
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
            ["label value is no class:", read["name"], tf.boolean_mask(label, wrong)],
        ),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(label)


def eval_examples(source: ExampleSource) -> tf.data.Dataset:
    """The examples in order, at their own sizes.

    Returns:
      Dataset of {"image": uint8 [H, W, 3], "label": int32 [H, W], "name": string []}.
    """
    indices = tf.data.Dataset.range(len(source))
    examples = indices.map(source.read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return examples.prefetch(tf.data.AUTOTUNE)


def explain_failure(
    source: ExampleSource, data: DataConfig, *, seed: int, first_step: int, error: Exception
) -> str:
    """Finds out which examples broke the stream of training batches.

    Args:
      source: of the training split.
      data: as given to `train_batches`.
      seed: likewise.
      first_step: the first batch that was not handed out.
      error: what reading it raised.

    Returns:
      A message that names each example that cannot be read, and says why.
    """
    steps = range(first_step, first_step + _READ_AHEAD)
    seen = (batch_indices(len(source), data, seed=seed, step=step) for step in steps)
    indices = dict.fromkeys(int(i) for batch in seen for i in batch)
    found = []
    for index in indices:
        try:
            read = source.read(tf.constant(index, tf.int64))
            if read["image"].shape[:2] != read["label"].shape:
                found.append(f"{source.name(index)}: image and label differ in size")
        except (tf.errors.OpError, ValueError) as reason:
            found.append(f"{source.name(index)}: {first_line(reason)}")
    # The error is told too: it may be of a kind that reading alone does not show.
    what = "\n  ".join([*found, f"the error was: {first_line(error)}"])
    if data.on_bad_example == "skip":
        what += f"\n  none of {_ATTEMPTS} examples tried in place of one could be read"
    return f"training examples cannot be read (step {first_step + 1}):\n  {what}"


def skipped_text(source: ExampleSource, skipped: set[int]) -> str:
    """Which examples others stood in for, by their names."""
    known = sorted(skipped)  # reading ahead may add to the set at any time
    more = len(known) - _MOST_SKIPPED
    names = [source.name(index) for index in known[:_MOST_SKIPPED]]
    listed = "\n  ".join(names + [f"and {more} more"] * (more > 0))
    return (
        f"skipped {len(known)} of {len(source)} training examples, which cannot be read; others"
        f" stand in for them:\n  {listed}"
    )


def first_line(error: Exception) -> str:
    """What an error says, without TensorFlow's names of nodes and traces."""
    text = _TENSORFLOWS_OWN.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # A Python error inside a graph comes with its traceback; its last line is the error.
    python_errors = [line for line in lines if line.startswith(("ValueError:", "OSError:"))]
    line = (python_errors or lines or [repr(error)])[0]
    return re.sub(r"^(ValueError|OSError): ", "", line)[:300]
