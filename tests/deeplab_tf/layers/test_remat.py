"""Rematerialization: the same step, without what the backbone computes between its segments."""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.layers import NormConfig, batch_norm, conv, relu
from deeplab_tf.layers.remat import rematerialized
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.training.devices.strategy import make_strategy
from deeplab_tf.weights import weights_by_name
from jpu_tf.heads import FCN
from jpu_tf.model import FastFCNConfig

_IMAGE = np.random.default_rng(0).uniform(0, 255, (4, 33, 33, 3)).astype(np.float32)
_TWO = ("CPU:0", "CPU:1")
# Of two replicas: their gradients are added in another order.
_ROUNDING = {"float32": 2e-6, "mixed_bfloat16": 2**-7, "mixed_float16": 2**-9}
_HEAD = {"aspp_channels": 8, "low_level_channels": 4, "decoder_convs": ((3, 8),)}


def _network(statistics="synchronized", units=4):
    """Residual units, of which the head reads the first and the last; the head drops."""
    norm = NormConfig(momentum=0.9, epsilon=1e-3, statistics=statistics)
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 255, name="backbone_rescale")(image)
    x = conv(x, 8, 3, stride=2, name="backbone_conv")
    outputs = []
    for i in range(units):
        residual = relu(batch_norm(x, norm, f"backbone_{i}_bn"), f"backbone_{i}_relu")
        residual = conv(residual, 8, 3, name=f"backbone_{i}_conv")
        x = keras.layers.Add(name=f"backbone_{i}_add")([x, residual])
        outputs.append(x)
    x = keras.layers.Concatenate(name="concat")([outputs[0], outputs[-1]])
    x = keras.layers.Dropout(0.5, name="dropout")(batch_norm(x, norm, "concat_bn"))
    logits = keras.layers.Conv2D(3, 1, dtype="float32", name="logits")(x)
    return keras.Model(image, {"logits": logits})


def _deeplab(backbone, **options):
    config = DeepLabV3PlusConfig(
        backbone=backbone, atrous_rates=(1,), batch_norm_momentum=0.9, **_HEAD, **options
    )
    return lambda: config.build(3, auxiliary=True)


def _fastfcn(backbone):
    config = FastFCNConfig(backbone=backbone, head=FCN(channels=8), batch_norm_momentum=0.9)
    return lambda: config.build(3, auxiliary=True)


def _loss(outputs):
    """A loss on whose value the gradient depends."""
    return tf.square(tf.add_n([tf.reduce_mean(v**2) for v in tf.nest.flatten(outputs)]))


def _step(build, remat, devices=("CPU:0",)):
    """Outputs, gradients, weights after one step that updates the moving statistics alone."""
    strategy = make_strategy("mirrored", devices)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = build()
    forward = rematerialized(model) if remat else lambda image: model(image, training=True)
    variables = [variable.value for variable in model.trainable_variables]

    def gradients_of_replica(image):
        with tf.GradientTape() as tape:
            outputs = forward(image)
            loss = _loss(outputs)
        gradients = tape.gradient(loss, variables)
        return outputs, tf.distribute.get_replica_context().all_reduce("SUM", gradients)

    @tf.function
    def step(image):
        return strategy.run(gradients_of_replica, args=(image,))

    before = {name: weight.numpy() for name, weight in weights_by_name(model).items()}
    data = tf.data.Dataset.from_tensor_slices(_IMAGE).batch(len(_IMAGE))
    outputs, gradients = step(next(iter(strategy.experimental_distribute_dataset(data))))
    outputs, gradients = (
        tf.nest.map_structure(strategy.experimental_local_results, each)
        for each in (outputs, gradients)
    )
    after = {name: weight.numpy() for name, weight in weights_by_name(model).items()}
    changed = {name for name, value in after.items() if (value != before[name]).any()}
    names = [variable.path for variable in model.trainable_variables]
    return {
        **{f"output {k} {i}": each.numpy() for k, v in outputs.items() for i, each in enumerate(v)},
        **{f"gradient {n}": v[0].numpy() for n, v in zip(names, gradients, strict=True)},
        **{f"weight {n}": v for n, v in after.items()},
    }, changed


def _check_equal(build, devices=("CPU:0",), *, tolerance=0.0, updates=True):
    kept, changed = _step(build, False, devices)
    again, changed_again = _step(build, True, devices)
    assert kept.keys() == again.keys()
    largest = max(np.abs(value).max() for name, value in kept.items() if "gradient" in name)
    for name, value in kept.items():
        scale = np.abs(value).max()
        assert scale > 0 or "gradient" not in name
        if "gradient" in name:  # some would be 0 but for rounding
            scale = max(scale, 1e-4 * largest)
        np.testing.assert_allclose(again[name], value, atol=tolerance * scale, rtol=0, err_msg=name)
    assert changed == changed_again
    assert any(name.startswith("backbone") for name in changed) == updates


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"], indirect=True)
def test_a_step_is_bit_equal(policy):
    _check_equal(_network)


def test_a_step_on_two_replicas_is_equal_to_rounding():
    _check_equal(lambda: _network(units=2), _TWO, tolerance=_ROUNDING["float32"])


@pytest.mark.slow  # two replicas take long to trace
@pytest.mark.parametrize("policy", _ROUNDING, indirect=True)
@pytest.mark.parametrize("statistics", ["synchronized", "per_replica"])
def test_a_step_on_two_replicas_is_equal_in_half_precision_too(policy, statistics):
    _check_equal(lambda: _network(statistics), _TWO, tolerance=_ROUNDING[policy])


def test_a_step_is_equal_to_rounding_with_frozen_batch_norm():
    # TensorFlow fuses a convolution and the normalization after it, but not where a gradient reads
    # what is between them. The fused kernels round in another order.
    _check_equal(lambda: _network("frozen"), tolerance=1e-6, updates=False)


def test_layers_that_are_not_trained_stay_as_they_are():
    def build():
        model = _network()
        for layer in model.layers:
            layer.trainable = not layer.name.startswith(("backbone_conv", "backbone_0"))
        return model

    _check_equal(build, tolerance=1e-6)


# Several parts of FastFCN read one map, and their gradients are added in another order.
_NETWORKS = {
    "resnet": (_deeplab("resnet_tiny"), 0.0),
    "xception": (_deeplab("xception_tiny"), 0.0),
    "fastfcn": (_fastfcn("resnet_deep_stem_tiny"), 1e-5),
}


def test_a_step_of_mobilenet_is_bit_equal():
    _check_equal(_deeplab("mobilenet_v2_tiny"))


@pytest.mark.slow  # so large a network takes long to trace
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("name", _NETWORKS)
def test_a_step_of_a_network_is_equal(name, replicas):
    build, tolerance = _NETWORKS[name]
    if replicas == 2:
        tolerance = 1e-4  # rounding grows through the layers
    _check_equal(build, _TWO[:replicas], tolerance=tolerance)


def _function(model, forward):
    """image -> gradients, on one device."""

    @tf.function
    def gradients(image):
        with tf.GradientTape() as tape:
            loss = _loss(forward(image))
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    return gradients


def _elements_kept(function):
    """Elements of the feature maps that are made before the loss and read after it."""
    graph = function.get_concrete_function(tf.constant(_IMAGE)).graph
    operations = graph.get_operations()  # in the order in which they were made
    # The gradient reads what the square at the end of the loss reads.
    after = {next(op for op in operations if op.type == "Square").inputs[0].op}
    for op in operations:
        if any(tensor.op in after for tensor in op.inputs) or after & {*op.control_inputs}:
            after.add(op)
    assert any(op.type == "Conv2DBackpropFilter" for op in after)
    kept = {tensor.ref(): tensor for op in after for tensor in op.inputs if tensor.op not in after}
    return sum(
        tensor.shape.num_elements()
        for tensor in kept.values()
        if tensor.shape.rank == 4 and tensor.shape[0] == len(_IMAGE)
    )


@pytest.mark.parametrize("backbone", ["mobilenet_v2_tiny", "resnet_tiny", "xception_tiny"])
def test_activations_are_not_kept(backbone):
    model = _deeplab(backbone)()
    plain = _elements_kept(_function(model, lambda image: model(image, training=True)))
    remat = _elements_kept(_function(model, rematerialized(model)))
    assert remat < 0.45 * plain


def _normalizations(function):
    """Batch normalizations and their gradients in the graph after TensorFlow's optimizer."""
    from tensorflow.python.eager import context  # no public way leads to the optimized graph

    context.context().enable_run_metadata()
    context.context().enable_graph_collection()
    function(tf.constant(_IMAGE))
    graphs = context.context().export_run_metadata().function_graphs
    context.context().disable_graph_collection()
    context.context().disable_run_metadata()
    types = collections.Counter(n.op for g in graphs for n in g.post_optimization_graph.node)
    own = types["FusedBatchNormV3"] + types["_FusedBatchNormEx"]
    return own, types["FusedBatchNormGradV3"]


def test_optimized_graph_computes_the_backbone_twice():
    model = _network()
    plain = _normalizations(_function(model, lambda image: model(image, training=True)))
    remat = _normalizations(_function(model, rematerialized(model)))
    assert plain == (5, 5)
    assert remat == (5 + 4, 5)


def test_network_without_backbone_is_refused():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(2, 1)(image))
    with pytest.raises(ValueError, match="no layer whose name begins with backbone_"):
        rematerialized(model)


def test_backbone_with_dropout_is_refused():
    image = keras.Input((None, None, 3))
    x = keras.layers.Dropout(0.5, name="backbone_dropout")(conv(image, 2, 1, name="backbone_conv"))
    with pytest.raises(ValueError, match="layer backbone_dropout has a random state"):
        rematerialized(keras.Model(image, {"logits": keras.layers.Conv2D(2, 1)(x)}))
