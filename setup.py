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
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    package_data={"deeplab_tf": ["py.typed", "pages/*.css", "pages/*.js"], "jpu_tf": ["py.typed"]},
    packages=find_packages(include=["deeplab_tf", "deeplab_tf.*", "jpu_tf", "jpu_tf.*"]),
    python_requires=">=3.11",
    install_requires=[
        "absl-py",
        "importlib_resources",  # tensorflow-datasets imports it without requiring it
        "keras>=3",
        "numpy",
        "pillow",
        "tensorflow>=2.20",
        "tensorflow-datasets>=4.9.9",
    ],
    extras_require={
        "cuda": ["tensorflow[and-cuda]>=2.20"],  # NVIDIA's libraries, for training on GPUs
        "onnx": ["onnx", "onnxruntime", "tf2onnx"],  # export.py --format=onnx
        "browser": ["selenium"],  # the tests that open pages in Chromium
        # to compare the networks on Keras' other backends and on ONNX Runtime
        "backends": ["jax", "onnx", "onnxruntime", "tf2onnx", "torch"],
        "tensorboard": ["tensorboard"],
        "video": ["av"],  # predict.py --images=clip.mp4
        # The tests read event files back with TensorBoard, and run on several cores with xdist.
        "test": ["pytest", "pytest-xdist", "tensorboard"],
        "dev": ["pre-commit", "ruff"],
    },
)
