import functools
import itertools
import os
import sys
import time

import benchmark_against
import benchmark_engines
import benchmark_sizes
import benchmark_speed
import keras
import numpy as np
import pytest
import tensorflow as tf
from benchmark_stock import stock_network, stock_training_step

from deeplab_tf.backbones import BACKBONES
from deeplab_tf.model import DeepLabV3PlusConfig
from jpu_tf.heads import HEADS
from jpu_tf.model import FastFCNConfig
from jpu_tf.upsamplers import UPSAMPLERS

CLASSES = 3
TINY = DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", atrous_rates=(2,), dropout=0.0)
TINY_FASTFCN = functools.partial(FastFCNConfig, backbone="resnet_deep_stem_tiny")
NETWORKS = {
    **{
        name: DeepLabV3PlusConfig(backbone=name, atrous_rates=(2,))
        for name in BACKBONES
        if name.endswith("_tiny")
    },
    **{
        f"{upsampler} and {head}": TINY_FASTFCN(upsampler=upsampler, head=head)
        for upsampler, head in zip(UPSAMPLERS, itertools.cycle(HEADS))
    },
}
assert len(UPSAMPLERS) >= len(HEADS)  # each is in a network


@pytest.fixture
def image() -> tf.Tensor:
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 33, 49, 3))
    return tf.constant(pixels, tf.float32)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_stock_network_has_no_layer_of_ours_and_gives_the_same_logits(network, image):
    model = benchmark_against.random_network(NETWORKS[network], CLASSES, auxiliary=True)
    stock = stock_network(model)
    modules = {type(each).__module__ for each in [stock, *stock.operations]}
    assert {name for name in modules if not name.startswith("keras.")} <= {"benchmark_stock"}
    assert stock.count_params() == model.count_params()
    ours, theirs = model(image, training=False), stock(image, training=False)
    assert ours.keys() == theirs.keys()
    assert benchmark_against.difference(ours, theirs) < 1e-4
    # Logits that are the same everywhere would agree whatever the layers compute.
    assert np.std(ours["logits"], axis=(1, 2)).max() > 0.01 * np.abs(ours["logits"]).max()


def test_a_difference_is_found_if_the_weights_are_not_those_of_the_network(image):
    model = benchmark_against.random_network(TINY, CLASSES)
    stock = stock_network(model)
    norm = next(x for x in stock.layers if isinstance(x, keras.layers.BatchNormalization))
    norm.moving_variance.assign(norm.moving_variance * 1.1)
    apart = benchmark_against.difference(model(image), stock(image))
    assert apart > benchmark_against.LARGEST_DIFFERENCE


@pytest.mark.slow  # compiles two training steps
@pytest.mark.parametrize("config", [TINY, TINY.replace(upsample_logits=False)])
def test_both_training_steps_have_the_same_loss_and_normalize_with_the_batch(config, image):
    label = np.random.default_rng(2).integers(0, CLASSES, image.shape[:3])
    label[:, :5] = benchmark_speed.IGNORE_LABEL
    batch = {"image": image, "label": tf.constant(label, tf.int32)}
    model = benchmark_against.random_network(config, CLASSES, auxiliary=True)
    stock = stock_network(model)
    before = [weight.numpy() for weight in stock.weights]
    ours = benchmark_speed.training_step(config, model)(batch)["loss"]
    step = stock_training_step(config, stock, ignore_label=benchmark_speed.IGNORE_LABEL)
    assert float(step(batch)) == pytest.approx(float(ours), rel=1e-4)
    changed = {
        weight.path.rpartition("/")[2]
        for weight, old in zip(stock.weights, before, strict=True)
        if (weight.numpy() != old).any()
    }
    assert changed == {"moving_mean", "moving_variance"}  # the learning rate is 0


def test_frozen_normalization_has_no_stock_layer():
    model = TINY.replace(batch_norm="frozen").build(CLASSES)
    with pytest.raises(ValueError, match="model.batch_norm must be synchronized or per_replica"):
        stock_network(model)


def test_a_layer_without_a_stock_one_is_named():
    class Own(keras.layers.Layer):
        def call(self, x):
            return x

    x = keras.Input((4,))
    with pytest.raises(ValueError, match="no stock layer in place of mine, a Own"):
        stock_network(keras.Model(x, Own(name="mine")(x)))


def test_the_ratio_is_the_median_of_the_pairs():
    timing = benchmark_against.Timing(ours=(1.0, 2.0, 4.0), theirs=(3.0, 2.0, 8.0))
    assert timing.ratios == [3.0, 1.0, 2.0]
    # Not 3 / 2, the ratio of the medians.
    assert timing.cells() == ("2000.0", "3000.0", "2.00", "1.50 to 2.50", "1.00 to 3.00", "3")


def test_all_are_timed_in_turns_and_the_order_is_swapped(monkeypatch):
    monkeypatch.setattr(benchmark_speed, "_TURN_SECONDS", 0.4)
    turns = []

    def clock(name: str, seconds: float):
        def of_calls(calls: int) -> float:
            turns.append((name, calls))
            return calls * seconds

        return of_calls

    clocks = {name: clock(name, seconds) for name, seconds in (("a", 0.1), ("b", 0.2), ("c", 0.4))}
    taken = benchmark_speed.in_turns(clocks, 3)
    a, b, c = ("a", 4), ("b", 2), ("c", 1)  # as many calls as a turn lasts
    assert turns[-9:] == [a, b, c, c, b, a, a, b, c]
    assert {name: pytest.approx(seconds) for name, seconds in taken.items()} == {
        "a": [0.1] * 3,
        "b": [0.2] * 3,
        "c": [0.4] * 3,
    }


def test_a_difference_is_relative_to_the_largest_logit_and_a_share_of_labels():
    assert benchmark_against.difference([1.0, -4.0], [1.0, -5.0]) == pytest.approx(0.2)
    assert benchmark_against.difference([1, 2, 3, 3], [1, 2, 3, 4]) == 0.25
    both = {"a": [1.0], "b": [3.0]}, {"a": [1.0], "b": [2.0]}
    assert benchmark_against.difference(*both) == 0.5


@pytest.mark.parametrize("wrong", [0.01, float("nan")])
def test_networks_that_compute_something_else_are_not_timed(wrong, monkeypatch):
    def rows(*_):
        clock = functools.partial(pytest.fail, "timed")
        yield benchmark_against.Row(name="a row", ours=clock, theirs=clock, difference=wrong)

    monkeypatch.setitem(benchmark_against._ROWS, "stock_keras", rows)
    with pytest.raises(ValueError, match="a row: both must compute the same"):
        print_against("stock_keras")


@pytest.mark.parametrize(("other", "package"), [("onnx", "tf2onnx"), ("torch", "torch")])
def test_a_package_that_is_missing_is_named(other, package, monkeypatch):
    for name in benchmark_against.OTHERS[other]:
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    with pytest.raises(ValueError, match=rf"--against={other} needs {package}.*\[backends\]"):
        benchmark_against.check_installed(other)


def test_stock_layers_need_no_package():
    benchmark_against.check_installed("stock_keras")


def print_against(other: str) -> None:
    benchmark_against.print_against(
        other, TINY, num_classes=CLASSES, image_size=(33, 49), batch_size=1, rounds=2
    )


def printed_rows(capsys) -> dict[str, list[str]]:
    lines = capsys.readouterr().out.split("difference\n", 1)[1].split("\n\n")[0].splitlines()
    return {line[:40].strip(): line[40:].split() for line in lines}


@pytest.mark.slow  # compiles the network five times
def test_stock_layers_are_compared_in_inference_and_in_training(capsys, monkeypatch):
    monkeypatch.setattr(benchmark_speed, "_TURN_SECONDS", 0.01)
    print_against("stock_keras")
    rows = printed_rows(capsys)
    assert [*rows] == [
        "trained network",
        "network for inference",
        "label map of an image",
        "model.predict / tf.function, both ours",
        "training step",
    ]
    for ours, theirs, ratio, *_, pairs, apart in rows.values():
        assert float(ratio) > 0 and float(ours) > 0 and float(theirs) > 0
        assert pairs == "2" and float(apart) <= benchmark_against.LARGEST_DIFFERENCE


@pytest.mark.slow  # imports another engine
@pytest.mark.parametrize("other", ["onnx", "torch"])
def test_another_engine_is_compared_with_the_same_network(other, capsys, monkeypatch):
    for package in benchmark_against.OTHERS[other]:
        pytest.importorskip(package, exc_type=ImportError)
    monkeypatch.setattr(benchmark_speed, "_TURN_SECONDS", 0.01)
    print_against(other)
    rows = printed_rows(capsys)
    assert "network for inference" in rows
    for *_, pairs, apart in rows.values():
        assert pairs == "2" and float(apart) <= benchmark_against.LARGEST_DIFFERENCE


def test_a_process_that_ends_is_said_to_lack_memory():
    with benchmark_engines.FreshProcess() as process:
        assert process.call(time.strftime, "%%") == "%"
        with pytest.raises(MemoryError, match="without an answer"):
            process.call(os._exit, 1)


@pytest.mark.slow  # imports TensorFlow in a process for each size
def test_every_size_has_its_time_and_its_memory(capsys):
    benchmark_sizes.print_sizes(
        TINY, [97, 33], num_classes=CLASSES, batch_size=1, rounds=1, precision="float32"
    )
    first, second = (line.split() for line in capsys.readouterr().out.splitlines()[4:6])
    assert (first[0], second[0]) == ("33x33", "97x97")
    assert float(second[3]) == pytest.approx(float(second[1]) / 97**2 * 1e6, rel=1e-2)
    assert float(second[4]) >= float(second[6]) > 0.1
