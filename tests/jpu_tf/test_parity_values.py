"""Weights of FastFCN's released code: recognized, and equal in what they compute."""

import keras
import numpy as np
import parity
import pytest

from deeplab_tf.inference import inference_model
from deeplab_tf.weights import fit_weights
from jpu_tf.heads import ASPP, FCN, PSP, Encoding
from jpu_tf.model import FastFCNConfig
from jpu_tf.upsamplers import JPU, NoUpsampling
from jpu_tf.weights import NAMING

_ENCODING = Encoding(kernel_size=1)
# Case of the released code -> options of its network.
_RELEASED = {
    "01_encnet_resnet50_jpu": {"upsampler": JPU(), "head": _ENCODING},
    "01c_encnet_resnet50_jpu_odd_b2": {"upsampler": JPU(), "head": _ENCODING},
    "03_encnet_resnet50_dilated": {"upsampler": NoUpsampling(), "head": Encoding(kernel_size=3)},
    "04_deeplab_resnet50_jpu": {"upsampler": JPU(), "head": ASPP()},
    "06_psp_resnet50_jpu": {"upsampler": JPU(), "head": PSP()},
    "08_fcn_resnet50_jpu": {"upsampler": JPU(), "head": FCN()},
    "09_encnet_resnet50_jpu_ade20k": {"upsampler": JPU(), "head": _ENCODING},
    "12_encnet_resnet50_os32_none": {"upsampler": NoUpsampling(), "output_stride": 32},
}
_QUICK = ("01_encnet_resnet50_jpu",)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow)  # full-size networks
        for name in _RELEASED
    ],
)
def test_released_weights_are_recognized_and_give_the_released_logits(name, request):
    case = parity.load(request, "fastfcn", name)
    found = NAMING.recognize(case.weights, {})
    # The output stride is not part of the weights.
    stride = _RELEASED[name].get("output_stride")
    options = {**found.assumed, **found.known, "output_stride": stride}
    assert _RELEASED[name].items() <= options.items()
    model = FastFCNConfig(**options).build(found.num_classes, auxiliary=True)
    fit_weights(model, NAMING.to_our_names(case.weights, model))
    outputs = {
        "logits": model.get_layer("head_logits").output,
        "aux_logits": model.get_layer("aux_logits").output,
    }
    if "se_logits" in model.output:
        outputs["se_logits"] = model.output["se_logits"]
    taps = {**outputs, "resized": model.output["logits"]}
    trained = keras.Model(model.input, taps)
    for network in (trained, inference_model(trained)):
        computed = network(case.image, training=False)
        computed = {output: np.asarray(values) for output, values in computed.items()}
        resized = computed.pop("resized")
        case.check(computed, resized)
