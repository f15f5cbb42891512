// The RoI kernels' names and arguments. spm_rt/gpu/kernels/__init__.py says with how many blocks and threads they are launched.
#include "roi.h"

using namespace spm;

// Inputs, whole numbers, output: the order in which TensorRT passes a plugin's arguments.
#define ROI_KERNEL(name, Data)                                                                                          \
    extern "C" __global__ void __launch_bounds__(ROI_THREADS)                                                           \
        name(const Data* deep, const Data* shallow, const float* boxes, const float* scale, const float* shift,         \
             int per_target, int deep_channels, int shallow_channels, int height, int width, int channels_last,         \
             Data* out) {                                                                                               \
        roi_block((int)blockIdx.x, (int)blockIdx.y, deep, shallow, boxes, scale, shift, per_target, deep_channels,      \
                  shallow_channels, height, width, channels_last, out);                                                 \
    }
ROI_KERNEL(spm_roi_f32, float)
ROI_KERNEL(spm_roi_f16, Half)
ROI_KERNEL(spm_roi_bf16, Bfloat)
