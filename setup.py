"""Maps the top-level folders to import names; everything else about the package is in pyproject.toml."""

from setuptools import setup

FOLDERS = {
    "spm_rt": "spm_rt",
    "spm_export": "export",
    "spm_engines": "engines",
    "spm_bench": "benchmarks",
    "spm_train": "training",
}

setup(
    package_dir={**FOLDERS, "spm_rt.backends": "spm_rt/backends"},
    packages=[*FOLDERS, "spm_rt.backends"],
    package_data={
        **{name: ["py.typed"] for name in FOLDERS},
        "spm_export": ["py.typed", "data/*"],
    },
)
