"""Maps the top-level folders to import names; everything else about the package is in pyproject.toml."""

from setuptools import setup

FOLDERS = {
    "spm_rt": "spm_rt",
    "spm_rt.backends": "spm_rt/backends",
    "spm_export": "export",
    "spm_export.data": "export/data",
    "spm_engines": "engines",
    "spm_bench": "benchmarks",
    "spm_train": "training",
}

setup(
    package_dir=FOLDERS,
    packages=list(FOLDERS),
    package_data={"": ["py.typed"], "spm_export.data": ["*"]},
    include_package_data=False,
)
