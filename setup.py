"""Says in which top-level folder each package lies and builds a C and a C++ file; the rest is in pyproject.toml."""

import sys

from setuptools import Extension, find_packages, setup

HOMES = {
    "spm_rt": ".",
    "spm_export": "export",
    "spm_engines": "engines",
    "spm_bench": "benchmarks",
    "spm_train": "training",
}
"""Package -> the folder that it lies in."""
# Without fused multiply-adds: results shall be numpy's, bit for bit.
WINDOWS = sys.platform == "win32"
FLAGS = ["/O2", "/fp:precise"] if WINDOWS else ["-O3", "-ffp-contract=off"]
CPP17 = "/std:c++17" if WINDOWS else "-std=c++17"
KERNELS = "spm_rt/gpu/kernels"

setup(
    package_dir={name: f"{home}/{name}" for name, home in HOMES.items()},
    packages=[found for name, home in HOMES.items() for found in find_packages(home, include=[name, f"{name}.*"])],
    package_data={"": ["py.typed", "*.pyi"], "spm_export": ["data/*"], "spm_rt.gpu.kernels": ["*.h", "*.cu"]},
    include_package_data=False,
    # Optional: without a C compiler numpy and OpenCV do the same, more slowly.
    ext_modules=[
        Extension("spm_rt.frame._sampling", ["spm_rt/frame/_sampling.c"], extra_compile_args=FLAGS, optional=True),
        Extension(
            "spm_rt.frame._choosing",
            ["spm_rt/frame/_choosing.cpp"],
            depends=[f"{KERNELS}/{name}.h" for name in ("portable", "geometry", "proposals", "fusion")],
            extra_compile_args=[*FLAGS, CPP17],
            optional=True,
        ),
    ],
)
