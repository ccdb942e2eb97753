"""The encoding head (Zhang et al. 2018, EncNet) as FastFCN's released code has it."""

from __future__ import annotations

import math

import keras
from keras import ops

from deeplab_tf.backbones import Features
from deeplab_tf.layers import relu
from deeplab_tf.layers.normalization import BatchNorm, full_precision
from jpu_tf.heads.options import HeadOptions
from jpu_tf.layers import classifier, conv_bn_relu, dense

_CODEWORDS = 32  # code


@keras.saving.register_keras_serializable(package="jpu_tf")
class Encoding(keras.layers.Layer):
    """Describes a set of vectors by their residuals from learned codewords.

    Vector x_i belongs to codeword c_k by the share a_ik = softmax over k of s_k * |x_i - c_k|^2;
    e_k is the sum over i of a_ik * (x_i - c_k) (cited: Zhang et al. 2018, Sec. 3.1).

    Distances are computed as |x|^2 - 2 x.c + |c|^2 and sums as (sum of a_ik * x_i) - (sum of
    a_ik) * c_k, so that memory is linear in the number of vectors: nothing of the size vectors x
    codewords x channels exists. What these differences cancel is kept small by measuring both
    vectors and codewords from the mean codeword. Largest error of E relative to its largest value
    (512 channels, against float64): 4e-7, that of the direct form, whether features are near 0 or
    100 away from it; 4e-5 (direct: 7e-8) in the worst case, vectors that are 100 times nearer to a
    codeword than codewords are to one another. All is computed in float32 whatever the policy: in
    half precision squares and sums over all pixels would overflow.

    Attributes:
      num_codewords: K.
    """

    def __init__(self, num_codewords: int = _CODEWORDS, **layer_options):
        super().__init__(**{"dtype": full_precision(), **layer_options})
        self.num_codewords = num_codewords

    def build(self, input_shape):
        """Creates codewords [K, D] and scale [K]."""
        channels = input_shape[-1]
        bound = 1 / math.sqrt(self.num_codewords * channels)  # code
        self.codewords = self.add_weight(
            shape=(self.num_codewords, channels),
            initializer=keras.initializers.RandomUniform(-bound, bound),
            name="codewords",
        )
        # Below 0, so that near codewords get the larger share (code).
        self.scale = self.add_weight(
            shape=(self.num_codewords,),
            initializer=keras.initializers.RandomUniform(-1.0, 0.0),
            name="scale",
        )

    def call(self, inputs):
        """[N, h, w, D] -> [N, K, D] float32."""
        shape = ops.shape(inputs)
        x = ops.reshape(
            ops.cast(inputs, self.compute_dtype), (shape[0], shape[1] * shape[2], shape[3])
        )
        codewords = ops.convert_to_tensor(self.codewords)
        centre = ops.mean(codewords, axis=0)
        x, codewords = x - centre, codewords - centre
        distances = (
            ops.sum(ops.square(x), axis=-1, keepdims=True)
            - 2.0 * ops.matmul(x, ops.transpose(codewords))
            + ops.sum(ops.square(codewords), axis=-1)
        )
        shares = ops.softmax(ops.convert_to_tensor(self.scale) * distances, axis=-1)  # [N, hw, K]
        sums = ops.matmul(ops.transpose(shares, (0, 2, 1)), x)
        return sums - ops.sum(shares, axis=1)[:, :, None] * codewords

    def compute_output_shape(self, input_shape):
        """[N, K, D]."""
        return input_shape[0], self.num_codewords, input_shape[-1]

    def multiply_adds(self, input_shape):
        """Products of the distances and of the sums, for [N, h, w, D]."""
        return 2 * math.prod(input_shape) * self.num_codewords

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "num_codewords": self.num_codewords}


def encoding_head(
    x: keras.KerasTensor, features: Features, num_classes: int, options: HeadOptions
) -> dict[str, keras.KerasTensor]:
    """Weighs channels by what the whole image shows, then classifies.

    Args:
      x: [N, h, w, C].
      features: of the backbone; read with options.lateral alone.
      num_classes: background counted, void not.
      options: channels None is 512.

    Returns:
      {"logits": [N, h, w, num_classes]} and, with options.semantic_encoding, "se_logits"
      [N, num_classes]: whether a class is in the image, before the sigmoid. float32.
    """
    norm, channels = options.norm, options.channels or 512
    x = conv_bn_relu(x, channels, options.first_kernel_size, norm=norm, name="head_conv")
    if options.lateral:
        conv3 = conv_bn_relu(features.conv3, channels, 1, norm=norm, name="head_lateral_conv3")
        conv4 = conv_bn_relu(features.conv4, channels, 1, norm=norm, name="head_lateral_conv4")
        x = keras.layers.Concatenate(name="head_lateral_concat")([x, conv3, conv4])
        x = conv_bn_relu(x, channels, 3, norm=norm, name="head_lateral_fusion")
    context = conv_bn_relu(x, channels, 1, norm=norm, name="head_encoding_conv")
    context = Encoding(name="head_encoding")(context)
    # Normalized a codeword (code): these are the channels of an image one pixel high.
    context = ops.expand_dims(ops.transpose(context, (0, 2, 1)), axis=1)
    context = BatchNorm(
        momentum=norm.momentum,
        epsilon=norm.epsilon,
        use_batch_statistics=norm.use_batch_statistics,
        dtype=full_precision(),
        name="head_encoding_bn",
    )(context)
    context = ops.mean(ops.relu(context), axis=(1, 3))  # [N, D], over codewords
    gate = dense(context, channels, activation="sigmoid", name="head_gate")
    gate = keras.layers.Reshape((1, 1, channels), name="head_gate_reshape")(gate)
    gated = keras.layers.Multiply(name="head_gated")([x, gate])
    x = relu(keras.layers.Add(name="head_add")([x, gated]), "head_relu")
    outputs = {"logits": classifier(x, num_classes, dropout=options.dropout, name="head_logits")}
    if options.semantic_encoding:
        outputs["se_logits"] = dense(context, num_classes, name="head_se_logits")
    return outputs
