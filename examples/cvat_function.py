"""A tracking function for CVAT's agent, which loads this file by its path:

cvat-cli function create-native "SPM-Tracker" --function-file examples/cvat_function.py -p bundle=str:spm_alexnet
cvat-cli function run-agent ID --function-file examples/cvat_function.py -p bundle=str:spm_alexnet
"""

from spm_rt.pipelines.toolkits.cvat import TrackingFunction
from spm_rt.pipelines.toolkits.cvat import create as load


def create(bundle: str = "spm_alexnet", threads: int = 0) -> TrackingFunction:
    return load(bundle, threads=threads)
