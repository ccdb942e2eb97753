import keras
import pytest

from deeplab_tf.layers.multiply_adds import multiply_adds
from jpu_tf.heads import HEADS
from jpu_tf.layers import Encoding
from jpu_tf.upsamplers import UPSAMPLERS


def test_an_encoding_layer_multiplies_every_pixel_with_every_codeword_twice():
    image = keras.Input((None, None, 5))
    model = keras.Model(image, Encoding(7)(image))
    assert multiply_adds(model, (4, 6)) == 2 * 4 * 6 * 7 * 5


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
@pytest.mark.parametrize("head", HEADS)
def test_every_network_can_be_counted(upsampler, head, tiny):
    config = tiny(backbone="resnet_tiny", upsampler=upsampler, head=head)
    trained = config.build(4, auxiliary=True)
    model = keras.Model(trained.input, trained.output["logits"])
    logits, everything = (multiply_adds(network, (64, 96)) for network in (model, trained))
    assert 0 < logits < everything  # the auxiliary head costs too
    assert multiply_adds(model, (64, 96), counting="paper") > logits
