"""Atrous convolution by the native dilated kernel, where that is fast and right.

Keras' own layer turns a dilated convolution into space-to-batch, convolution, batch-to-space
on TensorFlow, which is several times slower on a CPU and leaves three operations instead of
one in exports. The layer here holds the same weights under the same names.

Depthwise convolutions stay with Keras' layer: TensorFlow's native dilated depthwise kernel has
a silently wrong gradient on a CPU (2.21).
"""

from __future__ import annotations

import functools

import keras


@keras.saving.register_keras_serializable(package="deeplab_tf")
class AtrousConv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D with stride 1 and a rate above 1."""

    def convolution_op(self, inputs, kernel):
        """[N, h, w, C] -> [N, h, w, filters]; called by Conv2D.call."""
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            if _native_kernel_is_right(tf.as_dtype(inputs.dtype).name):
                return tf.nn.conv2d(
                    inputs,
                    tf.convert_to_tensor(kernel),
                    strides=1,
                    padding=self.padding.upper(),
                    dilations=self.dilation_rate,
                )
        return super().convolution_op(inputs, kernel)


@functools.cache
def _native_kernel_is_right(dtype: str) -> bool:
    """Whether the native kernel runs here in `dtype`, with the gradient of space-to-batch.

    That depends on the device, on oneDNN being on and on the dtype, so it is tried once on a
    tiny input.
    """
    import tensorflow as tf

    def gradients(convolution):
        # Symbolic, since the scope below pauses gradient tapes.
        return tf.function(
            lambda: [
                tf.cast(gradient, tf.float32)
                for gradient in tf.gradients(convolution() ** 2, [x, kernel])
            ]
        )()

    with tf.init_scope():  # out of whatever graph is being traced
        x = tf.cast(tf.sin(tf.reshape(tf.range(98.0), [1, 7, 7, 2])), dtype)
        kernel = tf.cast(tf.cos(tf.reshape(tf.range(36.0), [3, 3, 2, 2])), dtype)
        try:
            native = gradients(lambda: tf.nn.conv2d(x, kernel, 1, "SAME", dilations=2))
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False  # the answer to the question asked
        known = gradients(lambda: tf.nn.convolution(x, kernel, padding="SAME", dilations=2))
        tolerance = 1e-3 if dtype in ("float32", "float64") else 5e-2
        return all(
            bool(tf.reduce_max(tf.abs(a - b)) <= tolerance * tf.reduce_max(tf.abs(b)))
            for a, b in zip(native, known, strict=True)
        )
