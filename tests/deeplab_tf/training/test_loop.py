"""The training loop: what a run leaves, and how it resumes."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from typing import ClassVar

import keras
import numpy as np
import pytest
from PIL import Image

from deeplab_tf import zoo
from deeplab_tf.data import pipeline
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.recipe.as_json import to_json
from deeplab_tf.recipe.options import Options, option
from deeplab_tf.training.loop import train
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import AdamW
from deeplab_tf.training.schedules import Poly, Step
from deeplab_tf.training.workdir.checkpoints import Checkpointer
from deeplab_tf.training.workdir.contents import save_spec


def rows_of(workdir) -> list[dict[str, str]]:
    """The rows of metrics.csv that training wrote."""
    with open(workdir / "metrics.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["loss"]]


def test_run_follows_the_schedules_of_rate_and_mining(photos, recipe_of, pointwise, tmp_path):
    mining = {"top_k_percent_pixels": 0.1, "hard_example_mining_step": 1}
    rows = {}
    for name, options in {"all": {}, "mined": mining}.items():
        recipe = recipe_of(
            photos,
            steps=3,
            model=pointwise,
            loss=CrossEntropy(class_weights=(0.5, 1.0, 1.0, 1.0, 2.0), **options),
            # The weights stay, so that the losses of both runs compare.
            schedule=Poly(base_lr=0.05, warmup_steps=2, warmup_lr=0.0),
            train={"eval_every": 100},
        )
        printed = []
        workdir = tmp_path / name
        train(recipe, workdir=str(workdir), check_data=False, print_fn=printed.append)
        assert any(line.startswith("step 3: val mean IoU") for line in printed)
        rows[name] = rows_of(workdir)
    assert [float(row["learning_rate"]) for row in rows["all"]] == [0, 0, 0.05]
    losses = {name: [float(row["loss"]) for row in found] for name, found in rows.items()}
    np.testing.assert_allclose(losses["mined"][0], losses["all"][0], rtol=1e-5)
    assert losses["mined"][1] > 1.2 * losses["all"][1]


def test_run_with_another_optimizer_and_schedule_resumes_too(
    photos, recipe_of, pointwise, tmp_path
):
    recipe = recipe_of(
        photos,
        steps=6,
        model=pointwise,
        optimizer=AdamW(),
        schedule=Step(base_lr=0.08, factor=0.5, every_epochs=1.0),
        train={"eval_every": 100},
    )
    train(recipe, workdir=str(tmp_path), check_data=False, print_fn=lambda line: None)
    whole = rows_of(tmp_path)
    # 6 examples in batches of 4: an epoch is 1.5 steps.
    assert [float(row["learning_rate"]) for row in whole] == [0.08, 0.08, 0.04, 0.02, 0.02, 0.01]
    for name in ("ckpt-6.index", "ckpt-6.data-00000-of-00001"):
        (tmp_path / "checkpoints" / name).unlink()
    printed = []
    train(recipe, workdir=str(tmp_path), check_data=False, print_fn=printed.append)
    assert "resuming at step 4 of 6" in printed
    assert rows_of(tmp_path) == whole


def test_killed_run_resumes_to_the_numbers_of_an_uninterrupted_one(
    root, photos, recipe_of, tmp_path
):
    """Killed with SIGKILL after its first checkpoint, in a process of its own."""
    script = (
        "import sys\n"
        "from deeplab_tf import zoo\n"
        "from deeplab_tf.recipe import as_json\n"
        "from deeplab_tf.training.loop import train\n"
        "recipe = as_json.from_json(open(sys.argv[1]).read(), zoo.PARTS)\n"
        "train(recipe, workdir=sys.argv[2], check_data=False)\n"
    )
    recipe = tmp_path / "recipe.json"
    recipe.write_text(to_json(recipe_of(photos, steps=6)))

    def run(workdir, until=None):
        printed = []
        with subprocess.Popen(
            [sys.executable, "-c", script, str(recipe), str(workdir)],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process:
            for line in process.stdout:
                printed.append(line)
                if until is not None and line.startswith(until):
                    process.send_signal(signal.SIGKILL)
        return process.returncode, "".join(printed)

    killed, _ = run(tmp_path / "stopped", until="step 4")
    assert killed == -signal.SIGKILL
    status, printed = run(tmp_path / "stopped")
    assert status == 0, printed
    assert "resuming at step" in printed
    status, printed = run(tmp_path / "whole")
    assert status == 0, printed
    stopped, whole = (
        (tmp_path / name / "metrics.csv").read_text() for name in ("stopped", "whole")
    )
    assert stopped == whole
    assert len(whole.splitlines()) == 1 + 6 + 3
    models = [
        zoo.load_model(str(tmp_path / name), checkpoint="last") for name in ("stopped", "whole")
    ]
    for a, b in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_run_leaves_what_its_user_looks_for(photos, recipe_of, tmp_path):
    recipe = recipe_of(photos, steps=2)
    printed = []
    model = train(recipe, workdir=str(tmp_path), print_fn=printed.append)
    assert any("examples: train 6, val 2" in line for line in printed)
    assert any(line.startswith("step 2: val mean IoU") for line in printed)
    for name in ("recipe.json", "dataset.json", "metrics.csv", "training_curve.png", "events"):
        assert (tmp_path / name).exists(), name
    with Image.open(tmp_path / "pictures" / "val-1-2.png") as strip:
        assert strip.width > 3 * 80  # three pictures side by side
    assert sorted(os.listdir(tmp_path / "best")) == [
        "best.json", "ckpt-2.data-00000-of-00001", "ckpt-2.index"]  # fmt: skip
    assert zoo.load_recipe(str(tmp_path)) == recipe
    loaded = zoo.load_model(str(tmp_path), checkpoint="last")
    image = np.full((1, 40, 30, 3), 99, np.uint8)
    np.testing.assert_array_equal(model.predict(image, verbose=0), loaded.predict(image, verbose=0))
    # The same command on a finished run trains nothing and gives the same network.
    printed.clear()
    again = train(recipe, workdir=str(tmp_path), print_fn=printed.append)
    assert printed[-2:] == [
        "resuming at step 2 of 2",
        f"{tmp_path} is complete: it is trained to step 2",
    ]
    np.testing.assert_array_equal(model.predict(image, verbose=0), again.predict(image, verbose=0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pooled(Options):
    """A network of one layer on squares of the image."""

    kind: ClassVar[str] = "pooled"
    batch_norm: ClassVar[str] = "frozen"  # it has none

    output_stride: int = option(16, "side of a square, pixels")

    def at_output_stride(self, output_stride):
        return self.replace(output_stride=output_stride)

    def build(self, num_classes, input_shape=(None, None, 3), *, auxiliary=False):
        image = keras.Input(input_shape)
        pooled = keras.layers.AveragePooling2D(self.output_stride, padding="same")(image)
        layer = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="logits")
        logits = layer(pooled / 255 - 0.5)
        return keras.Model(image, {"logits": logits} if auxiliary else logits)

    def losses(self, pixel_loss):
        return {"logits": (pixel_loss, 1.0)}


def _scores(recipe, model):
    dataset = recipe.dataset.open()
    examples = pipeline.eval_examples(dataset.source("val"))
    return recipe.predict.evaluate(
        recipe.predict.predictor(model), examples, dataset.spec, recipe.eval
    ).scores


@pytest.mark.parametrize(("output_stride", "ema_decay"), [(None, None), (8, None), (8, 0.5)])
def test_a_run_is_scored_at_the_output_stride_of_predict(
    photos, recipe_of, tmp_path, output_stride, ema_decay
):
    recipe = recipe_of(
        photos,
        steps=1,
        base_lr=0.0,  # so that the average is the weights themselves
        model=_Pooled(),
        predict=WholeImage(output_stride=output_stride),
        train={"ema_decay": ema_decay},
    )
    trained = train(recipe, workdir=str(tmp_path), check_data=False, print_fn=lambda line: None)
    scores = {}
    for side in (8, 16):
        model = _Pooled(output_stride=side).build(5)
        model.set_weights(trained.get_weights())
        scores[side] = _scores(recipe, model)
    best = json.loads((tmp_path / "best" / "best.json").read_text())
    assert best["mean_iou"] == scores[output_stride or 16]["mean_iou"]
    assert scores[8] != scores[16]


@pytest.mark.slow  # a DeepLabv3+
def test_the_score_of_a_run_is_that_of_its_workdir(photos, recipe_of, tmp_path):
    recipe = recipe_of(photos, steps=2, predict=WholeImage(output_stride=8))
    train(recipe, workdir=str(tmp_path), check_data=False, print_fn=lambda line: None)
    best = json.loads((tmp_path / "best" / "best.json").read_text())
    model = zoo.load_model(str(tmp_path), output_stride=8)
    assert best["mean_iou"] == _scores(recipe, model)["mean_iou"]


@pytest.mark.slow  # three runs
def test_run_on_two_replicas_resumes_on_one(photos, recipe_of, tmp_path):
    """Training, evaluating, saving and restoring under a strategy of two devices."""
    recipe = recipe_of(photos, steps=4)
    on_two = dataclasses.replace(recipe, train=recipe.train.replace(devices=("CPU:0", "CPU:1")))
    printed = []
    train(on_two, workdir=str(tmp_path / "two"), check_data=False, print_fn=printed.append)
    assert any("4 steps of batch 4 on 2 replica(s)" in line for line in printed)
    for name in ("ckpt-4.index", "ckpt-4.data-00000-of-00001"):
        (tmp_path / "two" / "checkpoints" / name).unlink()
    printed.clear()
    train(recipe, workdir=str(tmp_path / "two"), check_data=False, print_fn=printed.append)
    assert "resuming at step 2 of 4" in printed
    train(recipe, workdir=str(tmp_path / "one"), check_data=False, print_fn=printed.append)
    losses = [[float(row["loss"]) for row in rows_of(tmp_path / name)] for name in ("one", "two")]
    assert len(losses[0]) == 4
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-2)
    np.testing.assert_allclose(losses[1][0], losses[0][0], rtol=1e-5)


def test_a_dataset_without_the_split_to_score_is_trained_all_the_same(
    photos, recipe_of, pointwise, tmp_path
):
    recipe = recipe_of(photos, steps=1, model=pointwise)
    dataset = recipe.dataset.replace(val_images_dir=None, val_labels_dir=None, val_fraction=0.0)
    printed = []
    train(
        dataclasses.replace(recipe, dataset=dataset),
        workdir=str(tmp_path),
        check_data=False,
        print_fn=printed.append,
    )
    assert any("nothing is scored: " in line and "'val' split" in line for line in printed)
    assert not (tmp_path / "best").exists()
    assert (tmp_path / "checkpoints" / "ckpt-1.index").exists()


def test_fine_tuning_starts_from_the_given_weights(photos, recipe_of, model_config, tmp_path):
    source = model_config.build(7)
    kernel = source.get_layer("backbone_conv").kernel
    kernel.assign(np.full(kernel.shape, 0.01))
    printed = []
    model = train(
        recipe_of(photos, steps=1, base_lr=0.0),
        workdir=str(tmp_path),
        init_model=source,
        check_data=False,
        print_fn=printed.append,
    )
    assert np.all(model.get_layer("backbone_conv").kernel.numpy() == np.float32(0.01))
    report = "\n".join(printed)
    assert "of another shape in the source (2): logits/bias, logits/kernel" in report
    assert "folded batch normalizations from the first batch" in report


def test_a_workdir_of_version_0_opens_and_resumes(root, photos, tmp_path):
    old = json.loads((root / "tests/expected/version_0/quickstart_shapes.json").read_text())
    old["model"] |= {"aspp_channels": 8, "decoder": False}
    old["data"] |= {
        "dataset": "folder",
        "images_dir": str(photos / "train" / "images"),
        "labels_dir": str(photos / "train" / "labels"),
        "class_names_file": str(photos / "classes.txt"),
        "batch_size": 4,
        "crop_size": 33,
    }
    old["train"] |= {"steps": 2, "log_every": 1, "save_every": 1, "eval_every": 9}
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(old))
    recipe = zoo.load_recipe(str(tmp_path))
    spec = recipe.dataset.open(None).spec
    save_spec(str(tmp_path), spec)
    model = recipe.model.build(spec.num_classes, auxiliary=True)
    Checkpointer(str(tmp_path), model, recipe.optimizer.build(model)).save(1)
    loaded = zoo.load_model(str(tmp_path), checkpoint="last")
    np.testing.assert_array_equal(
        loaded.get_layer("logits").kernel.numpy(), model.get_layer("logits").kernel.numpy()
    )
    printed = []
    train(recipe, workdir=str(tmp_path), check_data=False, print_fn=printed.append)
    assert "resuming at step 1 of 2" in printed
    assert len(rows_of(tmp_path)) == 1
    assert path.read_text() == to_json(recipe)
