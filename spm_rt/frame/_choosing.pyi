import numpy as np
from numpy.typing import NDArray

def propose(
    scores: NDArray[np.float32],
    boxes: NDArray[np.float32],
    last: NDArray[np.float64],
    region: tuple[float, float, float],
    near_iou: float,
    score_floor: float,
    nms_threshold: float,
    reserve: int,
    wanted: int,
    /,
) -> tuple[bytearray, bytearray, bytearray]: ...
def decide(
    crop_boxes: NDArray[np.float32],
    boxes: NDArray[np.float32],
    coarse_scores: NDArray[np.float32],
    fine_scores: NDArray[np.float32],
    fine_boxes: NDArray[np.float32],
    last: NDArray[np.float64],
    region: tuple[float, float, float],
    extent: tuple[float, float, float, float],
    frame_size: tuple[int, int],
    crop_size: int,
    series: bool,
    fine_score_weight: float,
    fine_box_weight: float,
    window_influence: float,
    update_threshold: float,
    size_rate: float,
    min_side: float,
    /,
) -> tuple[tuple[float, float, float, float], float, float, float, float, bytes]: ...
