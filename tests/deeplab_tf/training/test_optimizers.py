"""Updates, weight decay and rate factors."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.training.optimizers import (
    OPTIMIZERS,
    SGD,
    AdamW,
    decay_factors,
    learning_rate_factors,
)
from deeplab_tf.weights import deeplab_tf1, fit_weights

_RATES = (0.1, 0.05, 0.2, 0.01, 0.3)


def _small_model() -> keras.Model:
    """A kernel and a bias, called logits."""
    image = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(2, 1, name="logits", bias_initializer="ones")
    model = keras.Model(image, layer(image))
    start = np.linspace(-1, 2, 6, dtype=np.float32)
    layer.kernel.assign(start.reshape(layer.kernel.shape))
    return model


def _gradients(step: int) -> list[np.ndarray]:
    rng = np.random.default_rng(step)
    return [rng.normal(size=(1, 1, 3, 2)), 100 * rng.normal(size=2)]


def _trained(options) -> list[np.ndarray]:
    """The kernel and the bias after five updates."""
    model = _small_model()
    built = options.build(model)
    for step, rate in enumerate(_RATES):
        gradients = [tf.constant(g, tf.float32) for g in _gradients(step)]
        built.apply(built.prepared(gradients)[0], tf.constant(rate))
    return [variable.numpy() for variable in model.trainable_variables]


def _expected(update, **factors) -> list[np.ndarray]:
    """The same in float64.

    Args:
      update: (weight, gradient, step, state) -> the change at a rate of 1; may write to the state.
      **factors: of the rates of kernel and bias.
    """
    found = []
    for i, variable in enumerate(_small_model().trainable_variables):
        weight, state = variable.numpy().astype(np.float64), {}
        for step, rate in enumerate(_RATES):
            change = update(weight, _gradients(step)[i], step, state)
            weight = weight - rate * factors.get(variable.name, 1.0) * change
        found.append(weight)
    return found


def _assert_close(found, expected, rtol):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)


def test_sgd_keeps_the_rate_out_of_the_velocity():
    def update(weight, gradient, step, state):
        state["v"] = 0.5 * state.get("v", 0) + gradient
        return state["v"]

    _assert_close(_trained(SGD(momentum=0.5, weight_decay=0.0)), _expected(update), 1e-5)


def test_sgd_adds_the_gradient_of_the_l2_term_to_what_decays():
    def update(weight, gradient, step, state):
        kernel = weight.ndim == 4
        state["v"] = 0.5 * state.get("v", 0) + gradient + 0.25 * kernel * weight
        return state["v"]

    _assert_close(_trained(SGD(momentum=0.5, weight_decay=0.25)), _expected(update), 1e-5)


def test_nesterov_momentum_looks_one_step_ahead():
    def update(weight, gradient, step, state):
        state["v"] = 0.5 * state.get("v", 0) + gradient
        return gradient + 0.5 * state["v"]

    options = SGD(momentum=0.5, nesterov=True, weight_decay=0.0)
    _assert_close(_trained(options), _expected(update), 1e-5)


@pytest.mark.parametrize("decay_on", ["kernels", "all"])
@pytest.mark.parametrize(("beta_1", "beta_2", "epsilon"), [(0.9, 0.999, 1e-8), (0.5, 0.7, 0.1)])
def test_adamw_equals_its_paper_in_float64(beta_1, beta_2, epsilon, decay_on):
    def update(weight, gradient, step, state):
        state["m"] = beta_1 * state.get("m", 0) + (1 - beta_1) * gradient
        state["v"] = beta_2 * state.get("v", 0) + (1 - beta_2) * gradient**2
        mean = state["m"] / (1 - beta_1 ** (step + 1))
        square = state["v"] / (1 - beta_2 ** (step + 1))
        decays = decay_on == "all" or weight.ndim == 4
        return mean / (np.sqrt(square) + epsilon) + 0.25 * decays * weight

    options = AdamW(
        beta_1=beta_1,
        beta_2=beta_2,
        epsilon=epsilon,
        weight_decay=0.25,
        decay_on=decay_on,
        lr_multipliers=(("logits/bias", 2.0),),
    )
    # 1 - 0.999 in float32 is off by 5e-5, and its root is part of the first change.
    _assert_close(_trained(options), _expected(update, bias=2.0), 3e-5)


def test_adamws_decay_does_not_pass_through_the_gradients():
    model = _small_model()
    gradients = [tf.constant(g, tf.float32) for g in _gradients(0)]
    found, _ = AdamW(weight_decay=0.25, decay_on="all").build(model).prepared(gradients)
    for ours, given in zip(found, gradients, strict=True):
        np.testing.assert_array_equal(ours, given)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_continues_from_its_slots(kind):
    whole = _trained(OPTIMIZERS[kind]())
    model = _small_model()
    built = OPTIMIZERS[kind]().build(model)
    for step, rate in enumerate(_RATES):
        if step == 2:
            saved = [variable.numpy() for variable in (*model.trainable_variables, *built.slots)]
            model = _small_model()
            built = OPTIMIZERS[kind]().build(model)
            assert all(np.all(slot.numpy() == 0) for slot in built.slots)
            for variable, value in zip((*model.weights, *built.slots), saved, strict=True):
                variable.assign(value)
        gradients = [tf.constant(g, tf.float32) for g in _gradients(step)]
        built.apply(built.prepared(gradients)[0], tf.constant(rate))
    for ours, expected in zip(model.trainable_variables, whole, strict=True):
        np.testing.assert_array_equal(ours.numpy(), expected)


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (SGD, {"momentum": 1.0}, "momentum must be below 1; got 1.0."),
        (SGD, {"weight_decay": -1e-4}, "weight_decay must be at least 0; got -0.0001."),
        (SGD, {"decay_on": "biases"}, "decay_on must be kernels|all; got 'biases'."),
        (SGD, {"lr_multipliers": (("a", -1.0),)}, "lr_multipliers must be at least 0; got "),
        (AdamW, {"beta_1": 1.0}, "beta_1 must be below 1; got 1.0."),
        (AdamW, {"beta_2": -0.1}, "beta_2 must be at least 0; got -0.1."),
        (AdamW, {"epsilon": 0.0}, "epsilon must be above 0; got 0.0."),
    ],
)
def test_a_bad_value_is_refused(cls, values, message):
    with pytest.raises(ValueError) as error:
        cls(**values)
    assert str(error.value).startswith(message)


@pytest.fixture(scope="module")
def model():
    return DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny").build(3)


def test_kernels_alone_decay_as_in_deeplabs_code(model):
    factors = decay_factors(model, SGD(weight_decay=0.5, decay_on="kernels"))
    names = {v.path for v, factor in zip(model.trainable_variables, factors, strict=True) if factor}
    assert set(factors) == {0.0, 0.5}
    assert {"logits/kernel", "aspp_conv0/kernel", "backbone_block1_expand/kernel"} <= names
    assert not any("depthwise/" in name or "_bn/" in name or "bias" in name for name in names)


def test_everything_decays_as_in_fastfcns_code(model):
    factors = decay_factors(model, SGD(weight_decay=0.5, decay_on="all"))
    assert factors == [0.5] * len(model.trainable_variables)


def test_longest_prefix_decides_the_rate_factor(model):
    factors = learning_rate_factors(
        model, [("backbone_", 0.1), ("backbone_block0", 0.5), ("logits/bias", 2.0)]
    )
    by_path = {v.path: f for v, f in zip(model.trainable_variables, factors, strict=True)}
    assert by_path["backbone_conv/kernel"] == 0.1
    assert by_path["backbone_block0_depthwise/kernel"] == 0.5
    assert by_path["logits/bias"] == 2.0
    assert by_path["logits/kernel"] == 1.0
    assert by_path["aspp_conv0/kernel"] == 1.0


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_prefix_of_no_layer_is_refused(model, kind):
    options = OPTIMIZERS[kind](lr_multipliers=(("head", 10.0),))
    with pytest.raises(ValueError, match=r"no trainable weight begins with \['head'\]; .*backbone"):
        options.build(model)


_LAST_LAYERS = ("logits", "image_pooling", "aspp", "concat_projection", "decoder")


@pytest.mark.parametrize(
    "fixture",
    [
        "01_xception_65_os16",
        "04_xception_41_os16",
        "05_resnet_v1_101_beta_os16_decoder",
        "06_resnet_v1_50_beta_os16_decoder",
        "08_mobilenet_v2_os16_released",
        "09_mobilenet_v2_os8_aspp_decoder",
        "12_resnet_v1_50_beta_os16_separable",
        "15_mobilenet_v2_dm05_os16",
        "18_xception_65_os32",
    ],
)
def test_decay_and_rate_factors_fall_on_the_released_codes_variables(shared_dir, fixture):
    text = (shared_dir / "reference" / "deeplab" / f"{fixture}.json").read_text()
    variables = json.loads(text)["variables"]
    # Each variable holds its own number, so that a weight of ours tells where it came from.
    numbers = {
        v["name"]: np.broadcast_to(np.float32(i), v["shape"]) for i, v in enumerate(variables)
    }
    found = deeplab_tf1.recognize(numbers, {})
    model = DeepLabV3PlusConfig(**found.known).build(found.num_classes)
    fit_weights(model, deeplab_tf1.to_our_names(numbers, model))
    # code: by parts of the name, 10 for the last layers, twice that for their biases
    multipliers = [("aspp_", 10.0), ("logits", 10.0), ("logits/bias", 20.0)]
    if found.known["decoder"]:
        multipliers.append(("decoder_", 10.0))
    factors = learning_rate_factors(model, multipliers)
    decays = decay_factors(model, SGD(weight_decay=1.0, decay_on="kernels"))
    seen = set()
    for weight, factor, decay in zip(model.trainable_variables, factors, decays, strict=True):
        released = variables[int(weight.numpy().flat[0])]
        name = released["name"]
        assert bool(decay) == released["l2"], name
        last = any(part in name for part in _LAST_LAYERS)
        assert factor == (10.0 if last else 1.0) * (2.0 if "biases" in name else 1.0), name
        seen.add(name)
    assert seen == {v["name"] for v in variables if "/moving_" not in v["name"]}
