"""Wrong flags, workdirs and environments: one line each, no traceback, nothing left behind."""

import json
import os
import subprocess
import sys

import pytest

_SMALL = ("--recipe=quickstart_shapes", "--dataset.num_examples=8", "--train.steps=2")

# Flags of train.py -> what the error says. None of them gets as far as TensorFlow.
_FLAGS = [
    ("--recipe=deeplab", "unknown recipe 'deeplab'"),
    ("--train.strategy=two", "expected auto|mirrored|multi_worker|one_device; got 'two'"),
    ("--train.precision=half", "expected float32|bfloat16|float16; got 'half'"),
    ("--train.precision=", "expected float32|bfloat16|float16; got ''"),
    ("--train.accumulation_steps=0", "accumulation_steps must be at least 1; got 0"),
    ("--train.accumulation_steps=1.5", "accumulation_steps=1.5: expected integer"),
    ("--train.ema_decay=1", "ema_decay must be below 1; got 1"),
    ("--train.ema_decay=0", "ema_decay must be above 0; got 0"),
    ("--train.ema_decay=high", "ema_decay=high: expected number"),
    ("--train.remat=maybe", "train.remat"),
    ("--train.jit_compile=2", "train.jit_compile"),
    ("--train.recover=often", "train.recover"),
    ("--train.patience=0", "patience must be at least 1; got 0"),
    ("--train.patience=-1", "patience must be at least 1; got -1"),
    ("--train.scale_lr=16", "train.scale_lr"),
    ("--train.batch_size=0", "batch_size must be at least 1; got 0"),
    ("--train.steps=0", "steps must be at least 1; got 0"),
    ("--train.seed=-1", "seed must be at least 0; got -1"),
    ("--train.log_every=0", "log_every must be at least 1; got 0"),
    ("--train.log_evry=5", "Unknown command line flag 'train.log_evry'"),
    ("--fine_tune_batch_norm=false", "Unknown command line flag 'fine_tune_batch_norm'"),
    ("--model.batch_norm=sync", "expected synchronized|per_replica|frozen; got 'sync'"),
    ("--optimizer=lion", "--optimizer=lion: expected sgd|adamw"),
    ("--optimizer.clip_norm=0", "clip_norm must be above 0; got 0"),
    ("--optimizer.clip_norm=nan", "clip_norm=nan: expected number"),
    ("--optimizer.beta_1=0.5", "beta_1"),
    ("--schedule=exponential", "--schedule=exponential: expected poly|cosine|step"),
    ("--schedule.base_lr=-1", "base_lr must be at least 0; got -1"),
    ("--loss=dice", "--loss=dice: expected cross_entropy|focal|lovasz"),
    ("--loss.class_balance=yes", "expected none|median_frequency; got 'yes'"),
    ("--loss.class_weights=1,x", "class_weights=1,x: expected number"),
    ("--loss.label_smoothing=1", "label_smoothing must be below 1; got 1"),
    ("--predict=tiles", "--predict=tiles: expected whole_image|sliding_window|classify"),
    ("--augment=random_cut", "unknown kind of --augment 'random_cut'"),
    ("photos", "unexpected argument 'photos'"),
]

# The same where the dataset or TensorFlow is needed to notice.
_FITTING = [
    ("--train.devices=GPU:7", "train.devices must be different devices of this machine"),
    ("--train.devices=CPU:0,CPU:0", "train.devices must be different devices of this machine"),
    ("--train.strategy=multi_worker", "TF_CONFIG must name the workers"),
    ("--train.accumulation_steps=3", "train.batch_size must be a multiple of 3"),
    ("--train.jit_compile=true --train.remat=true", "jit_compile must be false with train.remat"),
    ("--eval.best_metric=f1", "eval.best_metric must be one of mean_iou"),
    ("--eval.split=vall", "no 'vall' split of shapes"),
    ("--eval.excluded_classes=9", "eval.excluded_classes must be among the classes 0..4"),
    ("--loss.class_weights=1,2", "loss.class_weights must be a number for each of 5 classes"),
    ("--schedule.warmup_steps=9", "schedule.warmup_steps must be below the length of training"),
    ("--optimizer.lr_multipliers=neck_:2", "no trainable weight begins with"),
    ("--model.backbone=vgg16", "unknown backbone 'vgg16'"),
    ("--augment=random_flip", "--augment must bring all images to one size"),
    ("--init_weights=/nowhere", "no recipe.json in /nowhere"),
]

_CLUSTER = '{"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, %s}'
_ENVIRONMENTS = [
    ("{", "TF_CONFIG must be JSON"),
    (_CLUSTER % '"task": {"type": "worker", "index": 2}', "which worker this process is"),
    (_CLUSTER % '"task": {"type": "ps", "index": 0}', "which worker this process is"),
    ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}', "twice"),
    ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "TF_CONFIG must have"),
]


def _run(root, tmp_path, *flags, **environment):
    """(status, standard error) of train.py with a new workdir, unless one is given."""
    result = subprocess.run(
        [sys.executable, "scripts/train.py", *flags],
        cwd=root,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return result.returncode, result.stderr


def _check(status, errors, message):
    assert status == 1, errors
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert message in line


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "message"), _FLAGS)
def test_a_wrong_flag_is_one_line(root, tmp_path, flags, message):
    _check(*_run(root, tmp_path, *_SMALL, *flags.split(), f"--workdir={tmp_path / 'run'}"), message)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "message"), _FITTING)
def test_a_flag_that_does_not_fit_is_one_line(root, tmp_path, data_dir, flags, message):
    status, errors = _run(
        root,
        tmp_path,
        *_SMALL,
        f"--data_dir={data_dir}",
        f"--workdir={tmp_path / 'run'}",
        *flags.split(),
    )
    _check(status, errors, message)
    assert not (tmp_path / "run" / "recipe.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("config", "message"), _ENVIRONMENTS)
def test_a_wrong_tf_config_is_one_line(root, tmp_path, config, message):
    _check(
        *_run(root, tmp_path, *_SMALL, f"--workdir={tmp_path / 'run'}", TF_CONFIG=config), message
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("recipe.json", "{", "recipe.json"),
        ("recipe.json", json.dumps({"version": 9}), "version"),
        ("dataset.json", "[]", "dataset.json"),
        ("metrics.csv", "hello\n1\n", "metrics.csv"),
    ],
)
def test_a_damaged_workdir_is_one_line(root, tmp_path, data_dir, name, content, message):
    run = tmp_path / "run"
    flags = (*_SMALL, f"--data_dir={data_dir}", f"--workdir={run}")
    status, errors = _run(root, tmp_path, *flags, "--train.save_every=1")
    assert status == 0, errors
    for path in (run / "checkpoints").glob("ckpt-2.*"):  # as if it were killed before
        path.unlink()
    (run / name).write_text(content)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    _check(*_run(root, tmp_path, *flags), message)
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    if name == "metrics.csv":  # that is read last, after an option that may change was saved
        before.pop(run / "recipe.json"), after.pop(run / "recipe.json")
    assert after == before
