"""Batches and record of predict.py, without a process."""

import dataclasses
import errno
import os
import pathlib
import time
import types
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import predict_model
import predict_record
import predict_video
import pytest
from PIL import Image
from predict_batches import Photo, ahead, batches, predicted, written
from predict_files import write_page, write_prediction
from predict_record import FileState, Predicted, check_output, opened, state_of

from deeplab_tf.data.photos import named_photos, output_stems
from deeplab_tf.pictures import visualization
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette

SPEC = DatasetSpec(
    name="drawn",
    class_names=("ground", "tree", "car"),
    ignore_label=255,
    palette=bit_palette(3),
    splits={},
)
MADE_BY = {"model": "runs/a", "sha256": "1f", "options": {"kind": "whole_image", "flip": False}}
ODD_NAMES = [b"a'b\".png", b"line\nbreak.png", b"\xff.png", "größe 100%.png".encode()]


def drawn(folder: pathlib.Path, sizes: dict[str, tuple[int, int]]) -> list[Photo]:
    """Images of these sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (name, (height, width)) in enumerate(sizes.items()):
        picture = np.full((height, width, 3), i % 200, np.uint8)
        Image.fromarray(picture).save(os.path.join(str(folder), name))
    names = named_photos([str(folder)])
    stems = output_stems(names, str(folder) + "_out")
    return [Photo(path, names[path], stems[path]) for path in names]


def entry(name: str, **values) -> Predicted:
    fields = {
        "source": f"/photos/{name}",
        "state": FileState(10, 20),
        "height": 4,
        "width": 6,
        "written": ("index", "overlay"),
        "shares": {"tree": 1.0},
    }
    return Predicted(name=name, **fields | values)


def write_files(directory: pathlib.Path, *entries: Predicted) -> None:
    for each in entries:
        for file in each.files().values():
            path = os.path.join(str(directory), file)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            pathlib.Path(path).write_text("a prediction")


SIZES = {f"{i:02d}.png": [(4, 6), (6, 4), (5, 5)][i * i % 5 % 3] for i in range(23)}


def names_of(found) -> list[list[str]]:
    return [[photo.name for photo in batch] for batch in found]


def test_a_batch_has_one_size_and_every_image_is_in_one_batch(tmp_path):
    photos = drawn(tmp_path / "in", SIZES)
    found = list(batches(photos, 3))
    for batch in found:
        assert 1 <= len(batch) <= 3
        assert len({photo.image.shape for photo in batch}) == 1
    assert sorted(sum(names_of(found), [])) == list(SIZES)
    assert [photo.image for photo in photos] == [None] * 23  # nothing keeps them in memory
    assert names_of(batches(photos, 1)) == [[name] for name in SIZES]


def test_images_of_a_rare_size_wait_for_a_limited_number_of_others(tmp_path):
    sizes = {f"{i:02d}.png": (4 + i, 6) for i in range(12)}  # no two alike
    reads = []

    def listed():
        for photo in drawn(tmp_path / "in", sizes):
            reads.append(photo.name)
            yield photo

    found = batches(listed(), 2)
    assert names_of([next(found)]) == [["00.png"]]
    assert len(reads) == 4 * 2 + 1


def test_large_images_are_predicted_in_smaller_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("predict_batches._MOST_PIXELS", 50)
    photos = drawn(tmp_path / "in", {f"{i}.png": (4, 6) for i in range(5)})
    assert [len(batch) for batch in batches(photos, 4)] == [2, 2, 1]
    photos = drawn(tmp_path / "in2", {f"{i}.png": (8, 8) for i in range(2)})
    assert [len(batch) for batch in batches(photos, 4)] == [1, 1]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_a_run_that_resumes_predicts_the_batches_of_a_run_without_a_break(tmp_path, batch_size):
    photos = drawn(tmp_path / "in", SIZES)
    in_one_go = names_of(batches(photos, batch_size))
    random = np.random.default_rng(0)
    for _ in range(20):
        done = {photo.name for photo in photos if random.random() < 0.6}
        resumed = [
            dataclasses.replace(
                photo, done=entry(photo.name, height=h, width=w) if photo.name in done else None
            )
            for photo, (h, w) in zip(photos, SIZES.values(), strict=True)
        ]
        assert names_of(batches(resumed, batch_size)) == [
            batch for batch in in_one_go if not done.issuperset(batch)
        ]
        outputs = predicted(batches(resumed, batch_size), lambda images: {"mean": images[:, 0, 0]})
        found = {photo.name: int(values["mean"][0]) for photo, values in outputs}
        assert found == {n: i for i, n in enumerate(SIZES) if n not in done}


def test_an_image_that_cannot_be_read_is_given_with_its_error(tmp_path):
    photos = drawn(tmp_path / "in", {f"{i}.png": (4, 6) for i in range(4)})
    (tmp_path / "in/1.png").write_text("no picture")
    (failed, error), batch = list(batches(photos, 3))
    assert failed.name == "1.png" and "cannot read" in str(error)
    assert names_of([batch]) == [["0.png", "2.png", "3.png"]]


def test_an_image_that_is_done_and_can_no_longer_be_read_fills_no_place_in_a_batch(tmp_path):
    photos = drawn(tmp_path / "in", {f"{i}.png": (4, 6) for i in range(3)})
    photos[1] = dataclasses.replace(photos[1], done=entry("1.png"))
    (tmp_path / "in/1.png").write_text("no picture")
    assert names_of(batches(photos, 3)) == [["0.png", "2.png"]]


def test_probabilities_that_are_not_finite_are_refused():
    outputs = {"label_map": np.zeros((1, 2, 2), np.int32)}
    model = predict_model.Model(SPEC, MADE_BY, lambda images, probabilities: outputs)
    images = np.zeros((1, 2, 2, 3), np.uint8)
    assert model.predict(images, False) is outputs
    for value in (np.nan, np.inf):
        outputs["probabilities"] = np.array([[[[0.5, value]]]])
        with pytest.raises(ValueError, match="probabilities must be finite; the model gives NaN"):
            model.predict(images, False)


@pytest.mark.parametrize(
    ("kind", "header", "seconds", "says"),
    [
        ("mov,mp4", {"duration": 1000}, 9.6, None),
        ("mov,mp4", {"duration": 1000}, 9.4, "error"),
        ("mov,mp4", {"duration": 50}, 0.3, None),  # two frames lack
        ("mov,mp4", {"duration": None}, 1, None),
        ("avi", {"frames": 100, "duration": 500}, 9.4, "error"),
        ("avi", {"frames": 0}, 9.4, None),
        ("matroska,webm", {"metadata": {"DURATION": "00:01:40.5"}}, 94, "error"),
        ("matroska,webm", {"metadata": {"DURATION": "00:01:40.5"}}, 96, None),
        ("matroska,webm", {"metadata": {"DURATION": "long"}}, 9.4, "warning"),
        ("matroska,webm", {}, 9.4, "warning"),
        ("matroska,webm", {}, 9.6, None),
        ("mpeg", {"duration": 1000}, 1, None),  # FFmpeg's estimate
    ],
)
def test_a_video_that_ends_before_its_header_says_is_cut_off(capsys, kind, header, seconds, says):
    fields = {"frames": 0, "duration": None, "metadata": {}} | header
    stream = types.SimpleNamespace(time_base=Fraction(1, 100), average_rate=Fraction(10), **fields)
    source = types.SimpleNamespace(
        streams=types.SimpleNamespace(video=[stream]),
        format=types.SimpleNamespace(name=kind),
        duration=10_000_000,
    )
    arguments = ("a.mp4", source, 94, round(seconds * 100))
    if says == "error":
        with pytest.raises(
            ValueError, match=r"a.mp4: after 94 frames: it ends at \S+ of 10\S+ sec"
        ):
            predict_video._check_length(*arguments)
    else:
        predict_video._check_length(*arguments)
    assert ("warning: a.mp4: after 94 frames" in capsys.readouterr().err) == (says == "warning")


def test_the_overlays_of_a_video_have_their_colors(tmp_path):
    av = pytest.importorskip("av", reason="av, which reads videos, is not installed")
    red = np.full((32, 48, 3), (255, 0, 0), np.uint8)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = red.shape[:2]
        container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        container.mux(stream.encode(None))
    trees = {"label_map": np.ones((1, 32, 48), np.int32)}
    model = predict_model.Model(SPEC, MADE_BY, lambda images, probabilities: trees)
    video = Photo(str(tmp_path / "a.mp4"), "a.mp4", str(tmp_path / "out/a"))
    made = predict_video.write_overlays(video, model, 1)
    assert made.source == video.path and made.shares == {"tree": 1.0}
    with av.open(str(tmp_path / "out/a_overlay.mp4")) as container:
        (frame,) = container.decode(video=0)
    expected = visualization.overlay(red, trees["label_map"][0], SPEC.palette)
    found = frame.to_ndarray(format="rgb24").astype(int)
    np.testing.assert_allclose(found, expected, atol=6)  # YUV of 8 bits, compressed
    tags = ("colorspace", "color_range", "color_primaries", "color_trc")
    assert [getattr(frame, tag) for tag in tags] == [1, 1, 1, 1]  # BT.709, 16..235


@pytest.mark.parametrize("size", [(720, 960), (576, 1280), (576, 720)])
def test_large_frames_that_do_not_name_their_colors_have_those_of_hd(tmp_path, size):
    av = pytest.importorskip("av", reason="av, which reads videos, is not installed")
    image = np.full((*size, 3), (200, 60, 30), np.uint8)
    is_hd = size != (576, 720)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = size
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU709" if is_hd else "ITU601"
        )
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "a.mp4")) as container:
        ((_, _, found),) = predict_video._frames(av, "a.mp4", container)
    np.testing.assert_allclose(found.astype(int), image, atol=3)  # YUV of 8 bits, compressed


def test_a_batch_that_fails_is_predicted_one_by_one(tmp_path):
    photos = drawn(tmp_path / "in", {f"{i}.png": (4, 6) for i in range(4)})
    sizes = []

    def predict(images):
        sizes.append(len(images))
        if len(images) > 1 or images[0, 0, 0, 0] == 2:
            raise MemoryError("too much")
        return {"label_map": images[..., 0]}

    found = list(predicted(batches(photos, 4), predict))
    assert sizes == [4, 1, 1, 1, 1]
    assert [type(outputs) for _, outputs in found] == [dict, dict, MemoryError, dict]


def test_writing_is_in_threads_and_its_results_are_in_order(tmp_path):
    photos = drawn(tmp_path / "in", {f"{i}.png": (4, 6) for i in range(9)})
    waiting = []

    def write(photo, outputs):
        time.sleep(0.02 * (photo.name < "3.png"))
        if photo.name == "4.png":
            raise OSError("disk full")
        return photo.name

    def found():
        for photo in photos:
            waiting.append(photo.name)
            yield photo, ValueError("no picture") if photo.name == "7.png" else {}

    with ThreadPoolExecutor(3) as executor:
        results = {}
        for photo, result in written(found(), write, executor, 4):
            results[photo.name] = result
            assert len(waiting) - len(results) <= 4
    assert list(results) == [photo.name for photo in photos]
    errors = {name: result for name, result in results.items() if isinstance(result, Exception)}
    assert {name: str(error) for name, error in errors.items()} == {
        "4.png": "disk full",
        "7.png": "no picture",
    }


def test_an_error_while_reading_ahead_is_raised_where_the_item_is_used():
    def items():
        yield 1
        raise KeyError("x")

    with ThreadPoolExecutor(1) as executor:
        found = ahead(items(), executor)
        assert next(found) == 1
        with pytest.raises(KeyError):
            next(found)


def test_files_of_a_prediction(tmp_path):
    (photo,) = drawn(tmp_path / "in", {"a.png": (2, 4)})
    photo = photo.read()
    scores = np.random.default_rng(0).random((2, 4, 3)).astype(np.float32)
    label_map = np.array([[0, 0, 1, 1], [0, 0, 0, 1]], np.int32)
    outputs = {"label_map": label_map, "probabilities": scores}
    made = write_prediction(photo, outputs, ("overlay", "index", "probabilities", "page"), SPEC)
    assert made.shares == {"ground": 5 / 8, "tree": 3 / 8}
    assert made.state == state_of(photo.path)
    assert sorted(os.listdir(tmp_path / "in_out")) == [
        "a.png",
        "a_overlay.png",
        "a_probabilities.npz",
    ]
    with Image.open(tmp_path / "in_out/a.png") as index:
        np.testing.assert_array_equal(index, label_map)
    with np.load(tmp_path / "in_out/a_probabilities.npz") as stored:
        assert stored["probabilities"].dtype == np.float16
        np.testing.assert_allclose(stored["probabilities"], scores, atol=1e-3)
        assert stored["class_names"].tolist() == ["ground", "tree", "car"]
    alone = write_prediction(photo, {"label_map": label_map}, ("index",), SPEC)
    assert alone.written == ("index",)


def test_the_page_shows_every_overlay_of_the_directory(tmp_path):
    names = [os.fsdecode(name) for name in ODD_NAMES]
    entries = [
        *(entry(name) for name in names),
        entry("x/deep.png"),
        entry("no_overlay.png", written=("index",)),
        entry("clip.mp4", written=("overlay",)),
    ]
    write_files(tmp_path, *entries)
    with opened(str(tmp_path), MADE_BY, overwrite=False) as record:
        for each in entries:
            record.add(each)
        path = write_page(str(tmp_path), record, SPEC)
    text = pathlib.Path(path).read_text(encoding="utf-8")
    assert "Predictions by a" in text and "x/deep_overlay.png" in text
    assert text.count("<img") == len(names) + 1
    assert "clip" not in text and "no_overlay" not in text


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_of_any_bytes_are_read_back(tmp_path, name):
    name = os.fsdecode(name)
    each = entry(name, source=f"/x/{name}", state=FileState(2**40, 1_795_342_539_374_670))
    assert "\n" not in each.line()[:-1]
    assert each.line().isascii()
    assert Predicted.from_line(each.line()) == each


def test_an_image_is_complete_only_if_its_file_and_all_that_is_wanted_are_as_they_were(tmp_path):
    out = tmp_path / "out"
    image = tmp_path / "a.png"
    image.write_bytes(b"pixels")
    made = entry("a.png", source=str(image), state=state_of(str(image)))
    with opened(str(out), MADE_BY, overwrite=False) as record:
        assert record.complete("a.png", str(image), {"index"}) is None
        write_files(out, made)
        record.add(made)
        record.finish()

    def complete(*kinds):
        with opened(str(out), MADE_BY, overwrite=False) as record:
            return record.complete("a.png", str(image), kinds)

    assert complete("index", "overlay") == complete("index") == made
    assert complete("index", "probabilities") is None
    (out / "a.png").unlink()
    assert complete("overlay") is None  # what was deleted is predicted again

    write_files(out, made)
    with opened(str(out), MADE_BY, overwrite=False) as record:
        record.add(made)
    image.write_bytes(b"others")  # as long as before
    os.utime(image, ns=(0, 10**18))
    assert complete("index") is None
    assert not (out / "a.png").exists() and not (out / "a_overlay.png").exists()


def test_kinds_that_are_written_later_are_added(tmp_path):
    with opened(str(tmp_path), MADE_BY, overwrite=False) as record:
        record.add(entry("a.png", written=("overlay",)))
        record.add(entry("a.png", written=("index", "overlay")))
        assert record.done["a.png"].written == ("index", "overlay")


def test_a_line_that_a_kill_cut_off_is_forgotten_and_what_it_left_is_removed(tmp_path):
    both = [entry("a.png"), entry("x/b.png")]
    write_files(tmp_path, *both)
    with opened(str(tmp_path), MADE_BY, overwrite=False) as record:
        for each in both:
            record.add(each)
    path = tmp_path / "predictions.jsonl"
    whole = path.read_bytes()
    (tmp_path / "x/b_overlay.png.999999999.tmp").write_text("half")
    for length in range(len(whole.splitlines()[0]) + 1, len(whole), 11):
        path.write_bytes(whole[:length])
        with opened(str(tmp_path), MADE_BY, overwrite=False) as record:
            lines = whole[:length].count(b"\n") - 1
            assert list(record.done.values()) == both[:lines]
            for each in both[lines:]:
                record.add(each)
            record.finish()
        assert path.read_bytes() == whole
    path.write_bytes(whole)
    with opened(str(tmp_path), MADE_BY, overwrite=False):
        pass
    assert sorted(os.listdir(tmp_path / "x")) == ["b.png", "b_overlay.png"]


def test_only_what_a_prediction_can_leave_is_removed(tmp_path):
    with opened(str(tmp_path), MADE_BY, overwrite=False) as record:
        write_files(tmp_path, entry("x/a.png"))
        record.add(entry("x/a.png"))
    ours = [
        *("index.html", "legend.png", "predictions.jsonl", "x/a.png", "x/a_probabilities.npz"),
        *("y/b.png", "y/c_overlay.mp4"),
    ]
    theirs = ["table", "x/notes", "x/a.txt", "mine/a.png", "y/b_overlay.mp4"]
    (tmp_path / "y").mkdir()
    (tmp_path / "mine").mkdir()
    for name in ours + theirs:
        (tmp_path / f"{name}.999999999.tmp").write_text("half")
    with opened(str(tmp_path), MADE_BY, ["y/b.png", "y/c.mp4", "z/d.png"], overwrite=False):
        pass
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.tmp")}
    assert left == {f"{name}.999999999.tmp" for name in theirs}


def test_the_order_of_the_lines_does_not_depend_on_when_a_run_was_stopped(tmp_path):
    entries = [entry(f"{i}.png") for i in range(5)]
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        out = tmp_path / "".join(map(str, order))
        with opened(str(out), MADE_BY, overwrite=False) as record:
            for i in order:
                record.add(entries[i])
            record.finish()
    first, second = (
        (tmp_path / name / "predictions.jsonl").read_text() for name in os.listdir(tmp_path)
    )
    assert first == second and first.count("\n") == 6


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sha256": "2e"}, "by the model of runs/a, which has other weights or classes"),
        ({"options": {"kind": "whole_image", "flip": True}}, "flip was false and is true"),
        ({"options": {"kind": "sliding_window"}}, 'kind was "whole_image" and is "sliding_window"'),
    ],
)
def test_another_model_is_refused_unless_its_predictions_take_their_place(tmp_path, change, says):
    made = entry("x/a.png")
    write_files(tmp_path, made)
    (tmp_path / "notes.txt").write_text("mine")
    with opened(str(tmp_path), MADE_BY, overwrite=False) as record:
        record.add(made)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with (
        pytest.raises(ValueError, match="made in another way") as caught,
        opened(str(tmp_path), MADE_BY | change, overwrite=False),
    ):
        pass
    assert says in str(caught.value) and "--overwrite" in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    # The path alone does not matter.
    with opened(str(tmp_path), MADE_BY | {"model": "moved"}, overwrite=False) as record:
        assert list(record.done) == ["x/a.png"]
    with opened(str(tmp_path), MADE_BY | change, overwrite=True) as record:
        assert not record.done
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"notes.txt", "predictions.jsonl"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "it must have a line with the model"),
        ("{}\n{\n", "line 2 is damaged (not readable JSON"),
        ('{}\n{"name": "a"}\n', "line 2 is damaged (state must be there; it is missing)"),
        ("junk\n", "line 1 is damaged (not readable JSON"),
        (b"\xff\n", "it must be text in UTF-8"),
        *(
            ("{}\n" + entry("a.png", **{key: value}).line(), f"line 2 is damaged ({key} must be ")
            for key, value in [("height", 0), ("width", -3), ("written", ("page",))]
        ),
        ("{}\n" + entry("a.mp4").line(), "line 2 is damaged (written must be some of overlay"),
    ],
)
def test_a_damaged_record_is_named_with_its_line(tmp_path, content, says):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "predictions.jsonl").write_bytes(content)
    with (
        pytest.raises(ValueError, match="predictions.jsonl: ") as caught,
        opened(str(tmp_path), MADE_BY, overwrite=False),
    ):
        pass
    assert says in str(caught.value)
    with opened(str(tmp_path), MADE_BY, overwrite=True) as record:
        assert not record.done


@pytest.mark.parametrize("name", ["../mine.png", "/mine.png", "x/../../mine.png", "", "x\0.png"])
def test_a_record_cannot_have_files_elsewhere_removed(tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "mine.png").write_text("mine")
    (out / "predictions.jsonl").write_text("{}\n" + entry(name, written=("index",)).line())
    with pytest.raises(ValueError, match="a path inside"), opened(str(out), MADE_BY, overwrite=0):
        pass
    with opened(str(out), MADE_BY, overwrite=True):
        pass
    assert (tmp_path / "mine.png").exists()


def test_overwriting_removes_what_is_left_of_an_image_that_lacks_a_file(tmp_path):
    write_files(tmp_path, entry("a.png"))
    with opened(str(tmp_path), MADE_BY, overwrite=False) as record:
        record.add(entry("a.png"))
    (tmp_path / "a_overlay.png").unlink()
    with opened(str(tmp_path), MADE_BY, overwrite=True) as record:
        assert not record.done
    assert os.listdir(tmp_path) == ["predictions.jsonl"]


def test_predictions_of_an_image_do_not_replace_those_of_another_one(tmp_path):
    write_files(tmp_path, entry("x/a.png"))
    with opened(str(tmp_path), MADE_BY, overwrite=False) as record:
        record.add(entry("x/a.png"))
        names = ["x/a.png", "a.png", "x/b.jpg", "x/a.mp4"]
        record.check_names({f"/photos/{name}": name for name in names})
        for name in ("x/a.jpg", "x/a_overlay.jpg"):
            with pytest.raises(ValueError, match=rf"is for /photos/x/a.png, .* by that of {name}"):
                record.check_names({"b.png": "b.png", name: name})


def test_an_image_of_another_folder_is_refused_and_of_one_that_was_moved_is_predicted(tmp_path):
    for folder in ("day1", "day2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_text("1")
        os.utime(tmp_path / folder / "a.png", ns=(0, 10**18))
    (tmp_path / "link").symlink_to("day1")
    old, new, link = (str(tmp_path / folder / "a.png") for folder in ("day1", "day2", "link"))
    out = tmp_path / "out"
    with opened(str(out), MADE_BY, overwrite=False) as record:
        made = entry("a.png", source=old, state=state_of(old))
        write_files(out, made)
        record.add(made)
    with opened(str(out), MADE_BY, overwrite=False) as record:
        for same in (old, os.path.relpath(old), link):
            record.check_names({same: "a.png"})
            assert record.complete("a.png", same, {"index"}) == made
        with pytest.raises(ValueError, match=f"is for {old}, .* by that of {new}. Choose another"):
            record.check_names({new: "a.png"})
        os.remove(old)
        record.check_names({new: "a.png"})
        assert record.complete("a.png", new, {"index"}) is None
        assert not (out / "a.png").exists()


def test_an_image_in_a_record_without_paths_is_predicted_again(tmp_path):
    image = tmp_path / "a.png"
    image.write_text("1")
    made = entry("a.png", source="", state=state_of(str(image)))
    write_files(tmp_path / "out", made)
    line = made.line().replace('"source": "", ', "")
    assert "source" not in line
    (tmp_path / "out/predictions.jsonl").write_text('{"sha256": "1f", "options": {}}\n' + line)
    made_by = {"model": "m", "sha256": "1f", "options": {}}
    with opened(str(tmp_path / "out"), made_by, overwrite=False) as record:
        assert record.done == {"a.png": made}
        record.check_names({str(image): "a.png"})
        assert record.complete("a.png", str(image), {"index"}) is None


@pytest.mark.parametrize(
    ("number", "resumes"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, False)],
)
def test_a_full_disk_says_how_to_go_on(tmp_path, number, resumes):
    with (
        pytest.raises(OSError, match="a.png") as caught,
        opened(str(tmp_path), MADE_BY, overwrite=False),
    ):
        raise OSError(number, os.strerror(number), "a.png")
    assert ("The same command resumes when there is room." in str(caught.value)) == resumes


def test_files_of_an_image_that_has_changed_since_do_not_count_as_written(tmp_path):
    with opened(str(tmp_path), MADE_BY, overwrite=False) as record:
        record.add(entry("a.png", written=("index",)))
        record.add(entry("a.png", written=("overlay",), state=FileState(11, 20)))
        assert record.done["a.png"].written == ("overlay",)


def test_an_image_that_goes_away_fails_alone(tmp_path, monkeypatch):
    photos = drawn(tmp_path / "in", {f"{i}.png": (4, 6) for i in range(3)})

    def state(path):
        if path.endswith("1.png"):  # removed between two looks at it
            raise FileNotFoundError(path)
        return state_of(path)

    monkeypatch.setattr("predict_batches.state_of", state)
    found = list(batches(photos, 1))
    assert [isinstance(each, tuple) for each in found] == [False, True, False]


def test_two_runs_do_not_write_into_one_directory(tmp_path):
    with (
        opened(str(tmp_path), MADE_BY, overwrite=False),
        pytest.raises(BlockingIOError, match="is in use by process"),
        opened(str(tmp_path), MADE_BY, overwrite=False),
    ):
        pass
    assert os.listdir(tmp_path) == ["predictions.jsonl"]


def test_files_that_are_no_predictions_are_not_overwritten(tmp_path):
    stems = {"in/a.jpg": str(tmp_path / "a")}
    check_output(stems, str(tmp_path), overwrite=False)
    check_output(stems, str(tmp_path / "new"), overwrite=False)
    (tmp_path / "notes.txt").write_text("mine")
    check_output(stems, str(tmp_path), overwrite=False)
    for name in ("a.png", "index.html"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(FileExistsError, match=f"{name} would be overwritten"):
            check_output(stems, str(tmp_path), overwrite=False)
        check_output(stems, str(tmp_path), overwrite=True)
        (tmp_path / name).unlink()
    (tmp_path / "a.png").write_text("from a run that was killed")
    (tmp_path / "predictions.jsonl").write_text("")
    check_output(stems, str(tmp_path), overwrite=False)


@pytest.mark.slow  # 100,000 lines
def test_a_record_of_100000_images_is_read_in_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(predict_record.os.path, "isfile", lambda path: True)
    lines = "".join(entry(f"{i}.png").line() for i in range(100_000))
    (tmp_path / "predictions.jsonl").write_text('{"sha256": "1f", "options": {}}\n' + lines)
    made_by = {"model": "m", "sha256": "1f", "options": {}}
    with opened(str(tmp_path), made_by, overwrite=False) as record:
        assert len(record.done) == 100_000
