"""Atrous convolutions by the fastest lowering that works where they run.

Keras' own layers turn a dilated convolution into space-to-batch, convolution, batch-to-space
on TensorFlow, which is several times slower than the native kernel on a CPU and leaves three
operations instead of one in exports. The layers here hold the same weights under the same
names and differ in the operation only.
"""

from __future__ import annotations

import functools

import keras

# ours: above this rate the native depthwise kernel on a CPU is several times slower than
# space-to-batch, below it up to three times faster.
_MAX_NATIVE_DEPTHWISE_RATE = 6


@keras.saving.register_keras_serializable(package="deeplab_tf")
class AtrousConv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D with stride 1 and a rate above 1, by the native dilated kernel."""

    def convolution_op(self, inputs, kernel):
        """[N, h, w, C] -> [N, h, w, filters]; called by Conv2D.call."""
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            if _native_kernel_works("conv", tf.as_dtype(inputs.dtype).name):
                return tf.nn.conv2d(
                    inputs,
                    tf.convert_to_tensor(kernel),
                    strides=1,
                    padding=self.padding.upper(),
                    dilations=self.dilation_rate,
                )
        return super().convolution_op(inputs, kernel)


@keras.saving.register_keras_serializable(package="deeplab_tf")
class AtrousDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """keras.layers.DepthwiseConv2D with stride 1, no bias and a rate above 1."""

    def call(self, inputs):
        """[N, h, w, C] -> [N, h, w, C]."""
        if (
            keras.backend.backend() == "tensorflow"
            and max(self.dilation_rate) <= _MAX_NATIVE_DEPTHWISE_RATE
        ):
            import tensorflow as tf

            if _native_kernel_works("depthwise", tf.as_dtype(inputs.dtype).name):
                return tf.raw_ops.DepthwiseConv2dNative(
                    input=inputs,
                    filter=tf.convert_to_tensor(self.kernel),
                    strides=[1, 1, 1, 1],
                    padding=self.padding.upper(),
                    dilations=[1, *self.dilation_rate, 1],
                )
        return super().call(inputs)


@functools.cache
def _native_kernel_works(kind: str, dtype: str) -> bool:
    """Whether the native dilated kernel has a forward and a backward pass here.

    On a CPU that depends on oneDNN being on and on the dtype, so it is tried once on a tiny
    input. On a GPU cuDNN has both.
    """
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return True
    with tf.init_scope():
        x = tf.ones([1, 5, 5, 2], dtype)
        kernel = tf.ones([3, 3, 2, 1 if kind == "depthwise" else 2], dtype)
        try:
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                if kind == "depthwise":
                    y = tf.raw_ops.DepthwiseConv2dNative(
                        input=x,
                        filter=kernel,
                        strides=[1, 1, 1, 1],
                        padding="SAME",
                        dilations=[1, 2, 2, 1],
                    )
                else:
                    y = tf.nn.conv2d(x, kernel, 1, "SAME", dilations=2)
            tape.gradient(y, [x, kernel])
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False  # the answer to the question asked: space-to-batch then does it
    return True
