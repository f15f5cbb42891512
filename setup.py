"""Says in which top-level folder each package lies and builds two C++ files; the rest is in pyproject.toml."""

import sys
from glob import glob

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
UNIX = ["-O3", "-funroll-loops", "-ffp-contract=off", "-std=c++17", "-pthread"]
FLAGS = ["/O2", "/fp:precise", "/std:c++17"] if sys.platform == "win32" else UNIX

setup(
    package_dir={name: f"{home}/{name}" for name, home in HOMES.items()},
    packages=[found for name, home in HOMES.items() for found in find_packages(home, include=[name, f"{name}.*"])],
    package_data={
        "": ["py.typed", "*.pyi"],
        "spm_export": ["data/bunny.mp4", "data/*.md"],
        "spm_rt.gpu.kernels": ["*.h", "*.cu"],
        "spm_rt.pipelines.page": ["static/*"],
    },
    include_package_data=False,
    # Optional: without a C++ compiler numpy and OpenCV do the same, more slowly.
    ext_modules=[
        Extension(
            f"spm_rt.frame.{name}",
            [f"spm_rt/frame/{name}.cpp"],
            depends=glob("spm_rt/gpu/kernels/*.h"),
            extra_compile_args=FLAGS,
            extra_link_args=[flag for flag in FLAGS if flag == "-pthread"],
            optional=True,
        )
        for name in ("_sampling", "_choosing")
    ],
)
