"""Packaging of taskmask."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+?)"', (here / "taskmask" / "__init__.py").read_text(encoding="utf-8"))[1]

setup(
    name="taskmask",
    version=version,
    description="Masked-language-model pre-training with pluggable masking policies",
    long_description=(here / "README.md").read_text(encoding="utf-8") if (here / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["taskmask", "taskmask.*", "taskmask_cli"]),
    package_data={"taskmask": ["py.typed"]},
    install_requires=["torch>=2.13", "sentencepiece>=0.2.3", "numpy>=2.0", "tensorboard>=2.20", "tqdm>=4.66"],
    extras_require={
        "hf": ["safetensors", "tokenizers"],
        "report": ["matplotlib", "scipy"],
        "benchmarks": ["transformers", "datasets", "accelerate", "tokenizers"],
        "dev": [
            *["pytest", "pytest-xdist", "hypothesis", "pytest-timeout", "ruff", "mypy", "setuptools"],
            *["transformers", "safetensors", "tokenizers", "scikit-learn", "scipy", "rouge-score"],
        ],
    },
    entry_points={
        "console_scripts": [
            "taskmask = taskmask_cli.main:cli",
            "taskmask-train = taskmask_cli.main:cli_train",
            "taskmask-preprocess = taskmask_cli.main:cli_preprocess",
        ]
    },
)
