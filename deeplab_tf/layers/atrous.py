"""Atrous convolutions by the native dilated kernels, where these are fast and right.

On TensorFlow, Keras' own layers turn a dilated convolution into space-to-batch, convolution and
batch-to-space. That is slower on a CPU and leaves three operations instead of one in exports. The
layers here have the same weights under the same names.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import keras

from deeplab_tf.layers.memory import tensors_at
from deeplab_tf.recipe.lazy import tf


@keras.saving.register_keras_serializable(package="deeplab_tf")
class AtrousConv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D with stride 1 and a rate above 1."""

    def convolution_op(self, inputs, kernel):
        """[N, h, w, C] -> [N, h, w, filters]; called by Conv2D.call."""
        if keras.backend.backend() == "tensorflow" and _native_kernel_is_right(
            tf.as_dtype(inputs.dtype).name, depthwise=False
        ):
            kernel = tf.convert_to_tensor(kernel)
            return _native_conv(inputs, kernel, self.padding.upper(), self.dilation_rate[0])
        return super().convolution_op(inputs, kernel)


@keras.saving.register_keras_serializable(package="deeplab_tf")
class AtrousDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """keras.layers.DepthwiseConv2D with a 3x3 kernel, stride 1, SAME padding, a rate above 1."""

    # ours: up to this rate the native kernel costs as much as an undilated one, above it 6 to 10
    # times as much (33x33x384 to 65x65x2048, oneDNN); space-to-batch costs 2 to 3 times as much.
    LARGEST_NATIVE_RATE = 6

    def call(self, inputs):
        """[N, h, w, C] -> [N, h, w, C]."""
        rate = self.dilation_rate[0]
        if keras.backend.backend() == "tensorflow" and rate <= self.LARGEST_NATIVE_RATE:
            if _native_kernel_is_right(tf.as_dtype(inputs.dtype).name, depthwise=True):
                x = _native_depthwise_conv(inputs, tf.convert_to_tensor(self.kernel), rate)
                return x + self.bias if self.use_bias else x
        return super().call(inputs)


class Reach(NamedTuple):
    """How far an atrous convolution reaches over its feature map.

    Attributes:
      layer: its name.
      rate: of the convolution.
      size: height and width of the feature map, pixels.
      inside: share of the positions, along the shorter side, where a weight beside the central one
        meets the feature map and not the padding. Weights that never do are not trained: the
        filter is a 1x1 one (cited: DeepLabv3, Sec. 3.3) until a larger image comes.
    """

    layer: str
    rate: int
    size: tuple[int, int]
    inside: float


def farthest_reach(model: keras.Model, height: int, width: int) -> Reach | None:
    """The atrous convolution of a network that reaches farthest beyond its feature map.

    Args:
      model: functional, image [N, H, W, C] -> one or several outputs.
      height: of the images, pixels.
      width: the same.

    Returns:
      The one with the least share `inside`; None: the network has no atrous convolution.
    """
    known = tensors_at(model, height, width)
    found = []
    for layer in model.layers:
        if isinstance(layer, (AtrousConv2D, AtrousDepthwiseConv2D)) and id(layer.input) in known:
            _, *size, _ = known[id(layer.input)].shape
            rate, side = layer.dilation_rate[0], min(size)
            reach = (layer.kernel_size[0] - 1) // 2 * rate
            found.append(Reach(layer.name, rate, tuple(size), max(0, side - reach) / side))
    return min(found, key=lambda reach: reach.inside, default=None)


def _native_conv(x, kernel, padding: str, rate: int):
    return tf.nn.conv2d(x, kernel, strides=1, padding=padding, dilations=rate)


def _native_depthwise_conv(x, kernel, rate: int):
    """The native forward kernel with a gradient of our own; TensorFlow's is wrong (2.21).

    The gradient with respect to the input is the same convolution by the reversed kernel. The one
    with respect to the kernel is that of space-to-batch.
    """

    def forward(x, kernel):
        return tf.raw_ops.DepthwiseConv2dNative(
            input=x,
            filter=kernel,
            strides=[1, 1, 1, 1],
            padding="SAME",
            dilations=[1, rate, rate, 1],
        )

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradient(upstream):
            # Each phase is an ordinary convolution; zeros fill the last block.
            missing = -tf.shape(x)[1:3] % rate
            ends = tf.stack([missing * 0, missing], axis=1)
            with tf.control_dependencies([upstream]):  # not in the forward pass: it takes memory
                phases = tf.space_to_batch(x, [rate, rate], ends + rate)
            kernel_gradient = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=phases,
                filter_sizes=tf.shape(kernel),
                out_backprop=tf.space_to_batch(upstream, [rate, rate], ends),
                strides=[1, 1, 1, 1],
                padding="VALID",
            )
            return forward(upstream, tf.reverse(kernel, axis=[0, 1])), kernel_gradient

        return forward(x, kernel), gradient

    return convolve(x, kernel)


@functools.cache
def _native_kernel_is_right(dtype: str, *, depthwise: bool) -> bool:
    """Whether the native kernel runs here in `dtype` and gives what space-to-batch gives.

    That depends on the device, on oneDNN and on the dtype. Value and gradients are compared once,
    on a tiny input.
    """

    def value_and_gradients(y, x, kernel):
        # Symbolic: the scope below pauses gradient tapes.
        return [tf.cast(t, tf.float32) for t in [y, *tf.gradients(y**2, [x, kernel])]]

    @tf.function(autograph=False)
    def relative_errors():
        x = tf.cast(tf.sin(tf.reshape(tf.range(98.0), [1, 7, 7, 2])), dtype)
        numbers = tf.cast(tf.cos(tf.range(36.0)), dtype)
        if depthwise:
            kernel = tf.reshape(numbers[:18], [3, 3, 2, 1])
            native = _native_depthwise_conv(x, kernel, 2)
            known = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME", dilations=[2, 2])
        else:
            kernel = tf.reshape(numbers, [3, 3, 2, 2])
            native = _native_conv(x, kernel, "SAME", 2)
            known = tf.nn.convolution(x, kernel, padding="SAME", dilations=2)
        pairs = zip(
            value_and_gradients(native, x, kernel),
            value_and_gradients(known, x, kernel),
            strict=True,
        )
        return [tf.reduce_max(tf.abs(a - b)) / tf.reduce_max(tf.abs(b)) for a, b in pairs]

    with tf.init_scope():  # outside any graph that is being traced
        try:
            errors = relative_errors()
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False  # the answer to the question asked
        tolerance = 1e-3 if dtype in ("float32", "float64") else 5e-2
        return all(float(error) <= tolerance for error in errors)
