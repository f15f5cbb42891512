// The names and arguments of the kernels around the networks: crop, proposals, fusion. spm_rt/gpu/kernels/__init__.py says
// with how many blocks and threads they are launched.
#include "crop.h"
#include "fusion.h"
#include "proposals.h"

using namespace spm;

// All for T targets on one frame: one block per target (begin, select, fuse), or blockIdx.y is the target (sum, crop).
extern "C" __global__ void spm_begin(State* states, const Settings* settings) { begin(states + blockIdx.x, settings); }

extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    spm_frame_sum(const unsigned char* frame, long long row_step, long long pixel_step, int height, int width,
                  int channels, int count, State* states) {
    sum_block((int)blockIdx.x, (int)gridDim.x, (int)blockIdx.y, {frame, height, width, channels, row_step, pixel_step},
              count, states);
}

#define CROP_KERNEL(name, Data)                                                                                         \
    extern "C" __global__ void __launch_bounds__(CROP_THREADS)                                                          \
        name(const unsigned char* frame, long long row_step, long long pixel_step, int height, int width, int channels, \
             int count, const State* states, const float* mean, int planes, int channels_last, Data* out) {            \
        crop_block((int)blockIdx.x, (int)blockIdx.y, {frame, height, width, channels, row_step, pixel_step}, states,    \
                   count, {mean, planes, channels_last}, out);                                                                                      \
    }
CROP_KERNEL(spm_crop_f32, float)
CROP_KERNEL(spm_crop_f16, Half)
CROP_KERNEL(spm_crop_bf16, Bfloat)

extern "C" __global__ void __launch_bounds__(SELECT_THREADS)
    spm_select(const float* scores, const float* boxes, const State* states, const Settings* settings, int* indices,
               int* counts, float* crop_boxes, float* frame_boxes, float* own_scores) {
    const int target = blockIdx.x, anchors = settings->anchors, row = target * settings->candidates;
    select_block(scores + target * anchors, boxes + 4 * target * anchors, states + target, settings, indices + row,
                 counts + target, crop_boxes + 4 * row, frame_boxes + 4 * row, own_scores + row);
}

extern "C" __global__ void __launch_bounds__(FUSE_THREADS)
    spm_fuse(const int* counts, const float* coarse_scores, const float* crop_boxes, const float* frame_boxes,
             const float* fine_scores, const float* fine_boxes, int height, int width, const Settings* settings,
             State* states, Result* results) {
    const int target = blockIdx.x, row = target * settings->candidates;
    fuse_block(counts + target, coarse_scores + row, crop_boxes + 4 * row, frame_boxes + 4 * row, fine_scores + row,
               fine_boxes + 4 * row, height, width, settings, states + target, results + target);
}
