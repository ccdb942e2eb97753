"""Multiply-adds of the networks of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from deeplab_tf.recipe.parts import ModelConfig


class Inference(NamedTuple):
    """How a network is run."""

    model: ModelConfig
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False


def multiply_adds_of(
    rows: Mapping[str, Inference], *, image_size: tuple[int, int], num_classes: int
) -> dict[str, dict[str, float]]:
    """Counts every row, both ways; imports TensorFlow.

    Args:
      rows: row -> how its network is run.
      image_size: height and width at scale 1, pixels.
      num_classes: outputs of the network.

    Returns:
      Row -> billions of multiply-adds of one image: "multiply_adds" as the paper counts, and
      "true_multiply_adds".
    """
    import keras

    from deeplab_tf.layers.multiply_adds import multiply_adds

    found = {}
    for config in dict.fromkeys(row.model for row in rows.values()):
        # Counting needs shapes alone, and making the weights takes most of the time.
        with keras.StatelessScope(initialize_variables=False):
            model = config.build(num_classes)
        for name, row in rows.items():
            if row.model == config:
                found[name] = {
                    measure: multiply_adds(
                        model, image_size, scales=row.scales, flip=row.flip, counting=counting
                    )
                    / 1e9
                    for measure, counting in (
                        ("multiply_adds", "paper"),
                        ("true_multiply_adds", "true"),
                    )
                }
    return found
