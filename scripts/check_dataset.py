"""Reads a whole dataset and names every fault: files, sizes, label values.

python scripts/check_dataset.py --dataset=folder --dataset.images_dir=I --dataset.labels_dir=L
"""

from __future__ import annotations

import cli
from absl import flags

from deeplab_tf.data.datasets import DATASETS
from deeplab_tf.recipe import flags as recipe_flags

_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
cli.define_parts({"dataset": DATASETS})


def main(argv: list[str]) -> None:
    """Prints each class's share of the pixels, faults and hints; fails if there are faults."""
    cli.no_arguments(argv)
    dataset = recipe_flags.part_from_flags("dataset", None, DATASETS)
    cli.import_tensorflow()
    from deeplab_tf.data.check import check_dataset
    from deeplab_tf.training.report.progress import Progress

    opened = dataset.open(_DATA_DIR.value)
    progress = Progress("checking", sum(map(len, opened.sources.values())))
    report = check_dataset(opened, progress=lambda done, _: progress.update(done))
    print(report.text())
    if report.problems:
        raise ValueError(f"{report.faults.number()} faulty examples; all faults are listed above.")
    print("no faults")


if __name__ == "__main__":
    cli.run(main)
