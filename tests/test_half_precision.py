"""Networks of both packages in bfloat16 and float16, against themselves in float32."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import deeplab_tf
import jpu_tf

_SMALL = {"atrous_rates": (2, 7), "aspp_channels": 8, "decoder_convs": ((3, 8),)}
_DEEP_STEM = {"backbone": "resnet_deep_stem_tiny"}
# Every backbone, head and upsampler once; atrous rates below and above the native depthwise limit.
_NETWORKS = {
    "mobilenet_v2": deeplab_tf.DeepLabV3PlusConfig(
        backbone="mobilenet_v2_tiny", output_stride=8, **_SMALL
    ),
    "resnet": deeplab_tf.DeepLabV3PlusConfig(backbone="resnet_tiny", separable=False, **_SMALL),
    "xception": deeplab_tf.DeepLabV3PlusConfig(backbone="xception_tiny", **_SMALL),
    "encoding": jpu_tf.FastFCNConfig(
        upsampler=jpu_tf.JPU(channels=8), head=jpu_tf.Encoding(channels=16), **_DEEP_STEM
    ),
    "aspp": jpu_tf.FastFCNConfig(
        upsampler=jpu_tf.JPUX(channels=64), head=jpu_tf.ASPP(channels=8), **_DEEP_STEM
    ),
    "psp": jpu_tf.FastFCNConfig(
        upsampler=jpu_tf.FPN(channels=8), head=jpu_tf.PSP(channels=8), **_DEEP_STEM
    ),
    "fcn": jpu_tf.FastFCNConfig(
        upsampler=jpu_tf.Bilinear(), head=jpu_tf.FCN(channels=8), **_DEEP_STEM
    ),
    "deeplab": jpu_tf.FastFCNConfig(
        upsampler=jpu_tf.NoUpsampling(), head=jpu_tf.DeepLab(channels=8), **_DEEP_STEM
    ),
}


# The layers that compute in float32; the one with a softmax is the encoding.
_PRECISE = {
    *("backbone_rescale", "logits", "logits_resize", "aux_logits", "aux_logits_resize"),
    *("head_logits", "head_se_logits", "head_encoding", "head_encoding_bn", "head_gate"),
}


def _built(network, policy):
    config = _NETWORKS[network]
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(1)
        return config.replace(**_no_dropout(config)).build(3, auxiliary=True)
    finally:
        keras.config.set_dtype_policy(before)


def _no_dropout(config):
    if isinstance(config, deeplab_tf.DeepLabV3PlusConfig):
        return {"dropout": 0.0}
    more = {"aspp_dropout": 0.0} if isinstance(config.head, jpu_tf.ASPP) else {}
    return {"head": config.head.replace(dropout=0.0, **more)}


def _step(model):
    """(outputs, gradient of all weights as one vector) of a training step."""
    image = np.random.default_rng(0).uniform(0, 255, (4, 33, 33, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        outputs = model(image, training=True)
        # float16 loses small gradients without a scale of the loss.
        loss = 2.0**8 * sum(
            tf.reduce_mean(y * tf.reshape(tf.sin(tf.range(tf.size(y), dtype=y.dtype)), y.shape))
            for y in outputs.values()
        )
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    return outputs, tf.concat([tf.reshape(g, [-1]) for g in gradients], axis=0)


@functools.cache
def _step_in_float32(network):
    return _step(_built(network, "float32"))


# Smallest correlations with float32. The gradients' are low because noise goes through small,
# randomly initialized networks.
@pytest.mark.parametrize(
    ("dtype", "of_outputs", "of_gradients"), [("bfloat16", 0.95, 0.3), ("float16", 0.998, 0.8)]
)
@pytest.mark.parametrize("network", sorted(_NETWORKS))
def test_a_training_step_is_finite_and_near_that_of_float32(
    network, dtype, of_outputs, of_gradients
):
    model = _built(network, f"mixed_{dtype}")
    layers = {layer.name for layer in model.layers}
    precise = {layer.name for layer in model.layers if layer.compute_dtype == "float32"}
    assert precise == _PRECISE & layers
    assert {variable.dtype for variable in model.variables} == {"float32"}
    outputs, gradient = _step(model)
    expected, expected_gradient = _step_in_float32(network)
    for name, y in outputs.items():
        assert y.dtype == "float32"
        assert np.corrcoef(np.ravel(y), np.ravel(expected[name]))[0, 1] > of_outputs, name
    assert np.all(np.isfinite(gradient))
    assert np.corrcoef(gradient, expected_gradient)[0, 1] > of_gradients
