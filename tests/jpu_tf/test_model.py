"""FastFCN: every combination of its parts, and what a builder may not change."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.backbones import BACKBONES
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.workdir.checkpoints import Checkpointer
from deeplab_tf.weights import fit_weights, weights_by_name
from jpu_tf.heads import ASPP, HEADS, Encoding
from jpu_tf.model import FastFCN, FastFCNConfig
from jpu_tf.upsamplers import FPN, JPU, UPSAMPLERS


def _image(*shape: int) -> np.ndarray:
    values = np.arange(np.prod(shape) * 3, dtype=np.float32)
    return (127.5 + 127.5 * np.sin(values * 0.7)).reshape(*shape, 3)


def _shapes(model) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights_by_name(model).items()}


def test_the_function_has_the_options_of_the_config():
    _, _, *options = inspect.signature(FastFCN).parameters.values()
    assert [o.name for o in options] == [f.name for f in dataclasses.fields(FastFCNConfig)]
    assert FastFCNConfig(**{o.name: o.default for o in options}) == FastFCNConfig()
    assert all(f"\n  {o.name}: " in inspect.getdoc(FastFCN) for o in options)


def test_the_function_builds_the_network_of_the_config(small):
    options = {
        "backbone": "resnet_deep_stem_tiny",
        "upsampler": small(UPSAMPLERS["fpn"]),
        "head": small(HEADS["psp"]),
    }
    model = FastFCN(3, (None, None, 4), **options)
    assert _shapes(model) == _shapes(FastFCNConfig(**options).build(3, (None, None, 4)))
    assert model.output_shape == (None, None, None, 3)


def test_a_kind_stands_for_its_default_options():
    config = FastFCNConfig(upsampler="fpn", head="aspp")
    assert (config.upsampler, config.head) == (FPN(), ASPP())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_every_head_runs_on_every_upsampler(upsampler, head, tiny):
    config = tiny(upsampler=upsampler, head=head)
    model = config.build(5, auxiliary=True)
    outputs = model(_image(2, 35, 50), training=False)
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    extras = dict.fromkeys(config.head.losses(CrossEntropy()), (2, 5))
    assert shapes == {"logits": (2, 35, 50, 5), "aux_logits": (2, 35, 50, 5), **extras}
    assert all(np.all(np.isfinite(value)) for value in outputs.values())


@pytest.mark.parametrize("name", ["mobilenet_v2_tiny", "resnet_tiny", "xception_tiny"])
@pytest.mark.parametrize("upsampler", ["jpu", "none"])
def test_every_family_of_backbones_works(name, upsampler, tiny):
    assert name in BACKBONES
    model = tiny(backbone=name, upsampler=upsampler).build(3)
    assert model(_image(1, 33, 50), training=False).shape == (1, 33, 50, 3)


@pytest.mark.parametrize("size", [(1, 1), (8, 200), (64, 64)])
@pytest.mark.parametrize("head", ["encoding", "psp"])
def test_logits_have_the_images_size(size, head, tiny):
    logits = tiny(head=head).build(3)(_image(1, *size), training=False)
    assert logits.shape == (1, *size, 3)
    assert np.all(np.isfinite(logits))


@pytest.mark.parametrize(
    ("options", "stride"),
    [
        ({"upsampler": "none"}, 8),
        ({"upsampler": "none", "output_stride": 32}, 32),
        ({"upsampler": "bilinear"}, 8),
        ({"upsampler": "fpn"}, 8),
        ({"upsampler": "jpu"}, 8),
        ({"upsampler": "jpu_x"}, 8),
        ({"upsampler": "jpu", "head": "deeplab"}, 4),
    ],
)
def test_classifier_sees_the_promised_stride(options, stride, tiny):
    model = tiny(**options).build(3, (64, 64, 3))
    assert model.get_layer("head_logits").output.shape[1] == 64 // stride


def test_jpu_gives_stride_8_for_odd_sizes_too(tiny):
    model = tiny().build(3, (131, 190, 3))
    assert model.get_layer("head_logits").output.shape[1:3] == (17, 24)


# code: the released networks' parameters at 59 classes, without the classifier of ImageNet
@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ({}, 47.394769),
        ({"upsampler": "jpu_x"}, 47.378385),
        ({"upsampler": "none"}, 36.047825),
        ({"upsampler": "bilinear"}, 36.047825),
        ({"head": "aspp"}, 61.88),
        ({"head": "psp"}, 68.85),
        ({"head": "psp", "upsampler": "none"}, 49.11),
        ({"backbone": "resnet101_deep_stem"}, 66.39),
    ],
)
def test_parameters_are_those_of_the_released_networks(options, millions):
    model = FastFCNConfig(**options).build(59, auxiliary=True)
    count = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    digits = 2 if millions == round(millions, 2) else 6
    assert round(count / 1e6, digits) == millions


def test_options_make_the_layers_they_name(tiny):
    def names(**options):
        return {layer.name for layer in tiny(**options).build(3, auxiliary=True).layers}

    assert "jpu_final_conv" in names(upsampler=JPU(channels=8, final_conv=True))
    assert "jpu_final_conv" not in names()
    assert not any(name.startswith("aux_") for name in names(aux_weight=0.0))
    lateral = Encoding(channels=8, lateral=True)
    assert "head_lateral_fusion" in names(upsampler="none", head=lateral)


@pytest.mark.parametrize(
    ("upsampler", "options", "kernel_size"),
    [("jpu", {}, 1), ("none", {}, 3), ("bilinear", {}, 3), ("none", {"kernel_size": 1}, 1)],
)
def test_encoding_heads_first_kernel_is_1_after_jpu(upsampler, options, kernel_size, tiny):
    config = tiny(upsampler=upsampler, head=Encoding(channels=8, **options))
    layer = config.build(3).get_layer("head_conv")
    assert layer.kernel_size == (kernel_size, kernel_size)


def test_weights_depend_on_neither_output_stride_nor_size(tiny):
    reference = _shapes(tiny(upsampler="none").build(3))
    assert _shapes(tiny(upsampler="none", output_stride=32).build(3)) == reference
    assert _shapes(tiny(upsampler="none").build(3, (65, 65, 3))) == reference


def test_plain_form_gives_the_logits_of_the_training_form_from_its_checkpoint(tmp_path, tiny):
    training = tiny().build(3, auxiliary=True)
    Checkpointer(str(tmp_path), training).save(1)
    plain = tiny().build(3)
    Checkpointer(str(tmp_path), plain).restore(1)
    x = _image(1, 33, 33)
    np.testing.assert_array_equal(plain(x, training=False), training(x, training=False)["logits"])


def test_every_weight_gets_a_gradient(tiny):
    config = tiny(head=Encoding(channels=8, dropout=0.0))
    model = config.build(3, auxiliary=True)
    losses = config.losses(
        lambda label, logits: (tf.reduce_sum(logits[..., 0] * tf.sin(tf.cast(label, "float32"))), 1)
    )
    label = tf.reshape(tf.range(2 * 64 * 64) % 3, [2, 64, 64])
    with tf.GradientTape() as tape:
        outputs = model(_image(2, 64, 64), training=True)
        loss = tf.add_n([w * fn(label, outputs[n])[0] for n, (fn, w) in losses.items()])
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert all(g is not None and np.all(np.isfinite(g)) for g in gradients)


def test_losses_are_those_of_the_outputs_with_the_released_weights(tiny, loss):
    no_se = Encoding(channels=8, se_weight=0.0)
    for options in ({}, {"aux_weight": 0.0}, {"head": no_se}, {"head": "psp"}):
        config = tiny(**options)
        assert config.losses(loss).keys() == config.build(3, auxiliary=True).output.keys()
    weights = {name: weight for name, (_, weight) in tiny().losses(loss).items()}
    assert weights == {"logits": 1.0, "aux_logits": 0.2, "se_logits": 0.2}


def test_the_auxiliary_head_drops_what_the_head_drops(tiny):
    model = tiny(head=Encoding(channels=8, dropout=0.3)).build(3, auxiliary=True)
    assert model.get_layer("aux_logits_dropout").rate == 0.3


def test_keras_file_round_trip_is_exact(tmp_path, tiny):
    for head in ("encoding", "psp"):
        model = tiny(head=head).build(3)
        model.save(tmp_path / "m.keras")
        x = _image(1, 33, 33)
        loaded = keras.models.load_model(tmp_path / "m.keras")
        np.testing.assert_array_equal(loaded(x, training=False), model(x, training=False))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("head", ["encoding", "psp"])
def test_half_precision_gives_about_the_same_float32_logits(policy, head, tiny):
    full = tiny(head=head).build(3, auxiliary=True)
    keras.config.set_dtype_policy(policy)
    try:
        half = tiny(head=head).build(3, auxiliary=True)
    finally:
        keras.config.set_dtype_policy("float32")
    fit_weights(half, {name: weight.numpy() for name, weight in weights_by_name(full).items()})
    x = _image(1, 65, 65)
    expected, computed = full(x, training=False), half(x, training=False)
    for name, value in expected.items():
        assert computed[name].dtype == "float32"
        np.testing.assert_allclose(computed[name], value, atol=0.05 * np.abs(value).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_stride": 4}, r"output_stride must be 8\|16\|32, or none; got 4"),
        ({"output_stride": 8}, "output_stride must be 32 before upsampler jpu, .*; got 8"),
        ({"head": Encoding(lateral=True)}, r"head\.lateral must be false unless .* got .* 32"),
        ({"aux_weight": -1.0}, "aux_weight must be at least 0; got -1.0"),
        ({"upsampler": "jpux"}, "unknown upsampler 'jpux'.*Did you mean 'jpu_x'"),
        ({"head": "encodin"}, "unknown head 'encodin'.*Did you mean 'encoding'"),
        ({"head": JPU()}, f"head must be one of {', '.join(HEADS)}; got JPU"),
    ],
)
def test_bad_options_are_refused_before_anything_is_built(options, message):
    with pytest.raises(ValueError, match=message):
        FastFCN(3, **options)


def test_one_class_is_refused(tiny):
    with pytest.raises(ValueError, match="num_classes must be an integer of 2 to 65535; got 1"):
        tiny().build(1)
