"""Writes a dataset in the form that training reads; --samples also writes some as pictures.

python scripts/prepare_dataset.py --data.dataset=shapes --data_dir=data --samples=pictures
python scripts/prepare_dataset.py --data.dataset=voc2012 --raw_dir=downloads --data_dir=data
python scripts/prepare_dataset.py --data.dataset=tfds:oxford_iiit_pet --data_dir=data
"""

from __future__ import annotations

import os

import cli
from absl import flags

from deeplab_tf.recipe import options as config
from deeplab_tf.recipe import flags as recipe_flags

_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
_RAW_DIR = flags.DEFINE_string(
    "raw_dir", None, "directory with the archives of an official release, or what is in them"
)
_ALLOW_SUBSET = flags.DEFINE_bool(
    "allow_subset", False, "prepare fewer examples than the official release has"
)
_SAMPLES = flags.DEFINE_string("samples", None, "directory for some pictures of the last split")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 6, "how many of them", lower_bound=1)
recipe_flags.define_section("data", config.DataConfig)


def main(argv: list[str]) -> None:
    """Prepares the dataset unless it is, and says what it has."""
    cli.no_arguments(argv)
    data = recipe_flags.section_from_flags("data", config.DataConfig())
    cli.import_tensorflow()
    import tensorflow_datasets as tfds

    from deeplab_tf.data import pipeline, prepare_dataset
    from deeplab_tf.training.run_log import Progress
    from deeplab_tf.pictures.visualization import save_picture

    shown: dict[str, Progress] = {}

    def progress(what: str, done: int, total: int) -> None:
        shown.setdefault(what, Progress(what, total)).update(done)

    if _RAW_DIR.value is not None:
        tfds.disable_progress_bar()  # ours knows how much there is
    dataset = prepare_dataset(
        data,
        _DATA_DIR.value,
        raw_dir=_RAW_DIR.value,
        allow_subset=_ALLOW_SUBSET.value,
        progress=progress,
    )
    splits = ", ".join(f"{split} {number}" for split, number in dataset.spec.splits.items())
    print(f"{dataset.spec.name} is ready: {splits}; {', '.join(dataset.spec.class_names)}")
    for split, reason in dataset.absent.items():
        print(f"without {split!r}: {reason}")
    if _SAMPLES.value is not None:
        source = list(dataset.sources.values())[-1]
        for example in pipeline.eval_examples(source).take(_NUM_SAMPLES.value):
            name = example["name"].numpy().decode().replace(os.sep, "_")
            save_picture(os.path.join(_SAMPLES.value, f"{name}.png"), example["image"].numpy())
        print(f"pictures are in {_SAMPLES.value}")


if __name__ == "__main__":
    cli.run(
        main, interrupted="stopped; what was not complete is not kept: start it again to prepare it"
    )
