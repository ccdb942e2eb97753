"""Packaging: `pip install -e .` installs the packages; the scripts run from the checkout."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent


def version() -> str:
    """The version that the package states, read without importing it."""
    text = (ROOT / "deeplab_tf" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


setup(
    name="deeplab-tf",
    version=version(),
    description="DeepLabv3+ and FastFCN (Joint Pyramid Upsampling) on TensorFlow and Keras 3",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["deeplab_tf", "deeplab_tf.*", "jpu_tf", "jpu_tf.*"]),
    python_requires=">=3.11",
    install_requires=[
        "absl-py",
        "importlib_resources",  # tensorflow-datasets imports it and forgets to require it
        "numpy",
        "pillow",
        "tensorflow>=2.20",  # brings Keras 3
        "tensorflow-datasets>=4.9.9",
    ],
    extras_require={
        "cuda": ["tensorflow[and-cuda]>=2.20"],  # NVIDIA's libraries, for training on GPUs
        "backends": ["jax", "torch"],  # to compare the networks on Keras' other backends
        "tensorboard": ["tensorboard"],
        "test": ["pytest"],
        "dev": ["pre-commit", "ruff"],
    },
)
