"""From a source of examples to batches: one order, reproducible from any step.

Element k of the endless training stream is example index_shuffle(k mod N) of pass k div N,
augmented with the seed (seed, k). So a batch is a function of (seed, step, N) alone, whatever the
number of workers, replicas and restarts, and nothing has to be held in memory to shuffle.
"""

from __future__ import annotations

import re

import numpy as np
import tensorflow as tf

from deeplab_tf.config import DataConfig, lookup
from deeplab_tf.data.spec import ExampleSource
from deeplab_tf.data.transforms import AUGMENTATIONS

# Around the message of an error that was raised in a graph.
_TENSORFLOWS_OWN = re.compile(
    r"\{\{.*?\}\}|\[Op:\w+\]( name: *)?|Error in user-defined function.*?Iterator::\S+: "
)
_READ_AHEAD = 64  # ours: more batches than prefetching can be ahead of the step that failed


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
) -> tf.data.Dataset:
    """The endless stream of training batches.

    Args:
      source: of the training split.
      data: batch size, crop and augmentations.
      ignore_label: label value of void.
      num_classes: background counted, void not.
      seed: of order and augmentation.
      start_step: the first batch handed out.

    Returns:
      Dataset of {"image": float32 [B, S, S, 3] 0..255, "label": int32 [B, S, S]}.

    Raises:
      ValueError: the split is empty, an augmentation is unknown, or the augmentations do not make
        one size of all images.
    """
    if not len(source):
        raise ValueError("the training split must have at least one example; it has none.")
    augmentations = [lookup(AUGMENTATIONS, name, "augmentation") for name in data.augmentations]

    def example(element: tf.Tensor) -> dict[str, tf.Tensor]:
        read = source.read(_example_index(element, seed, len(source)))
        label = _checked(read, num_classes, ignore_label)
        image = tf.cast(read["image"], tf.float32)
        element_seed = tf.stack([tf.constant(seed, tf.int64), element])
        for i, augment in enumerate(augmentations):
            own_seed = tf.random.experimental.stateless_fold_in(element_seed, i)
            image, label = augment(image, label, own_seed, data=data, ignore_label=ignore_label)
        return {"image": image, "label": label}

    start = start_step * data.batch_size
    elements = tf.data.Dataset.counter(start, 1, dtype=tf.int64)
    examples = elements.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    size = [data.crop_size, data.crop_size]
    if examples.element_spec["label"].shape != size:
        raise ValueError(
            "data.augmentations must include random_crop, which brings all images to one size, and"
            f" nothing after it that changes sizes; got {', '.join(data.augmentations) or 'none'}."
        )
    batches = examples.batch(data.batch_size, drop_remainder=True)
    options = tf.data.Options()
    # Batches are split over replicas; sharding the elements would make another order.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


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
    return f"training examples cannot be read (step {first_step + 1}):\n  {what}"


def first_line(error: Exception) -> str:
    """What an error says, without TensorFlow's names of nodes and traces."""
    text = _TENSORFLOWS_OWN.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # A Python error inside a graph comes with its traceback; its last line is the error.
    python_errors = [line for line in lines if line.startswith(("ValueError:", "OSError:"))]
    line = (python_errors or lines or [repr(error)])[0]
    return re.sub(r"^(ValueError|OSError): ", "", line)[:300]
