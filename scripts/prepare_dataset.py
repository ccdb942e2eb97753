r"""Writes a dataset in the form that training reads.

python scripts/prepare_dataset.py --dataset=shapes --data_dir=data --samples=pictures
python scripts/prepare_dataset.py --dataset=release --dataset.name=voc2012 --raw_dir=downloads \
    --data_dir=data
python scripts/prepare_dataset.py --dataset=tfds --dataset.name=oxford_iiit_pet --data_dir=data
"""

from __future__ import annotations

import os
import sys
import threading

import cli
from absl import flags

from deeplab_tf.data.datasets import DATASETS
from deeplab_tf.recipe import flags as recipe_flags

_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
_RAW_DIR = flags.DEFINE_string(
    "raw_dir", None, "directory with the archives of an official release, or with their contents"
)
_ALLOW_SUBSET = flags.DEFINE_bool(
    "allow_subset", False, "accept fewer examples than the official release has"
)
_SAMPLES = flags.DEFINE_string("samples", None, "directory for some images of the last split")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 6, "how many of them", lower_bound=1)
cli.define_parts({"dataset": DATASETS})


def main(argv: list[str]) -> None:
    """Prepares the dataset if it is not prepared yet, and prints what it has."""
    cli.no_arguments(argv)
    directories = {"data_dir": _DATA_DIR, "raw_dir": _RAW_DIR, "samples": _SAMPLES}
    cli.require(**{n: flag.value for n, flag in directories.items() if flag.value is not None})
    dataset = recipe_flags.part_from_flags("dataset", None, DATASETS)
    cli.import_tensorflow()
    import tensorflow_datasets as tfds

    from deeplab_tf.data import pipeline
    from deeplab_tf.pictures.visualization import save_picture
    from deeplab_tf.training.report.progress import Progress

    shown: dict[str, Progress] = {}

    def progress(what: str, done: int, total: int) -> None:
        shown.setdefault(what, Progress(what, total)).update(done)

    if _SAMPLES.value is not None:  # before what may take hours
        os.makedirs(_SAMPLES.value, exist_ok=True)
    if _RAW_DIR.value is not None:
        tfds.disable_progress_bar()  # ours knows how much there is
    prepared = dataset.prepare(
        _DATA_DIR.value,
        raw_dir=_RAW_DIR.value,
        allow_subset=_ALLOW_SUBSET.value,
        progress=progress,
    )
    splits = ", ".join(f"{split} {number}" for split, number in prepared.spec.splits.items())
    print(f"{prepared.spec.name} is ready: {splits}; {', '.join(prepared.spec.class_names)}")
    for note in prepared.notes:
        print(note)
    for split, reason in prepared.absent.items():
        print(f"without {split!r}: {reason}")
    if _SAMPLES.value is not None:
        source = list(prepared.sources.values())[-1]
        for example in pipeline.eval_examples(source).take(_NUM_SAMPLES.value):
            name = example["name"].numpy().decode().replace(os.sep, "_")
            save_picture(os.path.join(_SAMPLES.value, f"{name}.png"), example["image"].numpy())
        print(f"pictures are in {_SAMPLES.value}")


def _end_at_once(ending: SystemExit) -> None:
    """Ends the program; Python would first wait for the downloads in TFDS' threads."""
    if isinstance(ending.code, str):
        print(ending.code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ending.code if isinstance(ending.code, int) else 1)


if __name__ == "__main__":
    try:
        cli.run(
            main,
            interrupted="stopped; incomplete splits are not kept: the same command prepares them",
        )
    except SystemExit as ending:
        if threading.active_count() > 1:
            _end_at_once(ending)
        raise
