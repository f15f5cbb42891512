# Sourced by demo.sh and test.sh: a virtual environment in .venv with this project and all it needs, made once, and again
# when what it is built from changes.
# SPM_VENV names another place.
venv=${SPM_VENV:-$root/.venv}
if [ ! -x "$venv/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
fi
source "$venv/bin/activate"
stamp="$venv/.spm_rt_$(cat "$root/pyproject.toml" "$root/setup.py" "$root"/spm_rt/frame/*.cpp | cksum | cut -d' ' -f1)"
if [ ! -f "$stamp" ]; then
    echo "== setting up $venv (once; a few minutes)"
    python -m pip install --quiet --upgrade pip
    # First and by itself, in the version that is tested. The CPU build is all that export and tests need; on Linux, PyPI
    # has the build with CUDA.
    python -m pip install --quiet "torch==${SPM_TORCH:-2.13.0}"
    python -m pip install --quiet --editable "$root[dev,openvino]"
    touch "$stamp"
fi
