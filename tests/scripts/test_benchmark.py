import os
import pathlib
import subprocess
import sys

import benchmark_formats
import benchmark_speed
import pytest

from deeplab_tf.export import EXPORTERS
from deeplab_tf.model import DeepLabV3PlusConfig

ROOT = pathlib.Path(__file__).parent.parent.parent


def run(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "one of --model and --recipe"),
        (["--model=fastfcn", "--recipe=quickstart_shapes"], "one of --model and --recipe"),
        (["--recipe=quickstart_shape"], "Did you mean 'quickstart_shapes'?"),
        (["--model=deeplabv3plus", "--model.output_stride=9"], "expected 8|16|32; got '9'"),
        (["--model=fastfcn", "--model.separable=true"], "does not apply to model fastfcn"),
        (["--model=deeplabv3plus", "--width=0"], "--width"),
        (["--model=fastfcn", "--against=stock_keras", "--sizes=65"], "not both"),
        (["--model=fastfcn", "--against=keras"], "--against"),
        (["--model=fastfcn", "--against=stock_keras", "--precision=mixed_float16"], "in float32"),
        (["--model=fastfcn", "--sizes=65,x"], "--sizes must be one or more numbers"),
        (["--model=fastfcn", "--sizes="], "--sizes must be one or more numbers"),
        (["--model=fastfcn", "--sizes=65", "--height=65"], "leave --height and --width out"),
        (["--formats", "--model=fastfcn"], "--formats is of a trained network; leave --model out"),
        (["--formats", "--workdir=x"], "--images must be given"),
        (["--model=fastfcn", "--images=x"], "--workdir and --images are for --formats"),
    ],
)
def test_a_mistake_is_one_line_before_tensorflow_is_imported(flags, message):
    done = run(*flags)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


def test_a_measurement_has_speed_and_memory_of_inference_and_training(monkeypatch):
    monkeypatch.setattr(benchmark_speed, "_ROUND_SECONDS", 0.05)
    inference, training = benchmark_speed.measure(
        DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", atrous_rates=(1,), decoder=False),
        num_classes=3,
        image_size=(33, 49),
        batch_size=2,
        rounds=1,
    )
    assert (inference.name, training.name) == ("inference", "training step")
    assert inference.parameters == training.parameters > 1000
    assert inference.multiply_adds == training.multiply_adds > 1e6
    assert inference.images_per_second[0] > 0 and training.images_per_second[0] > 0
    assert training.peak_memory >= inference.peak_memory > 1e6


def test_speed_is_given_as_the_median_with_slowest_and_fastest():
    measured = benchmark_speed.Measurement(
        name="inference",
        parameters=1,
        multiply_adds=1,
        images_per_second=(30.0, 10.0, 20.123),
        peak_memory=1,
    )
    assert measured.speed_text() == "20.1 (10 to 30)"


def test_formats_are_compared_within_a_round():
    seconds, reference = (0.002, 0.4, 0.006), (0.001, 0.1, 0.001)
    # Not 6, the ratio of the medians.
    assert benchmark_formats.cells(seconds, reference) == ("6.0", "4.00", "3.00 to 5.00")


def test_every_export_format_has_a_row():
    rows = benchmark_formats.formats()
    kinds = {kind for kind, _ in rows.values()}
    assert kinds | {"onnx"} == set(EXPORTERS)
    assert {"litert float32", "litert float16", "litert int8"} <= rows.keys()
