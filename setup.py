"""The package: what it needs, and the commands it installs. BUILD.md says why each is needed."""

from setuptools import find_packages, setup

MAINS = {
    "clsd-spec": "data_pipeline.spec",
    "clsd-prepare": "data_pipeline.prepare",
    "clsd-simulate": "data_pipeline.simulate",
    "clsd-train": "experiments.train",
    "clsd-score": "experiments.score",
    "clsd-evaluate": "experiments.evaluate",
    "clsd-export": "experiments.export",
    "clsd-drift": "experiments.drift",
    "clsd-kills": "experiments.kills",
    "clsd-compare": "experiments.compare",
    "clsd-demo": "experiments.demo",
    "clsd-deploy": "experiments.deploy",
    "clsd-table-storage": "experiments.table_storage",
    "clsd-simulate-online": "experiments.simulate_online",
    "clsd-benchmark": "experiments.benchmark",
    "clsd-benchmark-environments": "experiments.benchmark_environments",
}

setup(
    name="clsd_tf",
    version="0.1.0",
    description="Click-confidence learning for recommenders, on TensorFlow.",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["clsd_tf*", "data_pipeline*", "experiments*"]),
    package_data={
        "data_pipeline": ["datasets/*.toml"],
        "experiments.benchmarks": ["requirements/*.txt"],
    },
    python_requires=">=3.11,<3.13",
    install_requires=[
        "absl-py>=2.1,<3",
        "duckdb>=1.5,<2",
        "ibis-framework[duckdb]>=12,<13",
        "numpy>=2.1,<3",
        "protobuf>=6.31.1,<8",
        "pyarrow>=21,<27",
        "pydantic>=2.11,<3",
        "rich>=14,<16",
        "scipy>=1.15,<2",
        "tensorboard>=2.20,<2.22",
        "tensorflow>=2.21,<2.22",
        "tensorflow-metadata>=1.21,<2",
        "tensorflow-recommenders>=0.7.7,<0.8",
        "tf-keras>=2.21,<2.22",
    ],
    extras_require={
        "spark": ["pyspark>=4.0,<5"],
        "report": ["matplotlib>=3.10,<4", "optuna>=4.5,<5"],
        "serving": ["tensorflow-serving-api>=2.21,<2.22"],
        "docs": ["mkdocs>=1.6,<2", "mkdocstrings[python]>=1,<2"],
        "dev": [
            "build>=1.2,<2",
            "hypothesis>=6.140,<7",
            "import-linter>=2.3,<3",
            "matplotlib>=3.10,<4",
            "onnxruntime>=1.32,<2",
            "openvino>=2026.4,<2027",
            "optuna>=4.5,<5",
            "mypy>=2.4,<3",
            "pytest>=9,<10",
            "pytest-xdist>=3.8,<4",
            "pyyaml>=6,<7",
            "ruff>=0.14,<0.18",
            "tensorflow-serving-api>=2.21,<2.22",
            "tf2onnx>=1.17,<2",
        ],
    },
    entry_points={
        "console_scripts": [f"{command} = {module}:cli" for command, module in MAINS.items()]
    },
)
