"""predict.py as users run it: stopped and resumed, with every format, on videos."""

import importlib.util
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from trials.bad_inputs import Case, check, content

pytestmark = pytest.mark.slow  # TensorFlow and the network

SIZES = [(24, 32), (32, 24), (33, 33)]
EVERYTHING = "--write=overlay,index,probabilities,page"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Photos of three sizes in folders, with odd names, and one that is damaged."""
    place = tmp_path_factory.mktemp("images")
    names = [f"{folder}{i}.png" for folder, i in itertools.product(("", "x/", "x/y/"), range(6))]
    names += ["a\nb.png", os.fsdecode(b"\xff.png"), 'it\'s "odd" 100%.png']
    random = np.random.default_rng(0)
    for i, name in enumerate(names):
        path = os.path.join(str(place), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        pixels = random.integers(0, 256, (*SIZES[i % 3], 3), np.uint8)
        Image.fromarray(pixels).save(path)
    (place / "x/damaged.jpg").write_bytes(b"no picture")
    return place


def files_of(directory: pathlib.Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def killed(command: list[str], root, is_time) -> bool:
    """Runs a command, and kills it when it is time; whether it was not done by then."""
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not is_time():
        time.sleep(0.0005)
    done = process.poll() is not None
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    return not done


def test_a_run_that_was_killed_at_any_moment_leaves_the_same_files(
    root, scripts, trained, images, tmp_path
):
    flags = [f"--model={trained}", f"--images={images}/**", EVERYTHING, "--batch_size=3"]
    expected = tmp_path / "expected"
    done = scripts.run("predict", *flags, f"--output={expected}")
    assert done.code == 1 and "1 of 22 images failed" in done.stderr, done.stderr
    found = tmp_path / "found"
    command = [sys.executable, "scripts/predict.py", *flags, f"--output={found}"]

    def lines(number):
        path = found / "predictions.jsonl"
        return lambda: path.exists() and path.read_bytes().count(b"\n") > number

    moments = [
        lambda: (found / "legend.png").exists(),
        lambda: any(found.glob("*.tmp")),
        lines(3),
        lines(8),
        lambda: any(found.glob("x/y/*.tmp")),
        lines(17),
    ]
    assert sum(killed(command, root, moment) for moment in moments) >= 3
    resumed = scripts.run("predict", *flags, f"--output={found}")
    assert resumed.code == 1 and "1 of 22 images failed" in resumed.stderr
    assert "of 22 images are predicted already" in resumed.stdout
    assert files_of(found) == files_of(expected)


def test_what_is_complete_is_left_alone(scripts, trained, images, tmp_path):
    place, out = tmp_path / "images", tmp_path / "out"
    place.mkdir()
    for i in range(4):
        (place / f"{i}.png").write_bytes((images / f"{i}.png").read_bytes())
    (place / "notes.txt").write_text("")
    flags = [f"--model={trained}", f"--images={place}", f"--output={out}"]
    done = scripts.run("predict", *flags)
    assert done.code == 0 and "left out 1 file of other kinds: .txt 1\n" in done.stdout
    before = files_of(out)
    shutil.copytree(place, tmp_path / "others")
    refused = scripts.run("predict", flags[0], f"--images={tmp_path}/others", flags[2])
    assert refused.code == 1 and f"is for {place}/0.png, and would be over" in refused.stderr
    assert files_of(out) == before

    def changed_by(*more):
        before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
        done = scripts.run("predict", *flags, *more)
        assert done.code == 0, done.stderr
        return done.stdout, {
            path.name
            for path in out.iterdir()
            if before.get(path) != path.stat().st_mtime_ns and path.name[0].isdecimal()
        }

    stdout, changed = changed_by()
    assert "4 of 4 images are predicted already" in stdout and not changed
    (place / "1.png").write_bytes((images / "4.png").read_bytes())
    (out / "2_overlay.png").unlink()
    stdout, changed = changed_by()
    assert "2 of 4 images are predicted already" in stdout
    assert changed == {"1.png", "1_overlay.png", "2.png", "2_overlay.png"}
    stdout, changed = changed_by("--write=index,probabilities")
    assert changed == {f"{i}{end}" for i in range(4) for end in (".png", "_probabilities.npz")}
    assert not changed_by()[1]

    refused = scripts.run("predict", *flags, "--predict.flip=true")
    assert refused.code == 1 and "were made in another way: flip was false" in refused.stderr
    _, changed = changed_by("--predict.flip=true", "--overwrite")
    assert changed == {f"{i}{end}" for i in range(4) for end in (".png", "_overlay.png")}
    assert not list(out.glob("*.npz"))


def test_predictions_keep_folders_and_their_page_shows_them(scripts, trained, images, tmp_path):
    out = images / "x/out"  # which the pattern finds, so a second run must leave it out
    flags = [f"--model={trained}", f"--images={images}/**/*.png", f"--output={out}", EVERYTHING]
    for _ in range(2):
        done = scripts.run("predict", *flags)
        assert done.code == 0, done.stderr
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("<img") == 21 and "./x/y/5_overlay.png" in page
    with Image.open(out / "x/y/5.png") as index, np.load(out / "x/y/5_probabilities.npz") as stored:
        probabilities = stored["probabilities"].astype(np.float32)
        assert probabilities.shape == (*SIZES[2], len(stored["class_names"]))
        best = np.sort(probabilities, axis=-1)
        clear = best[..., -1] - best[..., -2] > 2e-3
        np.testing.assert_array_equal(probabilities.argmax(-1)[clear], np.asarray(index)[clear])


@pytest.mark.parametrize("kind", ["saved_model", "keras", "onnx", "litert"])
def test_every_format_is_recognized_and_predicts_what_the_workdir_predicts(
    scripts, trained, images, tmp_path, kind
):
    if kind == "onnx" and not importlib.util.find_spec("tf2onnx"):
        pytest.skip("tf2onnx is not installed")
    more = ["--height=33", "--width=33"] if kind == "litert" else []
    model, own, out = (tmp_path / name for name in ("model", "own", "out"))
    done = scripts.run(
        "export", f"--workdir={trained}", f"--format={kind}", f"--output={model}", *more,
        timeout=300,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    flags = [f"--images={images}/[0-5].png"]
    assert scripts.run("predict", *flags, f"--model={trained}", f"--output={own}").code == 0
    done = scripts.run("predict", *flags, f"--model={model}", f"--output={out}")
    assert done.code == 0, done.stderr
    assert ("takes images of 33x33 pixels" in done.stdout) == (kind == "litert")
    for i in range(6):
        with Image.open(own / f"{i}.png") as expected, Image.open(out / f"{i}.png") as found:
            assert found.size == expected.size
            if kind != "litert" or SIZES[i % 3] == (33, 33):
                assert (np.asarray(found) == np.asarray(expected)).mean() > 0.999
    refused = scripts.run("predict", *flags, f"--model={trained}", f"--output={out}")
    assert refused.code == 1 and "were made in another way" in refused.stderr
    if kind == "litert":
        done = scripts.run(
            "predict", *flags, f"--model={model}", EVERYTHING, f"--output={tmp_path}/other"
        )
        assert done.code == 1 and "gives no probabilities" in done.stderr
        assert not (tmp_path / "other").exists()

        for name in ("model.tflite", "dataset.json"):
            shutil.copy(model / name, tmp_path)
        alone = [*flags, f"--model={tmp_path}/model.tflite", f"--output={tmp_path}/alone"]
        assert scripts.run("predict", *alone).code == 0
        spec = tmp_path / "dataset.json"  # which the file needs beside it
        tree = json.loads(spec.read_text())
        spec.write_text(json.dumps({**tree, "class_names": tree["class_names"][::-1]}))
        refused = scripts.run("predict", *alone)
        assert refused.code == 1 and "has other weights or classes" in refused.stderr


def test_a_video_becomes_a_video_of_the_same_frames(scripts, trained, tmp_path):
    av = pytest.importorskip("av", reason="av, which reads videos, is not installed")
    sizes = {"clip.mp4": (48, 32), "odd.mkv": (33, 25)}
    for name, (width, height) in sizes.items():
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(30000, 1001))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
            for i in range(10):
                pixels = np.full((height, width, 3), 20 * i, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
    with av.open(str(tmp_path / "order.avi"), "w") as container:  # whose times do not ascend
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(10):
            pixels = np.full((32, 32, 3), 20 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    random = np.random.default_rng(0)
    with av.open(str(tmp_path / "cut.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(30):
            pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    whole = (tmp_path / "cut.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "link.mp4").symlink_to("nowhere")
    (tmp_path / "damaged.mov").write_bytes(b"no video")
    (tmp_path / "playlist.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    os.mkfifo(tmp_path / "pipe.mp4")
    out = tmp_path / "out"
    flags = [f"--model={trained}", f"--images={tmp_path}/*.*", f"--output={out}", "--batch_size=4"]
    done = scripts.run("predict", *flags)
    assert done.code == 1 and "damaged.mov: not a readable video" in done.stderr, done.stderr
    assert "playlist.mp4: not a readable video" in done.stderr  # it would name other files
    assert "pipe.mp4: it is not a regular file" in done.stderr
    assert f"link.mp4: it is a link to {tmp_path}/nowhere, which is not there" in done.stderr
    assert "cut.mkv: after " in done.stderr and "It may be cut off" in done.stderr
    made = {"clip_overlay.mp4", "odd_overlay.mp4", "order_overlay.mp4"}
    assert set(os.listdir(out)) == {*made, "predictions.jsonl", "legend.png"}
    for name, size in sizes.items():
        with (
            av.open(str(tmp_path / name)) as source,
            av.open(str(out / f"{name[:-4]}_overlay.mp4")) as made,
        ):
            expected, found = ([*each.decode(video=0)] for each in (source, made))
            times = [[frame.time for frame in frames] for frames in (expected, found)]
            np.testing.assert_allclose(times[1], times[0], atol=1e-6)
            assert len(found) == 10
            assert (found[0].width, found[0].height) == size
            rates = [each.streams.video[0].average_rate for each in (source, made)]
            # Matroska has milliseconds, of which the last frame's end is not stored.
            assert float(rates[1]) == pytest.approx(float(rates[0]), rel=1e-2)
    with av.open(str(out / "order_overlay.mp4")) as made:
        assert len([*made.decode(video=0)]) == 10
    assert "3 of 8 images are predicted already" in scripts.run("predict", *flags).stdout


@pytest.mark.skipif(importlib.util.find_spec("av") is not None, reason="av is installed")
def test_without_its_package_a_video_is_an_error_that_names_the_extra(scripts, trained, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"video")
    done = scripts.run(
        "predict", f"--model={trained}", f"--images={tmp_path}/clip.mp4", f"--output={tmp_path}/out"
    )
    assert done.code == 1
    assert "videos need the package av. Run pip install -e '.[video]'." in done.stderr
    assert not (tmp_path / "out").exists()


PREDICT = "--model={run} --images={run}/val.png"
BAD = [
    Case("predictions", "predict", flags, says, damage)
    for flags, says, damage in [
        ("--model={new} --images={run}/val.png --output={new}2", "there is no file or dir", None),
        ("--model= --images={run}/val.png --output={new}", "--model must be given", None),
        ("--model={run}/best --images={run}/val.png --output={new}", "is not a model", None),
        ("--model={run}/recipe.json --images={run}/val.png --output={new}", "not a model", None),
        (f"{PREDICT} --output={{new}} --write=masks", "--write must be some of overlay", None),
        (f"{PREDICT} --output={{new}} --write=", "--write must be some of overlay", None),
        (f"{PREDICT} --output={{new}} --write=page,index", "--write=page shows overlays", None),
        (f"{PREDICT} --output={{new}} --batch_size=0", "--batch_size=0", None),
        (f"{PREDICT} --output={{new}} --allow_any_op", "--allow_any_op is for exports", None),
        (
            "--model={run}/x.tflite --images={run}/val.png --output={new} --checkpoint=last",
            "--checkpoint is for workdirs alone",
            content("x.tflite", b"\x1c\0\0\0TFL3" + bytes(99)),
        ),
        (
            "--model={run}/x/x.tflite --images={run}/val.png --output={new}",
            "no dataset.json beside",
            content("x/x.tflite", b"\x1c\0\0\0TFL3" + bytes(99)),
        ),
        (
            "--model={run}/x/saved_model.pb --images={run}/val.png --output={new}",
            "no assets.extra/dataset.json in",
            content("x/saved_model.pb", b"\x08\x01"),
        ),
        (
            f"{PREDICT} --output={{run}}/out",
            "val.png would be overwritten, and",
            content("out/val.png", b"mine"),
        ),
        (
            f"{PREDICT} --output={{run}}/out",
            "predictions.jsonl: line 1 is damaged",
            content("out/predictions.jsonl", b"junk\n"),
        ),
        (
            f"{PREDICT} --output={{run}}/out",
            "were made in another way: by the model of elsewhere",
            content("out/predictions.jsonl", b'{"model": "elsewhere", "sha256": "1"}\n'),
        ),
    ]
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.says)
def test_a_bad_command_is_an_error_and_changes_nothing(
    scripts, run_copy, data_dir, recipe_flags, case
):
    check(case, scripts, run_copy, data_dir, recipe_flags)


def test_a_workdir_without_weights_is_an_error(scripts, run_copy, data_dir, recipe_flags):
    for name in ("best", "checkpoints"):
        for path in (run_copy / name).iterdir():
            path.unlink()
    case = Case("predictions", "predict", f"{PREDICT} --output={{new}}", "no checkpoint in")
    check(case, scripts, run_copy, data_dir, recipe_flags)
