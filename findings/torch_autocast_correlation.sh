#!/usr/bin/env bash
# PyTorch's corrcoef and cov of float32 numbers answer in bfloat16 inside an autocast block.
#
# Packages:    torch 2.13.0, numpy 2.4.6
# Expectation: autocast is for the operators that its page lists, the work of networks; statistics that are computed beside
#              them from float32 numbers stay float32, as mean, std and var do.
# Behaviour:   corrcoef and cov are made of a product of matrices, which autocast rounds: correlations from 0.5 to 1 are
#              multiples of 1/256, so that models that differ by 0.003 look the same, or apart. float64 is left alone.
# Seen:        0.7973 outside (NumPy: 0.7973), 0.7969 inside as bfloat16; of float64 numbers, inside, 0.7973
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$folder/packages" torch==2.13.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" "${PYTHON:-python3}" - <<'END'
import sys

import numpy as np
import torch

random = np.random.default_rng(0)
first = random.standard_normal(4096).astype(np.float32)
pairs = np.stack([first, first + 0.75 * random.standard_normal(4096).astype(np.float32)])
wanted = np.corrcoef(pairs.astype(np.float64))[0, 1]
values = torch.from_numpy(pairs)
outside = torch.corrcoef(values)[0, 1]
with torch.autocast("cpu", torch.bfloat16):
    inside, spread, double = torch.corrcoef(values)[0, 1], torch.cov(values), torch.corrcoef(values.double())[0, 1]
    others = {value.dtype for value in (values.mean(), values.std(), values.var())}
print(f"torch {torch.__version__}: NumPy {wanted:.4f}, outside {outside:.4f}, inside {inside:.4f} as {inside.dtype}")
print(f"inside, of float64 numbers: {double:.4f}")
holds = (
    abs(outside - wanted) < 1e-5
    and inside.dtype == spread.dtype == torch.bfloat16
    and float(inside) * 256 == int(float(inside) * 256)
    and abs(double - wanted) < 1e-9
    and others == {torch.float32}
)
if not holds:
    sys.exit("changed: a correlation inside autocast is not what bfloat16 makes of it")
END
