// What lies between the networks' products: bias, rectifier, pooling, normalisation (docs/notes/model.md). Values are
// float32 inside, and Data in and out. Maps are [T, C, H, W], or [T, H, W, C] where `channels_last` is not zero.
#pragma once
#include "input.h"

namespace spm {

constexpr int NORM_THREADS = 256, NORM_PIXELS = 8, NORM_MAX_CHANNELS = 256, NORM_SPREAD = 2;
constexpr int ACTIVATE_THREADS = 256, ACTIVATE_ITEMS = 4, RELATE_THREADS = 256, PREPARE_THREADS = 256;
constexpr float NORM_SIZE = 5.0f, NORM_ALPHA = 1e-4f;

// Where values of a map lie: [cells, channels] of one target, in either order.
struct MapSteps {
    int cell, channel;
};

SPM_FUNCTION MapSteps map_steps(int channels, int cells, int channels_last) {
    return channels_last ? MapSteps{channels, 1} : MapSteps{1, cells};
}

// The largest of the 3 x 3 cells around (2 row, 2 column) of one channel; outside the map there is nothing.
template <typename Data>
SPM_FUNCTION float pooled(const Data* channel, int height, int width, int cell_step, int row, int column) {
    float highest = from_bits(0xff800000u);  // minus infinity
    for (int y = 2 * row - 1; y <= 2 * row + 1; ++y) {
        for (int x = 2 * column - 1; x <= 2 * column + 1; ++x) {
            if (y < 0 || x < 0 || y >= height || x >= width) continue;
            highest = maximum(load(channel + (long long)(y * width + x) * cell_step), highest);
        }
    }
    return highest;
}

// A block's pixels with all their channels, and zeros around the channels.
struct NormValues {
    float value[NORM_PIXELS][NORM_MAX_CHANNELS + 2 * NORM_SPREAD];
};

// x / (1 + alpha * mean of five neighbours' squares) ^ 0.75; `at` points to x among its neighbours.
SPM_FUNCTION float normalized(const float* at) {
    float sum = 0.0f;
    for (int i = -NORM_SPREAD; i <= NORM_SPREAD; ++i) sum += at[i] * at[i];
    const float root = sqrtf(1.0f + NORM_ALPHA * (sum / NORM_SIZE));
    return *at / (root * sqrtf(root));
}

// Bias, rectifier, max-pool 3 x 3 with stride 2 and local response norm of a convolution's products in one pass: maps
// [T, C, height, width] and bias [C] to maps [T, C, (height + 1) / 2, (width + 1) / 2], C at most 256. A block makes
// NORM_PIXELS pixels of one target. Bias and rectifier may follow the maximum: both keep the order of numbers.
template <typename Data>
SPM_BLOCK void pool_norm_block(int block, int target, const Data* maps, const float* bias, int channels, int height,
                               int width, int channels_last, Data* out) {
    SPM_SHARED NormValues shared;
    const int columns = (width + 1) / 2, pixels = (height + 1) / 2 * columns, first = block * NORM_PIXELS;
    const int count = pixels - first < NORM_PIXELS ? pixels - first : NORM_PIXELS;
    const MapSteps in = map_steps(channels, height * width, channels_last), to = map_steps(channels, pixels, channels_last);
    const Data* const from = maps + (long long)target * channels * height * width;
    Data* const made = out + (long long)target * channels * pixels;
    SPM_EACH_THREAD(thread, NORM_THREADS) {
        for (int i = thread; i < count * channels; i += NORM_THREADS) {
            // Neighbouring threads read neighbours in memory.
            const int pixel = channels_last ? i / channels : i % count, channel = channels_last ? i % channels : i / count;
            const int row = (first + pixel) / columns, column = (first + pixel) % columns;
            const float highest = pooled(from + channel * (long long)in.channel, height, width, in.cell, row, column);
            shared.value[pixel][NORM_SPREAD + channel] = maximum(highest + bias[channel], 0.0f);
        }
        for (int i = thread; i < count * NORM_SPREAD; i += NORM_THREADS) {
            float* const line = shared.value[i / NORM_SPREAD];
            line[i % NORM_SPREAD] = line[NORM_SPREAD + channels + i % NORM_SPREAD] = 0.0f;
        }
    }
    SPM_SYNC();
    SPM_EACH_THREAD(thread, NORM_THREADS) {
        for (int i = thread; i < count * channels; i += NORM_THREADS) {
            const int pixel = channels_last ? i / channels : i % count, channel = channels_last ? i % channels : i / count;
            store(made + (first + pixel) * (long long)to.cell + channel * (long long)to.channel,
                  normalized(&shared.value[pixel][NORM_SPREAD + channel]));
        }
    }
}

// min(max(x + bias + other, low), high) in place. `values` [.., C, cells], or with channels last (cells 1): value i has
// channel i / cells % channels. `other` has the values' shape, or is null.
template <typename Data>
SPM_BLOCK void activate_block(int block, Data* values, const float* bias, const Data* other, float low, float high,
                              int channels, int cells, long long count) {
    SPM_EACH_THREAD(thread, ACTIVATE_THREADS) {
        for (int item = 0; item < ACTIVATE_ITEMS; ++item) {
            const long long i = ((long long)block * ACTIVATE_ITEMS + item) * ACTIVATE_THREADS + thread;
            if (i >= count) break;
            const float sum = load(values + i) + bias[(int)(i / cells % channels)];
            store(values + i, clip(other ? sum + load(other + i) : sum, low, high));
        }
    }
}

// The relation layer's two halves, added and rectified: own [T * per_target, C, cells] of the proposals, in either order,
// half [T, C, cells] of the targets. out [T * per_target, C * cells], as the next layer's weights count.
template <typename Data>
SPM_BLOCK void relate_block(int block, int proposal, const Data* own, const Data* half, int per_target, int channels,
                            int cells, int channels_last, Data* out) {
    const MapSteps in = map_steps(channels, cells, channels_last);
    const long long size = (long long)channels * cells, first = proposal * size, target = proposal / per_target * size;
    SPM_EACH_THREAD(thread, RELATE_THREADS) {
        const int i = block * RELATE_THREADS + thread;
        if (i < size) {
            const float sum = load(own + first + i / cells * in.channel + i % cells * in.cell) + load(half + target + i);
            store(out + first + i, maximum(sum, 0.0f));
        }
    }
}

// Crops as trackers on the host make them, float32 [T, 3, cells], to what the first layer reads.
template <typename Data>
SPM_BLOCK void prepare_block(int block, int target, const float* crops, int cells, const InputForm& form, Data* out) {
    const float* const crop = crops + (long long)target * 3 * cells;
    SPM_EACH_THREAD(thread, PREPARE_THREADS) {
        const int at = block * PREPARE_THREADS + thread;
        if (at < cells) {
            const float pixel[3] = {crop[at], crop[cells + at], crop[2 * cells + at]};
            store_pixel(pixel, form, at, cells, out + (long long)target * form.planes * cells);
        }
    }
}

}  // namespace spm
