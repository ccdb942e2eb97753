"""FastFCN: every combination of its parts, and what a builder may not change."""

import typing

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.backbones import BACKBONES
from deeplab_tf.training.checkpoints import Checkpointer
from deeplab_tf.weights import fit_weights, weights_by_name
from jpu_tf.heads import HEADS
from jpu_tf.model import FastFCN
from jpu_tf.upsamplers import UPSAMPLERS


def _image(*shape: int) -> np.ndarray:
    values = np.arange(np.prod(shape) * 3, dtype=np.float32)
    return (127.5 + 127.5 * np.sin(values * 0.7)).reshape(*shape, 3)


def _tiny(**options) -> FastFCN:
    sizes = {"backbone": "resnet_deep_stem_tiny", "head_channels": 8, "upsampler_channels": 8}
    if options.get("upsampler") == "jpu_x":
        sizes["upsampler_channels"] = 64
    return FastFCN(**{**sizes, **options})


def _shapes(model) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights_by_name(model).items()}


def test_options_name_the_rows_of_the_tables():
    hints = typing.get_type_hints(FastFCN)
    assert set(typing.get_args(hints["upsampler"])) == UPSAMPLERS.keys()
    assert set(typing.get_args(hints["head"])) == HEADS.keys()


@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("upsampler", sorted(UPSAMPLERS))
def test_every_head_runs_on_every_upsampler(upsampler, head):
    model = _tiny(upsampler=upsampler, head=head).build(5, auxiliary=True)
    outputs = model(_image(2, 35, 50), training=False)
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    expected = {"logits": (2, 35, 50, 5), "aux_logits": (2, 35, 50, 5)}
    if head == "encoding":
        expected["se_logits"] = (2, 5)
    assert shapes == expected
    assert all(np.all(np.isfinite(value)) for value in outputs.values())


@pytest.mark.parametrize("name", ["mobilenet_v2_tiny", "resnet_tiny", "xception_tiny"])
@pytest.mark.parametrize("upsampler", ["jpu", "none"])
def test_every_family_of_backbones_works(name, upsampler):
    assert name in BACKBONES
    model = _tiny(backbone=name, upsampler=upsampler).build(3)
    assert model(_image(1, 33, 50), training=False).shape == (1, 33, 50, 3)


@pytest.mark.parametrize("size", [(1, 1), (8, 200), (64, 64)])
@pytest.mark.parametrize("head", ["encoding", "psp"])
def test_logits_have_the_images_size(size, head):
    logits = _tiny(head=head).build(3)(_image(1, *size), training=False)
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
        ({"upsampler": "jpu_x", "upsampler_channels": 64}, 8),
        ({"upsampler": "jpu", "head": "deeplab"}, 4),
    ],
)
def test_classifier_sees_the_promised_stride(options, stride):
    model = _tiny(**options).build(3, (64, 64, 3))
    assert model.get_layer("head_logits").output.shape[1] == 64 // stride


def test_jpu_gives_stride_8_for_odd_sizes_too():
    model = _tiny().build(3, (131, 190, 3))
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
    model = FastFCN(**options).build(59, auxiliary=True)
    count = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    digits = 2 if millions == round(millions, 2) else 6
    assert round(count / 1e6, digits) == millions


def test_options_make_the_layers_they_name():
    def names(**options):
        return {layer.name for layer in _tiny(**options).build(3, auxiliary=True).layers}

    assert "jpu_final_conv" in names(jpu_final_conv=True)
    assert "jpu_final_conv" not in names()
    assert not any(name.startswith("aux_") for name in names(aux_weight=0.0))
    assert "head_se_logits" not in names(se_weight=0.0)
    assert "head_lateral_fusion" in names(upsampler="none", head_lateral=True)


@pytest.mark.parametrize(
    ("options", "kernel_size"),
    [
        ({}, 1),
        ({"upsampler": "none"}, 3),
        ({"upsampler": "bilinear"}, 3),
        ({"upsampler": "none", "head_kernel_size": 1}, 1),
    ],
)
def test_encoding_heads_first_kernel_is_1_behind_jpu(options, kernel_size):
    layer = _tiny(**options).build(3).get_layer("head_conv")
    assert layer.kernel_size == (kernel_size, kernel_size)


def test_weights_depend_on_neither_output_stride_nor_size():
    reference = _shapes(_tiny(upsampler="none").build(3))
    assert _shapes(_tiny(upsampler="none", output_stride=32).build(3)) == reference
    assert _shapes(_tiny(upsampler="none").build(3, (65, 65, 3))) == reference


def test_plain_form_gives_the_logits_of_the_training_form_from_its_checkpoint(tmp_path):
    training = _tiny().build(3, auxiliary=True)
    Checkpointer(str(tmp_path), training).save(1)
    plain = _tiny().build(3)
    Checkpointer(str(tmp_path), plain).restore(1)
    x = _image(1, 33, 33)
    np.testing.assert_array_equal(plain(x, training=False), training(x, training=False)["logits"])


def test_every_weight_gets_a_gradient():
    model = _tiny(dropout=0.0).build(3, auxiliary=True)
    losses = _tiny().losses(
        lambda label, logits: (tf.reduce_sum(logits[..., 0] * tf.sin(tf.cast(label, "float32"))), 1)
    )
    label = tf.reshape(tf.range(2 * 64 * 64) % 3, [2, 64, 64])
    with tf.GradientTape() as tape:
        outputs = model(_image(2, 64, 64), training=True)
        loss = tf.add_n([w * fn(label, outputs[n])[0] for n, (fn, w) in losses.items()])
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert all(g is not None and np.all(np.isfinite(g)) for g in gradients)


def test_losses_are_those_of_the_outputs_with_the_released_weights():
    def pixel_loss(label, logits):
        raise NotImplementedError

    for options in ({}, {"aux_weight": 0.0}, {"se_weight": 0.0}, {"head": "psp"}):
        config = _tiny(**options)
        assert config.losses(pixel_loss).keys() == config.build(3, auxiliary=True).output.keys()
    weights = {name: weight for name, (_, weight) in _tiny().losses(pixel_loss).items()}
    assert weights == {"logits": 1.0, "aux_logits": 0.2, "se_logits": 0.2}


def test_head_drops_whole_channels():
    model = _tiny(dropout=0.5, head="fcn").build(3)
    dropout = model.get_layer("head_logits_dropout")
    dropped = np.asarray(dropout(np.ones((1, 4, 4, 64), np.float32), training=True))
    assert set(dropped.reshape(16, 64).sum(axis=0)) == {0.0, 32.0}


def test_keras_file_round_trip_is_exact(tmp_path):
    for head in ("encoding", "psp"):
        model = _tiny(head=head).build(3)
        model.save(tmp_path / "m.keras")
        x = _image(1, 33, 33)
        loaded = keras.models.load_model(tmp_path / "m.keras")
        np.testing.assert_array_equal(loaded(x, training=False), model(x, training=False))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("head", ["encoding", "psp"])
def test_half_precision_gives_about_the_same_float32_logits(policy, head):
    full = _tiny(head=head).build(3, auxiliary=True)
    keras.config.set_dtype_policy(policy)
    try:
        half = _tiny(head=head).build(3, auxiliary=True)
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
        ({"output_stride": 4}, "output_stride must be 8, 16 or 32; got 4"),
        ({"output_stride": 8}, "output_stride must be 32 before upsampler jpu"),
        ({"upsampler": "fpn", "jpu_final_conv": True}, "jpu_final_conv needs upsampler jpu"),
        ({"head": "psp", "head_kernel_size": 1}, "head_kernel_size needs head encoding"),
        ({"head_kernel_size": 2}, "head_kernel_size must be 1 or 3"),
        ({"head_lateral": True}, "head_lateral needs head encoding and features of one size"),
        ({"head": "psp", "se_weight": 0.2}, "head psp has no semantic encoding"),
        ({"aux_weight": -1.0}, "aux_weight must not be negative"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"head_channels": 0}, "head_channels must be at least 1"),
    ],
)
def test_bad_options_are_refused_before_anything_is_built(options, message):
    with pytest.raises(ValueError, match=message):
        FastFCN(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upsampler": "jpux"}, "unknown upsampler 'jpux'.*Did you mean 'jpu_x'"),
        ({"head": "encodin"}, "unknown head 'encodin'.*Did you mean 'encoding'"),
        ({"upsampler": "jpu_x", "upsampler_channels": 96}, "a multiple of 64; got 96"),
    ],
)
def test_what_the_tables_do_not_have_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _tiny(**options).build(3)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="num_classes must be at least 2; got 1"):
        _tiny().build(1)
