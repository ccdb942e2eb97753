import keras
import pytest
import tensorflow as tf

from deeplab_tf.layers.atrous import AtrousConv2D
from deeplab_tf.layers.multiply_adds import multiply_adds
from deeplab_tf.layers.resize import ResizeLike
from deeplab_tf.model import DeepLabV3Plus


def network(*layers, channels=3):
    image = keras.Input((None, None, channels))
    x = image
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: keras.layers.Conv2D(5, 3, padding="same"), 6 * 8 * 9 * 3 * 5),
        (lambda: keras.layers.Conv2D(5, 3), 4 * 6 * 9 * 3 * 5),
        (lambda: keras.layers.Conv2D(5, 3, strides=2, padding="same"), 3 * 4 * 9 * 3 * 5),
        (lambda: keras.layers.Conv2D(6, 1, groups=3, use_bias=False), 6 * 8 * 6),
        (lambda: AtrousConv2D(5, 3, dilation_rate=5, padding="same"), 6 * 8 * 9 * 3 * 5),
        (lambda: keras.layers.DepthwiseConv2D(3, padding="same"), 6 * 8 * 9 * 3),
        (lambda: keras.layers.Dense(7), 6 * 8 * 3 * 7),
        (lambda: keras.layers.MaxPooling2D(2), 0),
    ],
)
def test_a_kernel_counts_once_at_each_output_position(layer, expected):
    assert multiply_adds(network(layer()), (6, 8)) == expected


def test_a_dense_layer_on_a_vector_counts_its_kernel_once():
    model = network(keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(7))
    assert multiply_adds(model, (6, 8)) == 3 * 7


def test_every_scale_and_its_mirror_image_is_counted():
    model = network(keras.layers.Conv2D(5, 1))
    one = 3 * 5
    # code: 5 pixels at half size are 3, with align_corners=True
    assert multiply_adds(model, (5, 9), scales=(0.5, 1.0)) == (3 * 5 + 5 * 9) * one
    assert multiply_adds(model, (5, 9), scales=(0.5,), flip=True) == 2 * 3 * 5 * one


def test_the_papers_way_charges_an_atrous_convolution_for_whole_blocks():
    layer = AtrousConv2D(5, 3, dilation_rate=4, padding="same", use_bias=False)
    kernel = 9 * 3 * 5
    weights = 2 * kernel + 3 * kernel - 1  # initializer and L2
    pixels = 6 * 8 * (4 + 6)  # argmax of 5 classes and mean IoU
    counted = multiply_adds(network(layer), (6, 8), counting="paper")
    assert counted == (2 * (8 * 8 * kernel) + weights + pixels) // 2


def test_the_papers_way_counts_weights_once_and_small_operations_every_time():
    image = keras.Input((None, None, 2))
    x = keras.layers.Rescaling(2.0, offset=-1.0)(image)  # 2 a value
    a = keras.layers.DepthwiseConv2D(3, padding="same")(x)  # a bias: 1 a value
    x = keras.layers.Add()([x, a, a])  # 2 a value
    x = keras.layers.MaxPooling2D(3, strides=2, padding="same")(x)  # 9 a value of 3x4
    x = keras.layers.ReLU()(x)
    x = ResizeLike()([x, image])
    model = keras.Model(image, x)
    a_pass = 2 * (6 * 8 * 2 * 9) + (2 + 1 + 2) * 6 * 8 * 2 + 9 * 3 * 4 * 2
    once = 2 * (9 * 2) + 6 * 8 * (1 + 6)  # the initializer; no decay of depthwise kernels
    for flip in (False, True):
        counted = multiply_adds(model, (6, 8), flip=flip, counting="paper")
        assert counted == ((1 + flip) * a_pass + once) // 2


def test_what_tensorflow_profiles_is_what_is_counted(capfd):
    model = DeepLabV3Plus(
        4,
        (65, 97, 3),
        backbone="mobilenet_v2_tiny",
        output_stride=32,
        atrous_rates=(1,),
        separable=False,
    )
    graph = tf.function(model).get_concrete_function(tf.zeros([1, 65, 97, 3])).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    profile = tf.compat.v1.profiler.profile(graph, cmd="op", options=options)
    operations = {}
    while profile.children:  # nested, the most expensive outside
        (profile,) = profile.children
        operations[profile.name] = profile.float_ops
    convolutions = operations["Conv2D"] + operations["DepthwiseConv2dNative"]
    assert multiply_adds(model, (65, 97)) == convolutions / 2


@pytest.mark.parametrize("backbone", ["mobilenet_v2_tiny", "resnet_tiny", "xception_tiny"])
def test_a_network_built_for_any_size_counts_as_one_built_for_that_size(backbone):
    any_size, one_size = (
        DeepLabV3Plus(3, shape, backbone=backbone, output_stride=8)
        for shape in ((None, None, 3), (65, 50, 3))
    )
    assert multiply_adds(any_size, (65, 50)) == multiply_adds(one_size, (65, 50)) > 0


def test_the_decoder_costs_what_the_paper_says():
    # paper: Tab. 3, 74.20 and 52.43 billion with and without, whatever the depth of the ResNet
    with_decoder, without = (
        multiply_adds(
            DeepLabV3Plus(
                21, backbone="resnet50", output_stride=32, decoder=decoder, separable=False
            ),
            (513, 513),
            counting="paper",
        )
        for decoder in (True, False)
    )
    assert (with_decoder - without) / 1e9 == pytest.approx(74.20 - 52.43, abs=0.01)


def test_resnet101_costs_what_the_paper_says():
    model = DeepLabV3Plus(
        21, backbone="resnet101", output_stride=32, decoder=False, separable=False
    )
    counted = multiply_adds(model, (513, 513), counting="paper")
    assert counted / 1e9 == pytest.approx(52.43, rel=1e-3)  # paper: Tab. 3


class Gate(keras.layers.Layer):
    def call(self, inputs):
        x, gate = inputs
        return x * gate

    def compute_output_shape(self, input_shapes):
        return input_shapes[0]

    def multiply_adds(self, input_shapes):
        (batch, height, width, channels), _ = input_shapes
        return 100 * batch * height * width * channels


def test_a_layer_with_a_method_is_counted_by_it():
    image = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True)(image)
    model = keras.Model(image, Gate()([image, pooled]))
    assert multiply_adds(model, (4, 5)) == 100 * 4 * 5 * 3


class Twice(keras.layers.Conv2D):
    def call(self, inputs):
        return super().call(inputs) + super().call(inputs)


@pytest.mark.parametrize(
    "layer",
    [lambda: keras.layers.Conv2DTranspose(4, 3, name="up"), lambda: Twice(4, 3, name="up")],
)
def test_a_layer_without_a_rule_is_refused(layer):
    with pytest.raises(ValueError, match="no rule for the multiply-adds of up, a (Conv2D|Twice)"):
        multiply_adds(network(layer()), (8, 8))


def test_an_operation_outside_of_layers_is_refused():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.ops.einsum("nhwc,nhwd->nhcd", image, image))
    with pytest.raises(ValueError, match="of einsum, a Einsum"):
        multiply_adds(model, (8, 8))


def test_a_layer_that_is_called_twice_is_refused_rather_than_counted_once():
    layer = keras.layers.Conv2D(3, 3, padding="same", name="shared")
    with pytest.raises(ValueError, match="every layer must be called once"):
        multiply_adds(network(layer, layer), (8, 8))


def test_a_wrong_size_or_way_of_counting_is_refused():
    model = network(keras.layers.ReLU())
    for size, scales in [((0, 8), (1.0,)), ((8, 8), (1.0, -0.5)), ((8, 8), ())]:
        with pytest.raises(ValueError, match="must be positive, and scales one or more"):
            multiply_adds(model, size, scales=scales)
    with pytest.raises(ValueError, match="unknown way of counting 'papers'.*Did you mean 'paper'"):
        multiply_adds(model, (8, 8), counting="papers")


def test_a_model_that_is_not_functional_is_refused():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="only a functional keras.Model"):
        multiply_adds(Subclassed(), (8, 8))
