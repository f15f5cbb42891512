// The RoI operator spm::FusedRoiCrop in one pass: corner-aligned samples of two maps, batch norm, concatenation.
//
// A block makes 32 channels of one proposal. The 36 samples' neighbours and shares are worked out once per block; then
// every thread makes one value after the other.
#pragma once
#include "geometry.h"

namespace spm {

constexpr int ROI_CELLS = 6, ROI_SAMPLES = ROI_CELLS * ROI_CELLS;
constexpr int ROI_BLOCK_CHANNELS = 32, ROI_THREADS = 288;
constexpr float ROI_STRIDE = 8.0f;  // crop pixels per cell
static_assert(ROI_BLOCK_CHANNELS * ROI_SAMPLES % ROI_THREADS == 0, "all threads have as much to do");

struct RoiSamples {
    int corner[4][ROI_SAMPLES];  // cells: upper left, upper right, lower left, lower right
    float share_x[ROI_SAMPLES], share_y[ROI_SAMPLES];
    bool inside[ROI_SAMPLES];
};

SPM_FUNCTION void roi_sample(Box box, int height, int width, int sample, RoiSamples* out) {
    const float last_x = (float)(width - 1), last_y = (float)(height - 1);
    const float x = sample_position(box.x1 / ROI_STRIDE, box.x2 / ROI_STRIDE, last_x, ROI_CELLS, sample % ROI_CELLS);
    const float y = sample_position(box.y1 / ROI_STRIDE, box.y2 / ROI_STRIDE, last_y, ROI_CELLS, sample / ROI_CELLS);
    const bool inside = is_inside(x, last_x) && is_inside(y, last_y);
    out->inside[sample] = inside;
    // Outside nothing is read; a position may be anything there, NaN too.
    const Neighbours column = neighbours(inside ? x : 0.0f), row = neighbours(inside ? y : 0.0f);
    out->corner[0][sample] = row.low * width + column.low;
    out->corner[1][sample] = row.low * width + column.high;
    out->corner[2][sample] = row.high * width + column.low;
    out->corner[3][sample] = row.high * width + column.high;
    out->share_x[sample] = column.share;
    out->share_y[sample] = row.share;
}

template <typename Data>
SPM_FUNCTION float roi_value(const Data* plane, int cell_step, const RoiSamples* at, int sample) {
    float corner[4];
    for (int i = 0; i < 4; ++i) corner[i] = load(plane + (long long)at->corner[i][sample] * cell_step);
    const float upper = between(corner[0], corner[1], at->share_x[sample]);
    const float lower = between(corner[2], corner[3], at->share_x[sample]);
    return between(upper, lower, at->share_y[sample]);
}

// deep [T, C, height, width] and shallow [T, D, height, width], where C is a multiple of 32, so that a block reads one map,
// and D too; boxes [T * per_target, 4] in crop pixels from the first cell's centre; scale and shift [C + D]; out
// [T * per_target, C + D, 6, 6]. Bit 0 of `channels_last` is about the maps, bit 1 about out. `proposal` and `part` are the
// block's indices.
template <typename Data>
SPM_BLOCK void roi_block(int proposal, int part, const Data* deep, const Data* shallow, const float* boxes,
                         const float* scale, const float* shift, int per_target, int deep_channels,
                         int shallow_channels, int height, int width, int channels_last, Data* out) {
    SPM_SHARED RoiSamples samples;
    SPM_EACH_THREAD(thread, ROI_THREADS) {
        if (thread < ROI_SAMPLES) roi_sample(load_box(boxes + 4 * proposal), height, width, thread, &samples);
    }
    SPM_SYNC();
    const int first = part * ROI_BLOCK_CHANNELS, target = proposal / per_target, cells = height * width;
    const bool is_deep = first < deep_channels;
    const int channels = is_deep ? deep_channels : shallow_channels, start = is_deep ? first : first - deep_channels;
    const int all = deep_channels + shallow_channels;
    const Data* map = (is_deep ? deep : shallow) + (long long)target * channels * cells;
    const bool maps_last = channels_last & 1, out_last = channels_last & 2;
    const long long channel_step = maps_last ? 1 : cells;
    const int cell_step = maps_last ? channels : 1;
    const int out_channel_step = out_last ? 1 : ROI_SAMPLES, out_sample_step = out_last ? all : 1;
    Data* const to = out + (long long)proposal * all * ROI_SAMPLES + first * out_channel_step;
    SPM_EACH_THREAD(thread, ROI_THREADS) {
        for (int i = thread; i < ROI_BLOCK_CHANNELS * ROI_SAMPLES; i += ROI_THREADS) {
            // Neighbouring threads write neighbours in memory.
            const int channel = out_last ? i % ROI_BLOCK_CHANNELS : i / ROI_SAMPLES;
            const int sample = out_last ? i / ROI_BLOCK_CHANNELS : i % ROI_SAMPLES;
            float value = 0.0f;
            if (samples.inside[sample]) {
                value = roi_value(map + (start + channel) * channel_step, cell_step, &samples, sample);
                value = value * scale[first + channel] + shift[first + channel];
            }
            store(to + channel * out_channel_step + sample * out_sample_step, value);
        }
    }
}

}  // namespace spm
