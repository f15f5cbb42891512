// The kernels' arithmetic for the host: one loop over blocks for every kernel of roi.cu and frame.cu, called through ctypes.
#include "portable.h"
#include "geometry.h"
#include "roi.h"
#include "crop.h"
#include "proposals.h"
#include "fusion.h"

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

#define ROI_HOST(name, Data, Parameter)                                                                                 \
    void name(const Data* deep, const Data* shallow, const float* boxes, const Parameter* scale, const Parameter* shift, \
              int per_target, int height, int width, int channels_last, Data* out, int proposals) {                     \
        for (int proposal = 0; proposal < proposals; ++proposal) {                                                      \
            for (int part = 0; part < ROI_CHANNELS / ROI_BLOCK_CHANNELS; ++part) {                                      \
                roi_block(proposal, part, deep, shallow, boxes, scale, shift, per_target, height, width, channels_last, \
                          out);                                                                                         \
            }                                                                                                           \
        }                                                                                                               \
    }
ROI_HOST(spm_roi_f32, float, float)
ROI_HOST(spm_roi_f16, Half, float)
ROI_HOST(spm_roi_bf16, Bfloat, float)
ROI_HOST(spm_roi_f16_f16, Half, Half)
ROI_HOST(spm_roi_bf16_bf16, Bfloat, Bfloat)

void spm_begin(State* state, const Settings* settings) { begin(state, settings); }

void spm_frame_sum(const unsigned char* frame, long long row_step, long long pixel_step, int height, int width,
                   int channels, int count, State* state, int blocks) {
    for (int block = 0; block < blocks; ++block) {
        sum_block(block, blocks, {frame, height, width, channels, row_step, pixel_step}, count, state);
    }
}

void spm_crop_f32(const unsigned char* frame, long long row_step, long long pixel_step, int height, int width,
                  int channels, int count, const State* state, float* out) {
    for (int block = 0; block * CROP_THREADS < count * count; ++block) {
        crop_block(block, {frame, height, width, channels, row_step, pixel_step}, state, count, out);
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
