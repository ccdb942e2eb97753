"""The same network from the layers that Keras comes with, and its training step.

Both are written as a user of Keras would. Where Keras has no such layer, there is one here from
public functions: a resize with `align_corners=True`, and FastFCN's encoding. Both compute what ours
do and in the same way, so that the ratios are those of convolutions, normalization and the step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from deeplab_tf.layers import BatchNorm, Dropout, ResizeLike, SpatialDropout2D
from deeplab_tf.layers.atrous import AtrousConv2D, AtrousDepthwiseConv2D
from deeplab_tf.recipe.parts import ModelConfig
from jpu_tf.layers import AdaptiveAveragePooling, Encoding


class AlignedResize(keras.layers.Layer):
    """Resizes one tensor to the height and width of another, with `align_corners=True`."""

    def call(self, inputs):
        """([N, h, w, C], [N, H, W, *]) -> [N, H, W, C] in the first's dtype."""
        x, like = inputs
        resized = tf.compat.v1.image.resize(x, ops.shape(like)[1:3], align_corners=True)
        return ops.cast(resized, x.dtype)

    def compute_output_shape(self, input_shapes):
        """The first input's shape with the second's height and width."""
        (batch, _, _, channels), (_, height, width, _) = input_shapes
        return batch, height, width, channels


class StockEncoding(keras.layers.Layer):
    """`jpu_tf.layers.Encoding` as matrix products, without its care for rounding."""

    def __init__(self, num_codewords: int, **layer_options):
        super().__init__(**layer_options)
        self.num_codewords = num_codewords

    def build(self, input_shape):
        """Creates codewords [K, D] and scale [K]."""
        self.codewords = self.add_weight(shape=(self.num_codewords, input_shape[-1]))
        self.scale = self.add_weight(shape=(self.num_codewords,))

    def call(self, inputs):
        """[N, h, w, D] -> [N, K, D]."""
        shape = ops.shape(inputs)
        x = ops.reshape(inputs, (shape[0], shape[1] * shape[2], shape[3]))
        distances = (
            ops.sum(ops.square(x), axis=-1, keepdims=True)
            - 2.0 * ops.matmul(x, ops.transpose(self.codewords))
            + ops.sum(ops.square(self.codewords), axis=-1)
        )
        shares = ops.softmax(self.scale * distances, axis=-1)
        sums = ops.matmul(ops.transpose(shares, (0, 2, 1)), x)
        return sums - ops.sum(shares, axis=1)[:, :, None] * self.codewords


def _batch_normalization(config: dict[str, Any]) -> keras.layers.Layer:
    if config.pop("statistics") == "frozen":
        raise ValueError(
            "model.batch_norm must be synchronized or per_replica beside stock layers, which train"
            " with the statistics of the batch; got frozen."
        )
    return keras.layers.BatchNormalization.from_config(config)


def _adaptive_average_pooling(config: dict[str, Any]) -> keras.layers.Layer:
    return keras.layers.AdaptiveAveragePooling2D(
        config["bins"], name=config["name"], dtype=config["dtype"]
    )


def _aligned_resize(config: dict[str, Any]) -> keras.layers.Layer:
    return AlignedResize(name=config["name"], dtype=config["dtype"])


# Class of ours -> (its config -> the layer that takes its place).
_STOCK: dict[type, Callable[[dict[str, Any]], keras.layers.Layer]] = {
    AdaptiveAveragePooling: _adaptive_average_pooling,
    AtrousConv2D: keras.layers.Conv2D.from_config,
    AtrousDepthwiseConv2D: keras.layers.DepthwiseConv2D.from_config,
    BatchNorm: _batch_normalization,
    Dropout: keras.layers.Dropout.from_config,
    Encoding: StockEncoding.from_config,
    ResizeLike: _aligned_resize,
    SpatialDropout2D: keras.layers.SpatialDropout2D.from_config,
}


def stock_network(model: keras.Model) -> keras.Model:
    """Builds the same graph without classes of ours, with the same weights.

    Args:
      model: functional, built by a config of `zoo.MODELS`.

    Returns:
      The same inputs and outputs.

    Raises:
      ValueError: a layer is of a class that has no row in this file, or does not train with the
        statistics of the batch.
    """
    clone = keras.models.clone_model(model, clone_function=_stock_layer)
    stock = keras.Model(clone.input, clone.output, name="stock")
    for layer in stock.layers:
        layer.set_weights(model.get_layer(layer.name).get_weights())
    return stock


def _stock_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    kind = type(layer)
    if kind not in _STOCK and not kind.__module__.startswith("keras."):
        raise ValueError(
            f"there is no stock layer in place of {layer.name}, a {kind.__name__}: give it a row in"
            " scripts/benchmark_stock.py."
        )
    return _STOCK.get(kind, kind.from_config)(layer.get_config())


def stock_training_step(
    config: ModelConfig, stock: keras.Model, *, ignore_label: int
) -> Callable[[Mapping[str, tf.Tensor]], tf.Tensor]:
    """A step as a user of Keras writes it: gradient tape, cross-entropy, `keras.optimizers.SGD`.

    Its learning rate is 0, as in the step that it is compared with.

    Args:
      config: of the network, for its losses; those of outputs that are not logits of pixels are the
        project's.
      stock: made of a network that was built with auxiliary=True.
      ignore_label: value of pixels that have no class.

    Returns:
      {"image": float32 [N, H, W, 3], "label": int32 [N, H, W]} -> the loss, a float32 scalar.
    """

    def pixel_loss(label, logits):
        if label.shape[1:] != logits.shape[1:3]:
            label = tf.compat.v1.image.resize(
                label[..., None], logits.shape[1:3], method="nearest", align_corners=True
            )[..., 0]
        valid = label != ignore_label
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.where(valid, label, 0), logits)
        total = tf.reduce_sum(tf.where(valid, losses, 0.0))
        return total, tf.math.count_nonzero(valid, dtype=losses.dtype)

    output_losses = config.losses(pixel_loss)
    optimizer = keras.optimizers.SGD(learning_rate=0.0, momentum=0.9)

    @tf.function
    def step(batch):
        with tf.GradientTape() as tape:
            outputs = stock(batch["image"], training=True)
            loss = 0.0
            for name, (loss_fn, weight) in output_losses.items():
                total, count = loss_fn(batch["label"], outputs[name])
                loss += weight * total / count
        gradients = tape.gradient(loss, stock.trainable_variables)
        optimizer.apply(gradients, stock.trainable_variables)
        return loss

    return step
