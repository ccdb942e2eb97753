"""The table of datasets."""

import subprocess
import sys

from deeplab_tf.data.datasets import DATASETS


def test_keys_are_the_kinds_and_every_kind_opens_and_prepares():
    for kind, dataset in DATASETS.items():
        assert dataset.kind == kind
        assert dataset() == dataset()
        assert callable(dataset.open) and callable(dataset.prepare)


def test_the_table_loads_without_tensorflow():
    heavy = "{'tensorflow', 'keras', 'tensorflow_datasets'}"
    code = f"import sys, deeplab_tf.data.datasets; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
