"""Package metadata of keras_kd."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="keras_kd",
    version="0.1.0",
    description="Knowledge distillation for Keras 3 and TensorFlow, from a large model to the file on the phone.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["keras_kd", "keras_kd.*"]),
    package_data={"keras_kd": ["py.typed", "data/digits.npz", "page/style.css"]},
    python_requires=">=3.11,<3.14",
    install_requires=[
        "tensorflow>=2.20",
        "keras>=3.12",
        "tensorflow-datasets",
        "numpy",
        "ai-edge-litert",  # runs the exported TFLite file: the proof that it equals the Keras model
        "matplotlib",  # draws the demo's picture
        # TFDS 4.9.10 imports these without asking for them.
        "importlib_resources",
        "pydub",
        "audioop-lts; python_version >= '3.13'",  # pydub needs the audioop that Python 3.13 dropped
    ],
    extras_require={
        "test": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "scipy",
            "scikit-learn",  # the origin of the embedded digits, to check them against
            "pillow",  # writes the image folders that the tests read
            "pandas",  # holds a report as a table
            "selenium",  # drives a real browser over the report's page, where there is one
            "nbclient",
            "nbformat",
            "ipykernel",
            "apache-beam",
        ],
        "beam": ["apache-beam"],  # makes the cache of a teacher on many machines
        "dev": ["ruff", "pre-commit"],
    },
    entry_points={"console_scripts": ["keras-kd=keras_kd.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
