"""What JPU rests on (FastFCN Sec. 3.3.1 and 3.3.2), and what every upsampler gives."""

import keras
import numpy as np
import pytest

from deeplab_tf.backbones import Features
from deeplab_tf.layers import NormConfig, conv
from deeplab_tf.weights import weights_by_name
from jpu_tf.upsamplers import FPN, JPU, JPUX, UPSAMPLERS, Bilinear, NoUpsampling

NORM = NormConfig(momentum=0.9, epsilon=1e-5)


def _conv(kernel, *, stride=1, rate=1):
    """x -> x convolved with `kernel` by the layer that the networks use."""
    image = keras.Input((None, None, kernel.shape[2]))
    outputs = conv(image, kernel.shape[3], 3, stride=stride, rate=rate, symmetric=True, name="c")
    model = keras.Model(image, outputs)
    model.get_layer("c").kernel.assign(kernel)
    return lambda x: np.asarray(model(x, training=False))


def _split(x):
    """S of Fig. 3a in two dimensions: the four maps of one parity of row and column each."""
    return [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]


def _merge(parts):
    """M of Fig. 3a, the inverse of `_split`."""
    _, height, width, channels = parts[0].shape
    whole = np.zeros((1, 2 * height, 2 * width, channels), np.float32)
    for part, (i, j) in zip(parts, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
        whole[:, i::2, j::2] = part
    return whole


@pytest.fixture
def x():
    return np.sin(np.arange(12 * 16 * 2) * 0.7).reshape(1, 12, 16, 2).astype(np.float32)


@pytest.fixture
def kernels():
    return [
        np.cos(np.arange(36) * (0.3 + 0.1 * n)).reshape(3, 3, 2, 2).astype(np.float32)
        for n in range(3)
    ]


def test_dilated_conv_is_split_conv_merge(x, kernels):
    """Fig. 3a."""
    regular, dilated = _conv(kernels[0]), _conv(kernels[0], rate=2)
    np.testing.assert_allclose(_merge([regular(p) for p in _split(x)]), dilated(x), atol=1e-5)


def test_strided_conv_is_conv_reduce(x, kernels):
    """Fig. 3b: R keeps the even elements."""
    regular, strided = _conv(kernels[0]), _conv(kernels[0], stride=2)
    np.testing.assert_allclose(strided(x), regular(x)[:, ::2, ::2], atol=1e-5)


def test_dilated_stage_is_the_strided_one_on_every_part_of_the_split(x, kernels):
    """Eq. 2 and 3: both stages are C_r^n, of all parts of y_m there and of the first here."""
    first, *rest = kernels
    y_m = _conv(first)(x)

    def regular_convs(part):
        for kernel in rest:
            part = _conv(kernel)(part)
        return part

    y_d = y_m
    for kernel in rest:
        y_d = _conv(kernel, rate=2)(y_d)
    y_s = regular_convs(_conv(first, stride=2)(x))

    np.testing.assert_allclose(_merge([regular_convs(p) for p in _split(y_m)]), y_d, atol=1e-3)
    np.testing.assert_allclose(y_s, regular_convs(_split(y_m)[0]), atol=1e-3)
    np.testing.assert_allclose(y_s, y_d[:, ::2, ::2], atol=1e-3)


def _features():
    conv3, conv4, conv5 = (keras.Input((s, s, c)) for s, c in ((17, 6), (9, 8), (5, 10)))
    return Features({"conv2": conv3}, conv2=conv3, conv3=conv3, conv4=conv4, conv5=conv5)


def _model(upsampler):
    features = _features()
    inputs = [features.conv3, features.conv4, features.conv5]
    return keras.Model(inputs, upsampler.build(features, norm=NORM))


@pytest.mark.parametrize("kind", UPSAMPLERS)
def test_an_upsampler_gives_the_size_of_conv3_from_its_output_stride(kind, small):
    upsampler = small(UPSAMPLERS[kind])
    model = _model(upsampler)
    dilates = upsampler.output_strides[0] == 8
    assert model.output.shape[1:3] == ((5, 5) if dilates else (17, 17))
    prefixes = {name.split("_")[0] + "_" for name in weights_by_name(model)}
    assert prefixes == set(upsampler.prefixes)
    assert upsampler.head_kernel_size in (1, 3)


@pytest.mark.parametrize(
    ("upsampler", "channels"),
    [
        (NoUpsampling(), 10),
        (Bilinear(), 10),
        (FPN(channels=64), 64),
        (JPU(channels=64), 4 * 64),
        (JPU(channels=64, final_conv=True), 64),
        (JPUX(channels=64), 4 * 64),
    ],
)
def test_channels_of_the_upsampled_features(upsampler, channels):
    assert _model(upsampler).output.shape[-1] == channels


def test_jpu_joins_from_coarse_to_fine_and_has_no_activation_inside_its_branches():
    model = _model(JPU(channels=4))
    joined = model.get_layer("jpu_concat").input
    assert [t is model.get_layer(n).output for t, n in zip(
        joined, ("jpu_conv5_resize", "jpu_conv4_resize", "jpu_conv3_relu"), strict=True
    )] == [True] * 3  # fmt: skip
    for i, rate in enumerate((1, 2, 4, 8), start=1):
        assert model.get_layer(f"jpu_branch{i}_depthwise").dilation_rate == (rate, rate)
        before = model.get_layer(f"jpu_branch{i}_depthwise_bn").output
        assert model.get_layer(f"jpu_branch{i}_pointwise").input is before


def test_jpu_x_needs_whole_groups():
    with pytest.raises(ValueError, match="channels must be a multiple of 64.*got 96"):
        JPUX(channels=96)


def test_bilinear_aligns_corners():
    conv5 = np.arange(4.0, dtype=np.float32).reshape(1, 2, 2, 1)
    features = _features()
    features = features._replace(conv3=keras.Input((5, 5, 1)), conv5=keras.Input((2, 2, 1)))
    output = Bilinear().build(features, norm=NORM)
    model = keras.Model([features.conv3, features.conv5], output)
    output = model([np.zeros((1, 5, 5, 1), np.float32), conv5])
    rows, columns = np.mgrid[0:5, 0:5] / 4
    np.testing.assert_allclose(output[0, :, :, 0], 2 * rows + columns, atol=1e-6)
