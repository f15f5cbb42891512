// The names and arguments of the kernels between the networks' products. spm_rt/gpu/kernels/layer_launches.py says with how
// many blocks and threads they are launched. blockIdx.y is the target (pool_norm, decode, prepare) or the proposal (relate).
#include "decoding.h"
#include "layers.h"

using namespace spm;

#define POOL_NORM_KERNEL(name, Data)                                                                                    \
    extern "C" __global__ void __launch_bounds__(NORM_THREADS)                                                          \
        name(const Data* maps, const float* bias, int channels, int height, int width, int channels_last, Data* out) {  \
        pool_norm_block((int)blockIdx.x, (int)blockIdx.y, maps, bias, channels, height, width, channels_last, out);     \
    }
POOL_NORM_KERNEL(spm_pool_norm_f32, float)
POOL_NORM_KERNEL(spm_pool_norm_f16, Half)
POOL_NORM_KERNEL(spm_pool_norm_bf16, Bfloat)

#define ACTIVATE_KERNEL(name, Data)                                                                                     \
    extern "C" __global__ void __launch_bounds__(ACTIVATE_THREADS)                                                      \
        name(Data* values, const float* bias, const Data* other, float low, float high, int channels, int cells,        \
             long long count) {                                                                                         \
        activate_block((int)blockIdx.x, values, bias, other, low, high, channels, cells, count);                        \
    }
ACTIVATE_KERNEL(spm_activate_f32, float)
ACTIVATE_KERNEL(spm_activate_f16, Half)
ACTIVATE_KERNEL(spm_activate_bf16, Bfloat)

#define DECODE_KERNEL(name, Data)                                                                                       \
    extern "C" __global__ void __launch_bounds__(DECODE_THREADS)                                                        \
        name(const Data* values, const float* bias, int cells, int anchors, int channel_step, int cell_step,            \
             int target_step, int bias_step, const float* centers, const float* sizes, float* scores, float* boxes) {   \
        decode_block((int)blockIdx.x, (int)blockIdx.y, values, bias,                                                    \
                     {cells, anchors, channel_step, cell_step, target_step, bias_step}, centers, sizes, scores, boxes); \
    }
DECODE_KERNEL(spm_decode_f32, float)
DECODE_KERNEL(spm_decode_f16, Half)
DECODE_KERNEL(spm_decode_bf16, Bfloat)

#define DECODE_FINE_KERNEL(name, Data)                                                                                  \
    extern "C" __global__ void __launch_bounds__(DECODE_THREADS)                                                        \
        name(const Data* values, const float* bias, const float* weights, const float* proposals, int count,            \
             float* scores, float* boxes) {                                                                             \
        decode_fine_block((int)blockIdx.x, values, bias, weights, proposals, count, scores, boxes);                     \
    }
DECODE_FINE_KERNEL(spm_decode_fine_f32, float)
DECODE_FINE_KERNEL(spm_decode_fine_f16, Half)
DECODE_FINE_KERNEL(spm_decode_fine_bf16, Bfloat)

#define RELATE_KERNEL(name, Data)                                                                                       \
    extern "C" __global__ void __launch_bounds__(RELATE_THREADS)                                                        \
        name(const Data* own, const Data* half, int per_target, int channels, int cells, int channels_last, Data* out) {\
        relate_block((int)blockIdx.x, (int)blockIdx.y, own, half, per_target, channels, cells, channels_last, out);     \
    }
RELATE_KERNEL(spm_relate_f32, float)
RELATE_KERNEL(spm_relate_f16, Half)
RELATE_KERNEL(spm_relate_bf16, Bfloat)

#define PREPARE_KERNEL(name, Data)                                                                                      \
    extern "C" __global__ void __launch_bounds__(PREPARE_THREADS)                                                       \
        name(const float* crops, int cells, const float* mean, int planes, int channels_last, Data* out) {              \
        prepare_block((int)blockIdx.x, (int)blockIdx.y, crops, cells, {mean, planes, channels_last}, out);              \
    }
PREPARE_KERNEL(spm_prepare_f32, float)
PREPARE_KERNEL(spm_prepare_f16, Half)
PREPARE_KERNEL(spm_prepare_bf16, Bfloat)
