"""Maps the top-level folders to import names and builds two C files; the rest is in pyproject.toml."""

import sys

from setuptools import Extension, setup

FOLDERS = {
    "spm_rt": "spm_rt",
    "spm_rt.backends": "spm_rt/backends",
    "spm_rt.kernels": "spm_rt/kernels",
    "spm_export": "export",
    "spm_export.data": "export/data",
    "spm_engines": "engines",
    "spm_bench": "benchmarks",
    "spm_train": "training",
}
# Without fused multiply-adds: results shall be numpy's, bit for bit.
FLAGS = ["/O2", "/fp:precise"] if sys.platform == "win32" else ["-O3", "-ffp-contract=off"]

setup(
    package_dir=FOLDERS,
    packages=list(FOLDERS),
    package_data={"": ["py.typed", "*.pyi"], "spm_export.data": ["*"], "spm_rt.kernels": ["*.h", "*.cu"]},
    include_package_data=False,
    # Optional: without a C compiler numpy and OpenCV do the same, more slowly.
    ext_modules=[
        Extension(f"spm_rt.{name}", [f"spm_rt/{name}.c"], extra_compile_args=FLAGS, optional=True)
        for name in ("_sampling", "_choosing")
    ],
)
