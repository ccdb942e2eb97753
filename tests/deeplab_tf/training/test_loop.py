"""The training loop: replicas, resuming, and what stops it."""

import csv
import dataclasses
import functools
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.recipe import as_json as recipe_json
from deeplab_tf.training import loop as training
from deeplab_tf.training.checkpoints import load_model
from deeplab_tf.recipe.options import DataConfig, Recipe, TrainConfig
from deeplab_tf.data.datasets import shapes
from deeplab_tf.training.losses import masked_cross_entropy
from deeplab_tf.model import DeepLabV3Plus
from deeplab_tf.training.optimizers import Momentum, decayed_weights, learning_rate_factors
from deeplab_tf.weights import fit_weights, weights_by_name

_MODEL = DeepLabV3Plus(
    backbone="mobilenet_v2_tiny",
    atrous_rates=(1, 2),
    aspp_channels=8,
    low_level_channels=4,
    decoder_convs=((3, 8), (3, 8)),
    batch_norm_momentum=0.9,
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eight photos and labels, two of them for validation."""
    directory = tmp_path_factory.mktemp("photos")
    for split, number in (("train", 6), ("val", 2)):
        for index in range(number):
            image, label = shapes.draw(split, index)
            for kind, picture in (("images", image), ("labels", label)):
                path = directory / split / kind / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture[:64, :80]).save(path)
    (directory / "classes.txt").write_text("\n".join(shapes.CLASS_NAMES))
    return directory


def _recipe(photos, *, steps=4, model=_MODEL, **train):
    data = DataConfig(
        dataset="folder",
        images_dir=str(photos / "train" / "images"),
        labels_dir=str(photos / "train" / "labels"),
        val_images_dir=str(photos / "val" / "images"),
        val_labels_dir=str(photos / "val" / "labels"),
        class_names_file=str(photos / "classes.txt"),
        crop_size=33,
        batch_size=4,
    )
    often = {"log_every": 1, "save_every": 2, "eval_every": 2, "base_lr": 0.05}
    return Recipe(model=model, data=data, train=TrainConfig(steps=steps, **{**often, **train}))


# Of each replica: gradients through batch normalization, decoder, and a head of one pixel.
_STEP_MODEL = dataclasses.replace(_MODEL, dropout=0.0)


def _three_steps(devices, batch, weights):
    """(loss, gradient norm, weights and statistics) after each of three steps over `devices`."""
    strategy = training.make_strategy(devices)
    with strategy.scope():
        model = _STEP_MODEL.build(3, auxiliary=True)
        optimizer = Momentum(model.trainable_variables, 0.9)
    fit_weights(model, weights)
    pixel_loss = functools.partial(masked_cross_entropy, ignore_label=255)
    options = {
        "factors": learning_rate_factors(model, [("backbone_", 0.5)]),
        "decayed": decayed_weights(model, "kernels"),
        "weight_decay": 1e-2,
    }

    @tf.function
    def step(batch, rate):
        results = strategy.run(
            training.train_step,
            args=(model, optimizer, _STEP_MODEL.losses(pixel_loss), batch),
            kwargs={**options, "learning_rate": rate},
        )
        return tf.nest.map_structure(strategy.experimental_local_results, results)

    data = tf.data.Dataset.from_tensor_slices(batch).batch(4)
    distributed = next(iter(strategy.experimental_distribute_dataset(data)))
    after = []
    for rate in (0.01, 0.005, 0.002):
        results = step(distributed, tf.constant(rate))
        for values in results.values():
            assert len({float(value) for value in values}) == 1  # the same on all replicas
        state = {name: weight.numpy() for name, weight in weights_by_name(model).items()}
        after.append((float(results["loss"][0]), float(results["gradient_norm"][0]), state))
    return after


def test_two_replicas_with_sync_bn_equal_one_large_batch():
    waves = 127 + 120 * np.sin(np.arange(33 * 33 * 3) / 5).reshape(33, 33, 3)
    # Unlike each other: the statistics of the pooled branch are over four single pixels.
    image = np.stack([waves, waves[::-1] * 0.2, 255 - waves, waves[:, ::-1] * 0.6])
    label = image.mean(-1).astype(np.int32) // 86
    label[0, :20] = 255  # the replicas have unlike numbers of valid pixels
    batch = {"image": image.astype(np.float32), "label": label}
    keras.utils.set_random_seed(0)
    source = _STEP_MODEL.build(3)
    weights = {name: w.numpy() for name, w in weights_by_name(source).items()}
    one = _three_steps(("CPU:0",), batch, weights)
    two = _three_steps(("CPU:0", "CPU:1"), batch, weights)
    assert one[2][0] < one[0][0]
    # Rounding grows from step to step: by the third one a mere other order of the images on one
    # replica moves weights by 3e-3. Statistics of half a batch would move the loss by 1e-2.
    for (mine, whole), (loss_error, norm_error, error) in zip(
        zip(two, one, strict=True),
        ((1e-6, 2e-4, 1e-5), (1e-5, 5e-3, 2e-4), (5e-5, 2e-2, 2e-3)),
        strict=True,
    ):
        np.testing.assert_allclose(mine[0], whole[0], rtol=loss_error)
        np.testing.assert_allclose(mine[1], whole[1], rtol=norm_error)
        for name, value in whole[2].items():
            scale = max(1.0, np.abs(value).max())
            np.testing.assert_allclose(mine[2][name], value, atol=error * scale, err_msg=name)


def _eager_step(label, loss_normalization="global"):
    image = tf.fill([1, 9, 9, 3], 50.0)
    pixel_loss = functools.partial(masked_cross_entropy, ignore_label=255)
    inputs = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(2, 1, name="logits", kernel_initializer="ones")
    model = keras.Model(inputs, {"logits": layer(inputs / 255)})
    optimizer = Momentum(model.trainable_variables, 0.0)
    result = training.train_step(
        model,
        optimizer,
        {"logits": (pixel_loss, 1.0)},
        {"image": image, "label": tf.constant(label)},
        learning_rate=tf.constant(1.0),
        factors=[1.0, 1.0],
        decayed=[layer.kernel],
        weight_decay=0.25,
        loss_normalization=loss_normalization,
    )
    return result, layer


def test_weight_decay_is_the_gradient_of_half_the_squared_norm():
    result, layer = _eager_step(np.full((1, 9, 9), 255, np.int32))
    assert result["loss"] == 0
    np.testing.assert_allclose(layer.kernel.numpy(), 0.75, rtol=1e-6)  # 1 - rate * 0.25 * 1
    np.testing.assert_array_equal(layer.bias.numpy(), 0)
    np.testing.assert_allclose(result["gradient_norm"], 0.25 * np.sqrt(6), rtol=1e-6)


def test_loss_is_the_mean_over_valid_pixels():
    label = np.full((1, 9, 9), 255, np.int32)
    label[0, 0, :5] = 1
    for normalization in ("global", "replica"):
        result, layer = _eager_step(label, normalization)
        np.testing.assert_allclose(result["loss"], np.log(2), rtol=1e-6)
        np.testing.assert_allclose(layer.bias.numpy(), [-0.5, 0.5], rtol=1e-6)


def test_pixels_mined_on_two_replicas_are_averaged_together():
    strategy = training.make_strategy(("CPU:0", "CPU:1"))
    with strategy.scope():
        inputs = keras.Input((None, None, 3))
        layer = keras.layers.Conv2D(2, 1, name="logits", kernel_initializer="zeros")
        model = keras.Model(inputs, {"logits": layer(inputs)})
        optimizer = Momentum(model.trainable_variables, 0.0)
    pixel_loss = functools.partial(
        masked_cross_entropy, ignore_label=255, class_weights=(1.0, 3.0), kept_fraction=0.25
    )
    label = np.zeros((2, 4, 4), np.int32)
    label[1] = 255
    label[1, 0, :2] = 1  # the second replica keeps 4 pixels too, of which 2 have a class
    batch = {"image": np.ones((2, 4, 4, 3), np.float32), "label": label}

    @tf.function
    def step(batch, normalization):
        results = strategy.run(
            training.train_step,
            args=(model, optimizer, {"logits": (pixel_loss, 1.0)}, batch),
            kwargs={
                "learning_rate": tf.constant(0.0),
                "factors": [1.0, 1.0],
                "decayed": [],
                "weight_decay": 0.0,
                "loss_normalization": normalization,
            },
        )
        return strategy.experimental_local_results(results["loss"])[0]

    data = tf.data.Dataset.from_tensor_slices(batch).batch(2)
    distributed = next(iter(strategy.experimental_distribute_dataset(data)))
    for normalization, mean in (("global", (4 * 1 + 2 * 3) / 6), ("replica", (1 + 3) / 2)):
        loss = step(distributed, normalization)
        np.testing.assert_allclose(loss, mean * np.log(2), rtol=1e-6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pointwise:
    """A network of one layer that trains on logits of a quarter of the image's size."""

    kind = "pointwise"

    def build(self, num_classes, input_shape=(None, None, 3), *, auxiliary=False):
        image = keras.Input(input_shape)
        logits = keras.layers.Conv2D(num_classes, 1, strides=4, name="logits")(image / 255)
        return keras.Model(image, {"logits": logits} if auxiliary else logits)

    def losses(self, pixel_loss):
        return {"logits": (pixel_loss, 1.0)}


def test_run_follows_the_schedules_of_rate_and_mining(photos, tmp_path):
    mining = {"top_k_percent_pixels": 0.1, "hard_example_mining_step": 1}
    rows = {}
    for name, options in {"all": {}, "mined": mining}.items():
        recipe = _recipe(
            photos,
            steps=3,
            model=_Pointwise(),
            class_weights=(0.5, 1.0, 1.0, 1.0, 2.0),
            slow_start_steps=2,
            slow_start_lr=0.0,  # the weights stay, so that the losses of both runs compare
            eval_every=100,
            **options,
        )
        told = []
        workdir = tmp_path / name
        training.train(recipe, workdir=str(workdir), check_data=False, say=told.append)
        assert any(line.startswith("step 3: val mean IoU") for line in told)
        with open(workdir / "metrics.csv", newline="") as file:
            rows[name] = [row for row in csv.DictReader(file) if row["loss"]]
    assert [float(row["learning_rate"]) for row in rows["all"]] == [0, 0, 0.05]
    losses = {name: [float(row["loss"]) for row in found] for name, found in rows.items()}
    np.testing.assert_allclose(losses["mined"][0], losses["all"][0], rtol=1e-5)
    assert losses["mined"][1] > 1.2 * losses["all"][1]


def test_killed_run_resumes_to_the_numbers_of_an_uninterrupted_one(photos, tmp_path):
    """Killed with SIGKILL after its first checkpoint, in a process of its own."""
    script = (
        "import sys, json; sys.path.insert(0, 'scripts')\n"
        "from deeplab_tf import recipe_json, training; import zoo\n"
        "recipe = recipe_json.from_json(open(sys.argv[1]).read(), zoo.MODEL_CONFIGS)\n"
        "training.train(recipe, workdir=sys.argv[2], check_data=False)\n"
    )
    recipe = tmp_path / "recipe.json"
    recipe.write_text(recipe_json.to_json(_recipe(photos, steps=6)))
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))

    def run(workdir, until=None):
        told = []
        with subprocess.Popen(
            [sys.executable, "-c", script, str(recipe), str(workdir)],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process:
            for line in process.stdout:
                told.append(line)
                if until is not None and line.startswith(until):
                    process.send_signal(signal.SIGKILL)
        return process.returncode, "".join(told)

    killed, _ = run(tmp_path / "stopped", until="step 4")
    assert killed == -signal.SIGKILL
    status, told = run(tmp_path / "stopped")
    assert status == 0, told
    assert "resuming at step" in told
    status, told = run(tmp_path / "whole")
    assert status == 0, told
    stopped, whole = (
        (tmp_path / name / "metrics.csv").read_text() for name in ("stopped", "whole")
    )
    assert stopped == whole
    assert len(whole.splitlines()) == 1 + 6 + 3
    models = [
        load_model(str(tmp_path / name), {"deeplabv3plus": DeepLabV3Plus}, checkpoint="last")
        for name in ("stopped", "whole")
    ]
    for a, b in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_run_leaves_what_its_user_looks_for(photos, tmp_path):
    recipe = _recipe(photos, steps=2)
    told = []
    model = training.train(recipe, workdir=str(tmp_path), say=told.append)
    assert any("examples: train 6, val 2" in line for line in told)
    assert any(line.startswith("step 2: val mean IoU") for line in told)
    for name in ("recipe.json", "dataset.json", "metrics.csv", "training_curve.png", "events"):
        assert (tmp_path / name).exists(), name
    with Image.open(tmp_path / "pictures" / "val-1-2.png") as strip:
        assert strip.size == (3 * 80 + 8, 64)
    assert sorted(os.listdir(tmp_path / "best")) == [
        "best.json", "ckpt-2.data-00000-of-00001", "ckpt-2.index"]  # fmt: skip
    loaded = load_model(str(tmp_path), {"deeplabv3plus": DeepLabV3Plus}, checkpoint="last")
    image = np.full((1, 40, 30, 3), 99, np.uint8)
    np.testing.assert_array_equal(model.predict(image, verbose=0), loaded.predict(image, verbose=0))
    # The same command on a finished run trains nothing and gives the same network.
    told.clear()
    again = training.train(recipe, workdir=str(tmp_path), say=told.append)
    assert told == ["resuming at step 2 of 2", f"{tmp_path} is trained to its end, step 2"]
    np.testing.assert_array_equal(model.predict(image, verbose=0), again.predict(image, verbose=0))


def test_run_on_two_replicas_resumes_on_one(photos, tmp_path):
    """Training, evaluating, saving and restoring under a strategy of two devices."""
    model = dataclasses.replace(_MODEL, dropout=0.0)  # drawn by each replica for itself
    recipe = _recipe(photos, steps=4, model=model)
    devices = dataclasses.replace(recipe.train, devices=("CPU:0", "CPU:1"))
    on_two = dataclasses.replace(recipe, train=devices)
    told = []
    training.train(on_two, workdir=str(tmp_path / "two"), check_data=False, say=told.append)
    assert any("4 steps of batch 4 on 2 replica(s)" in line for line in told)
    for name in ("ckpt-4.index", "ckpt-4.data-00000-of-00001"):
        (tmp_path / "two" / "checkpoints" / name).unlink()
    told.clear()
    training.train(recipe, workdir=str(tmp_path / "two"), check_data=False, say=told.append)
    assert told[0] == "resuming at step 2 of 4"
    training.train(recipe, workdir=str(tmp_path / "one"), check_data=False, say=told.append)
    losses = []
    for name in ("one", "two"):
        rows = (tmp_path / name / "metrics.csv").read_text().splitlines()[1:]
        losses.append([float(row.split(",")[1]) for row in rows if row.split(",")[1]])
    assert len(losses[0]) == 4
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-2)
    np.testing.assert_allclose(losses[1][0], losses[0][0], rtol=1e-5)


def test_non_finite_loss_stops_the_run_and_keeps_the_checkpoint(photos, tmp_path):
    recipe = _recipe(photos, steps=20, base_lr=1e30, eval_every=100, save_every=1)
    with pytest.raises(FloatingPointError, match="not finite at step [2-4] ") as caught:
        training.train(recipe, workdir=str(tmp_path), check_data=False, say=lambda line: None)
    assert "is intact in" in str(caught.value)
    model = load_model(str(tmp_path), {"deeplabv3plus": DeepLabV3Plus}, checkpoint=1)
    assert all(np.all(np.isfinite(w.numpy())) for w in model.weights)


def test_file_that_breaks_while_training_is_named(photos, tmp_path):
    import shutil

    broken = tmp_path / "photos"
    shutil.copytree(photos, broken)
    path = broken / "train" / "images" / "3.png"
    path.write_bytes(path.read_bytes()[:500])
    recipe = _recipe(broken, steps=8, eval_every=100, save_every=100)
    with pytest.raises(ValueError, match=r"cannot be read \(step \d\):\n  .*images/3\.png with"):
        training.train(
            recipe, workdir=str(tmp_path / "run"), check_data=False, say=lambda line: None
        )


def _skipping(photos, **train):
    recipe = _recipe(photos, **train)
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, on_bad_example="skip"))


@pytest.mark.slow  # three runs
def test_run_that_skips_bad_examples_names_them_and_resumes(photos, tmp_path):
    import shutil

    broken = tmp_path / "photos"
    shutil.copytree(photos, broken)
    images = broken / "train" / "images"
    photo = Image.open(images / "3.png").convert("RGB")
    (images / "3.png").unlink()
    photo.save(images / "3.jpg")
    (images / "3.jpg").write_bytes((images / "3.jpg").read_bytes()[:700])
    often = {"eval_every": 100, "save_every": 3}
    told = []
    training.train(
        _skipping(broken, steps=6, **often), workdir=str(tmp_path / "whole"), say=told.append
    )
    # Once by the check before the first step, once at the end.
    assert sum("fault: train: " in line and "images/3.jpg" in line for line in told) == 1
    report = told[-1].splitlines()
    assert report[0].startswith("skipped 1 of 6 training examples, which cannot be read")
    assert len(report) == 2 and "images/3.jpg" in report[1]
    # 'fail' ends it at the example; the same command with 'skip' goes on to the same numbers.
    with pytest.raises(ValueError, match=r"images/3\.jpg"):
        training.train(
            _recipe(broken, steps=6, **often),
            workdir=str(tmp_path / "stopped"),
            check_data=False,
            say=told.append,
        )
    training.train(
        _skipping(broken, steps=6, **often),
        workdir=str(tmp_path / "stopped"),
        check_data=False,
        say=told.append,
    )
    stopped, whole = ((tmp_path / n / "metrics.csv").read_text() for n in ("stopped", "whole"))
    assert stopped == whole


def test_faults_of_validation_are_never_skipped(photos, tmp_path):
    import shutil

    broken = tmp_path / "photos"
    shutil.copytree(photos, broken)
    (broken / "val" / "images" / "1.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"1 faulty examples:\n  val: .*val/images/1\.png"):
        training.train(_skipping(broken), workdir=str(tmp_path / "run"), say=lambda line: None)


def test_run_that_can_read_nothing_ends_with_names(photos, tmp_path):
    import shutil

    broken = tmp_path / "photos"
    shutil.copytree(photos, broken)
    for image in (broken / "train" / "images").iterdir():
        image.write_bytes(b"text")
    with pytest.raises(ValueError, match=r"(?s)\(step 1\).*images/0\.png.*none of 10 examples"):
        training.train(_skipping(broken), workdir=str(tmp_path / "run"), say=lambda line: None)


def test_faulty_dataset_is_refused_before_step_0(photos, tmp_path):
    import shutil

    broken = tmp_path / "photos"
    shutil.copytree(photos, broken)
    Image.fromarray(np.full((64, 80), 77, np.uint8)).save(broken / "val" / "labels" / "1.png")
    with pytest.raises(ValueError, match=r"val/labels/1\.png: label values must be 0\.\.4"):
        training.train(_recipe(broken), workdir=str(tmp_path / "run"), say=lambda line: None)
    assert not (tmp_path / "run").exists()


def test_batch_that_does_not_divide_over_the_replicas_is_refused(photos, tmp_path):
    recipe = _recipe(photos)
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, batch_size=5))
    with pytest.raises(ValueError, match="batch 5 does not divide over 2 replicas; use 4 or 6"):
        training.train(
            recipe,
            workdir=str(tmp_path / "run"),
            strategy=training.make_strategy(("CPU:0", "CPU:1")),
        )
    assert not (tmp_path / "run").exists()


def test_class_weights_of_another_number_of_classes_are_refused(photos, tmp_path):
    recipe = _recipe(photos, class_weights=(1.0, 2.0))
    with pytest.raises(ValueError, match="train.class_weights must be a number for each of 5"):
        training.train(recipe, workdir=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_unknown_device_is_refused():
    with pytest.raises(ValueError, match="train.devices: no device 'GPU:7'; there are .*CPU:0"):
        training.make_strategy(("GPU:7",))


def test_workdir_of_another_recipe_is_refused(photos, tmp_path):
    recipe = _recipe(photos, steps=1)
    training.train(recipe, workdir=str(tmp_path), check_data=False, say=lambda line: None)
    with pytest.raises(ValueError, match=r"train.base_lr: 0\.05 -> 0\.5"):
        training.train(_recipe(photos, steps=1, base_lr=0.5), workdir=str(tmp_path))


def test_fine_tuning_starts_from_the_given_weights(photos, tmp_path):
    source = _MODEL.build(7)
    source.get_layer("backbone_conv").kernel.assign(
        np.full(source.get_layer("backbone_conv").kernel.shape, 0.01)
    )
    told = []
    recipe = _recipe(photos, steps=1, base_lr=0.0)
    model = training.train(
        recipe, workdir=str(tmp_path), init_model=source, check_data=False, say=told.append
    )
    assert np.all(model.get_layer("backbone_conv").kernel.numpy() == np.float32(0.01))
    assert any("other shape in the source (2): logits/bias, logits/kernel" in t for t in told)
    assert any("folded normalizations" in line for line in told)
