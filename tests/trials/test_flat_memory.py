"""Memory does not grow with the number of predictions, evaluations and batches."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # thousands of small calls, each kind in a process of its own

_SCRIPT = """
import gc, sys
import numpy as np
import tensorflow as tf
from deeplab_tf.data import pipeline
from deeplab_tf.data.augment import AUGMENTATIONS
from deeplab_tf.data.datasets.shapes import Shapes
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.parts import Eval

kind, times, warm_up, data_dir = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
random = np.random.default_rng(0)
dataset = Shapes(num_examples=8).open(data_dir)
config = DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", atrous_rates=(1,), aspp_channels=8)
options = WholeImage()
predictor = options.predictor(config.build(dataset.spec.num_classes))

def predictions():
    while True:
        size = random.integers(1, 48, 2)
        yield predictor.label_map(random.integers(0, 256, (*size, 3), np.uint8)).numpy()

def evaluations():
    while True:
        examples = pipeline.eval_examples(dataset.source("val"))
        yield options.evaluate(predictor, examples, dataset.spec, Eval())

def batches():
    augment = [AUGMENTATIONS["random_scale"](), AUGMENTATIONS["random_crop"](size=65)]
    return iter(pipeline.train_batches(
        dataset.source("train"), augment, batch_size=4, ignore_label=255, num_classes=5, seed=0
    ))

def resident():
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) // 1024

calls = {"predictions": predictions, "evaluations": evaluations, "batches": batches}[kind]()
for _ in range(warm_up):
    next(calls)
before = resident()
for _ in range(times):
    next(calls)
print(before, resident())
"""


# ours: 40 MB. Until the cache of oneDNN's kernels is full, each new size adds a little; one trace
# for each size would add a megabyte each, and one for each evaluation four.
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "times", "warm_up"),
    [("predictions", 10_000, 1_000), ("evaluations", 100, 10), ("batches", 2_000, 100)],
)
def test_memory_stays_flat(root, data_dir, kind, times, warm_up):
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, kind, str(times), str(warm_up), str(data_dir)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split()[-2:])
    assert after - before < 40, f"{before} MB, then {after} MB after {times} {kind}"
