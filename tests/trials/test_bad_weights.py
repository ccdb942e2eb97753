"""Bad files of weights are one line: no traceback, nothing written, nothing of a pickle run."""

import functools
import io
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import weight_files
from trials.bad_inputs import Case, Damage, also, bytes_changed, check, content, without

from deeplab_tf.model import DeepLabV3PlusConfig

SMALL = DeepLabV3PlusConfig(
    backbone="mobilenet_v2_dm035", atrous_rates=(), decoder=False, separable=False
)


@functools.cache
def arrays() -> dict[str, np.ndarray]:
    """The weights of a small network of three classes, by their released names."""
    return weight_files.deeplab_arrays(SMALL.build(3))


def npz(change: Callable[[dict], object] = lambda arrays: None) -> Damage:
    """A damage: {run}/weights is an .npz file of the small network, after a change."""

    def damage(run: pathlib.Path) -> None:
        changed_arrays = dict(arrays())
        change(changed_arrays)
        weight_files.write_npz(run / "weights", changed_arrays)

    return damage


def _bomb() -> bytes:
    """An .npz file of 64 kB with an array of 64 MB."""
    values, written = io.BytesIO(), io.BytesIO()
    np.save(values, np.zeros(16 << 20, np.float32))
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("logits/semantic/weights.npy", values.getvalue())
    return written.getvalue()


class _Call:
    """Its pickle calls a function."""

    def __reduce__(self):
        return os.mkdir, ("/tmp/a-pickle-was-run",)


def checkpoint(*damages: Damage) -> Damage:
    """A damage: {run}/model.ckpt is a checkpoint of the small network, damaged."""
    return also(lambda run: weight_files.write_checkpoint(run, arrays()), *damages)


_LOGITS = "logits/semantic/biases"
CONVERT = "--input={run}/weights --output={new}"
_CUT = bytes_changed("weights", lambda data: data[: len(data) // 2])
_WEIGHTS = [
    (CONVERT, also(npz(), _CUT), "its archive is cut short or damaged"),
    (
        CONVERT,
        also(npz(), bytes_changed("weights", lambda data: data[:-1])),
        "its archive is cut short or damaged",
    ),
    (
        CONVERT,
        npz(lambda a: a.update({_LOGITS: np.array([1, np.nan, 1], "f4")})),
        "must hold finite values; 1 of 272 arrays have NaN",
    ),
    (
        CONVERT,
        npz(lambda a: a.update({_LOGITS: np.array([1, np.inf, 1], "f4")})),
        "must hold finite values; 1 of 272 arrays have NaN",
    ),
    (
        CONVERT,
        npz(lambda a: a.update({_LOGITS: np.ones(3, np.int32)})),
        "1 of 272 arrays are not: logits/semantic/biases (int32)",
    ),
    (
        CONVERT,
        npz(lambda a: a.update({_LOGITS: np.ones(4, "f4")})),
        "1 of another shape (logits/bias (4,), model (3,))",
    ),
    (
        CONVERT,
        npz(lambda a: a.update({_LOGITS: np.ones((3, 1), "f4")})),
        "1 of another shape (logits/bias (3, 1), model (3,))",
    ),
    (
        CONVERT,
        npz(lambda a: a.pop("MobilenetV2/Conv/weights")),
        "the weights must have MobilenetV2/Conv/weights; got",
    ),
    (
        CONVERT,
        npz(lambda a: a.update({"MobilenetV2/Conv/weights": np.ones((3, 3, 4, 16), "f4")})),
        "weights do not fit: 0 missing",
    ),
    (
        CONVERT,
        npz(lambda a: [a.clear(), a.update({"a": np.ones(3, "f4")})]),
        "its arrays must have the names of DeepLab's TensorFlow 1 code",
    ),
    (CONVERT, npz(lambda a: a.clear()), "is not a file of weights: it begins with"),
    (
        CONVERT,
        npz(lambda a: [a.pop(_LOGITS), a.pop("logits/semantic/weights")]),
        "holds a backbone alone",
    ),
    (
        CONVERT,
        content("weights", _bomb()),
        "its arrays must have at most 1048576 bytes for a file of",
    ),
    (CONVERT, content("weights", b""), "is empty; get it again"),
    (CONVERT, content("weights", b"my notes\n"), "it begins with b'my notes\\n'"),
    (CONVERT, content("weights", bytes(10**6)), "is not a file of weights: it begins with"),
    (
        CONVERT,
        content("weights", b"<!DOCTYPE html><html><body>Sign in</body></html>"),
        "it is a web page or XML, perhaps of a failed download",
    ),
    (
        CONVERT,
        content("weights", b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "it begins with b'version https://'",
    ),
    (
        CONVERT,
        content("weights", b"\x1f\x8b\x08" + bytes(500)),
        "it is a compressed archive; unpack it",
    ),
    (
        CONVERT,
        content("weights", pickle.dumps({"a": [1.0, 2.0]})),
        "it is a pickle, which could run code",
    ),
    (CONVERT, content("weights", pickle.dumps(_Call())), "it is a pickle, which could run code"),
    (
        CONVERT,
        content("weights", pickle.dumps({"state_dict": _Call()}, protocol=2)),
        "it is a pickle, which could run code",
    ),
    (
        CONVERT,
        content(
            "weights",
            weight_files.zip_file(
                {"state_dict": weight_files.Call("os mkdir", ("/tmp/a-pickle-was-run",))}
            ),
        ),
        "it names 'os.mkdir', which is neither a tensor nor a plain",
    ),
    (
        CONVERT,
        content("weights", weight_files.zip_file({"a.weight": weight_files.tensor()})),
        "got a.weight",
    ),
    (
        CONVERT,
        content("weights", weight_files.zip_file({"a.weight": weight_files.tensor()})[:-30]),
        "its archive is cut short or damaged",
    ),
    (
        CONVERT,
        content("weights", b"\x08\x01\x12\xff\xff\xff\xff\x7f"),
        "it is a SavedModel, which needs no network",
    ),
    (
        CONVERT,
        lambda run: weight_files.write_frozen_graph(run / "weights", {"a": np.ones(2, "f4")}),
        "holds a graph without weights",
    ),
    (CONVERT, lambda run: os.mkfifo(run / "weights"), "must be a regular file; it is a pipe"),
    (CONVERT, lambda run: (run / "weights").mkdir(), "must hold one checkpoint"),
    (CONVERT, lambda run: (run / "weights").symlink_to("nothing"), "there is no file"),
    (
        "--input={run}/model.ckpt --output={new}",
        checkpoint(without("model.ckpt.index")),
        "there is no file model.ckpt.index beside its model.ckpt.data-",
    ),
    (
        "--input={run}/model.ckpt --output={new}",
        checkpoint(without("model.ckpt.data-00000-of-00001")),
        "is not a readable checkpoint: [Errno 2] No such file",
    ),
    (
        "--input={run}/model.ckpt --output={new}",
        checkpoint(bytes_changed("model.ckpt.data-00000-of-00001", lambda data: data[:999])),
        "its arrays must have at most 1048576 bytes for a file of 999",
    ),
    (
        "--input={run}/model.ckpt --output={new}",
        checkpoint(
            bytes_changed(
                "model.ckpt.data-00000-of-00001", lambda data: bytes([data[0] ^ 1]) + data[1:]
            )
        ),
        "the checksum of array MobilenetV2/Conv/weights is wrong",
    ),
    (
        "--input={run}/model.ckpt --output={new}",
        checkpoint(content("model.ckpt.index", b"junk" * 99)),
        "its end is not that of a table; it is cut short or damaged",
    ),
    (f"{CONVERT} --released=mobilenetv2_ade20k_train", npz(), "must be mobilenetv2_ade20k_train"),
    (
        f"{CONVERT} --released=xception65_coco_voc_trainaug",
        npz(),
        "must be xception65_coco_voc_trainaug",
    ),
    (f"{CONVERT} --dataset=voc2012", npz(), "voc2012 has 21 classes; the network has 3"),
    (
        f"{CONVERT} --num_classes=5 --dataset=voc2012",
        npz(),
        "voc2012 has 21 classes; the network has 5",
    ),
    (
        f"{CONVERT} --class_names_file={{run}}/names.txt",
        also(npz(), content("names.txt", "a\nb\n")),
        "names.txt has 2 classes; the network has 3",
    ),
    (
        f"{CONVERT} --class_names_file={{run}}/names.txt",
        also(npz(), content("names.txt", b"\xff\xfe\0")),
        "names.txt must be a text file in UTF-8",
    ),
    (
        "--input={run}/weights --output={run}/recipe.json",
        npz(),
        "recipe.json must be empty or absent",
    ),
    ("--input={run}/weights --output={run}/recipe.json/x", npz(), "recipe.json is not a directory"),
    ("--input={run}/weights --output=/proc/x", npz(), "/proc/x"),
]
WEIGHTS = [
    Case("weights", "convert_weights", flags, says, damage) for flags, damage, says in _WEIGHTS
]
WEIGHTS += [
    Case(
        "weights",
        "train",
        f"--workdir={{new}} --data_dir={{data}} {{recipe}} --init_weights={{run}}/{name}",
        says,
        damage,
    )
    for name, damage, says in [
        ("weights", npz(), "is a file, not a workdir; scripts/convert_weights.py makes"),
        ("weights", also(npz(), _CUT), "is a file, not a workdir"),
        (
            "weights",
            npz(lambda a: a.update({_LOGITS: np.array([1, np.nan, 1], "f4")})),
            "is a file, not a workdir",
        ),
        ("weights", content("weights", b"<!DOCTYPE html>"), "is a file, not a workdir"),
        ("recipe.json", None, "is a file, not a workdir"),
        ("", without("best", "checkpoints"), "no checkpoint in "),
        ("", content("best/ckpt-1.index", b"junk"), "does not fit this model or is damaged"),
    ]
]


@pytest.mark.slow  # TensorFlow and the network
@pytest.mark.parametrize("case", WEIGHTS, ids=lambda case: f"{case.category}-{case.script}")
def test_a_bad_file_of_weights_is_an_error_and_changes_nothing(
    scripts, run_copy, data_dir, recipe_flags, case
):
    check(case, scripts, run_copy, data_dir, recipe_flags)
    assert not os.path.exists("/tmp/a-pickle-was-run")
