// The kernels' arithmetic for the host: one loop over blocks for every kernel of roi.cu and frame.cu, called through
// ctypes. Each takes its kernel's arguments and then the number of blocks (the first dimension of the grid, and the second
// where it is not a constant).
#include "portable.h"
#include "geometry.h"
#include "roi.h"
#include "crop.h"
#include "proposals.h"
#include "fusion.h"

#include <cstddef>
#include <utility>

using namespace spm;

extern "C" {

void spm_set_order(int backwards) { spm_backwards = backwards != 0; }

void spm_to_half(const float* from, unsigned short* to, int count) {
    for (int i = 0; i < count; ++i) store((Half*)to + i, from[i]);
}
void spm_from_half(const unsigned short* from, float* to, int count) {
    for (int i = 0; i < count; ++i) to[i] = load((const Half*)from + i);
}
void spm_to_bfloat(const float* from, unsigned short* to, int count) {
    for (int i = 0; i < count; ++i) store((Bfloat*)to + i, from[i]);
}
void spm_from_bfloat(const unsigned short* from, float* to, int count) {
    for (int i = 0; i < count; ++i) to[i] = load((const Bfloat*)from + i);
}

#define ROI_HOST(name, Data)                                                                                            \
    void name(const Data* deep, const Data* shallow, const float* boxes, const float* scale, const float* shift,         \
              int per_target, int height, int width, int channels_last, Data* out, int proposals) {                     \
        for (int proposal = 0; proposal < proposals; ++proposal) {                                                      \
            for (int part = 0; part < ROI_CHANNELS / ROI_BLOCK_CHANNELS; ++part) {                                      \
                roi_block(proposal, part, deep, shallow, boxes, scale, shift, per_target, height, width, channels_last, \
                          out);                                                                                         \
            }                                                                                                           \
        }                                                                                                               \
    }
ROI_HOST(spm_roi_f32, float)
ROI_HOST(spm_roi_f16, Half)
ROI_HOST(spm_roi_bf16, Bfloat)

void spm_begin(State* states, const Settings* settings, int targets) {
    for (int target = 0; target < targets; ++target) begin(states + target, settings);
}

void spm_frame_sum(const unsigned char* frame, long long row_step, long long pixel_step, int height, int width,
                   int channels, int count, State* states, int blocks, int targets) {
    for (int at = 0; at < blocks * targets; ++at) {
        sum_block(at % blocks, blocks, at / blocks, {frame, height, width, channels, row_step, pixel_step}, count, states);
    }
}

void spm_crop_f32(const unsigned char* frame, long long row_step, long long pixel_step, int height, int width,
                  int channels, int count, const State* states, float* out, int blocks, int targets) {
    for (int at = 0; at < blocks * targets; ++at) {
        crop_block(at % blocks, at / blocks, {frame, height, width, channels, row_step, pixel_step}, states, count, out);
    }
}

void spm_select(const float* scores, const float* boxes, const State* states, const Settings* settings, int* indices,
                int* counts, float* crop_boxes, float* frame_boxes, float* own_scores, int targets) {
    const int anchors = settings->anchors;
    for (int target = 0; target < targets; ++target) {
        const int row = target * settings->candidates;
        select_block(scores + target * anchors, boxes + 4 * target * anchors, states + target, settings, indices + row,
                     counts + target, crop_boxes + 4 * row, frame_boxes + 4 * row, own_scores + row);
    }
}

void spm_fuse(const int* counts, const float* coarse_scores, const float* crop_boxes, const float* frame_boxes,
              const float* fine_scores, const float* fine_boxes, int height, int width, const Settings* settings,
              State* states, Result* results, int targets) {
    for (int target = 0; target < targets; ++target) {
        const int row = target * settings->candidates;
        fuse_block(counts + target, coarse_scores + row, crop_boxes + 4 * row, frame_boxes + 4 * row, fine_scores + row,
                   fine_boxes + 4 * row, height, width, settings, states + target, results + target);
    }
}

}  // extern "C"

// A launch as the driver's: a name, the addresses of the arguments, the numbers of blocks in both dimensions.

template <typename... Arguments, std::size_t... Index>
static void invoke(void (*kernel)(Arguments...), void** given, std::index_sequence<Index...>) {
    kernel(*(Arguments*)given[Index]...);
}

template <typename... Arguments>
static void invoke(void (*kernel)(Arguments...), void** given) {
    invoke(kernel, given, std::index_sequence_for<Arguments...>{});
}

#define KERNEL(kernel)                      \
    if (std::strcmp(name, #kernel) == 0) { \
        invoke(kernel, given);              \
        return 0;                           \
    }

// 0, or 1 where there is no kernel of that name. `given` ends with the numbers of blocks.
extern "C" int spm_launch(const char* name, void** given) {
    KERNEL(spm_roi_f32)
    KERNEL(spm_roi_f16)
    KERNEL(spm_roi_bf16)
    KERNEL(spm_begin)
    KERNEL(spm_frame_sum)
    KERNEL(spm_crop_f32)
    KERNEL(spm_select)
    KERNEL(spm_fuse)
    return 1;
}
