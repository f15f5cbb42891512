// What the kernels need of the language, for two kinds of compiler: NVRTC or nvcc for the device, and any C++17 compiler
// for the host, where spm_rt/frame/_choosing.cpp and the tests run the same lines. No header is included for the device:
// NVRTC has none.
//
// Float arithmetic is written plainly and must not be contracted to fused multiply-adds (NVRTC --fmad=false, g++
// -ffp-contract=off): the roundings of sample positions decide what is inside, and are the reference's.
#pragma once

#ifdef __CUDACC__

#define SPM_FUNCTION static __device__ __forceinline__
#define SPM_BLOCK static __device__
#define SPM_SHARED __shared__
// One phase of a block: on the device each thread runs the body once, for itself. A block has `count` threads.
#define SPM_EACH_THREAD(thread, count) if (const int thread = threadIdx.x; true)
// Between phases. Must be reached by all threads of a block.
#define SPM_SYNC() __syncthreads()
// Between phases in which only the first 32 threads of a block read what others of these wrote.
#define SPM_SYNC_WARP() __syncwarp()

#else

#include <cmath>
#include <cstring>

#define SPM_FUNCTION static inline
#define SPM_BLOCK static inline
#ifndef SPM_SHARED
#define SPM_SHARED static thread_local
#endif
// On the host a loop runs the body for one thread after the other; a result may not depend on their order.
#define SPM_EACH_THREAD(thread, count)                                                                     \
    for (int thread##_step = 0, thread = spm_order(0, count); thread##_step < (count); \
         ++thread##_step, thread = spm_order(thread##_step, count))
#define SPM_SYNC() ((void)0)
#define SPM_SYNC_WARP() ((void)0)

static bool spm_backwards = false;

static inline int spm_order(int step, int count) { return spm_backwards ? count - 1 - step : step; }

#endif

namespace spm {

struct Half {
    unsigned short bits;
};

struct Bfloat {
    unsigned short bits;
};

static_assert(sizeof(unsigned int) == 4 && sizeof(float) == 4 && sizeof(double) == 8, "sizes that the formats count on");

SPM_FUNCTION float from_bits(unsigned int bits) {
#ifdef __CUDACC__
    return __uint_as_float(bits);
#else
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
#endif
}

SPM_FUNCTION unsigned int to_bits(float value) {
#ifdef __CUDACC__
    return __float_as_uint(value);
#else
    unsigned int bits;
    std::memcpy(&bits, &value, 4);
    return bits;
#endif
}

// Rounds to the nearest, ties to even, as the device's instruction does; NaN stays NaN.
SPM_FUNCTION unsigned short half_bits(float value) {
#ifdef __CUDACC__
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#else
    const unsigned int all = to_bits(value), sign = (all >> 16) & 0x8000u, rest = all & 0x7fffffffu;
    if (rest > 0x7f800000u) return (unsigned short)(sign | 0x7fffu);
    if (rest >= 0x477ff000u) return (unsigned short)(sign | 0x7c00u);  // rounds beyond 65504
    if (rest < 0x38800000u) {                                            // subnormal: multiples of 2^-24
        const float scaled = from_bits(rest) * 16777216.0f;
        return (unsigned short)(sign | (unsigned int)std::nearbyint(scaled));
    }
    const unsigned int odd = (rest >> 13) & 1u;
    return (unsigned short)(sign | ((rest - 0x38000000u + 0xfffu + odd) >> 13));
#endif
}

SPM_FUNCTION float half_value(unsigned short bits) {
#ifdef __CUDACC__
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
#else
    const unsigned int sign = (unsigned int)(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u, mantissa = bits & 1023u;
    if (exponent == 0) return from_bits(sign | to_bits((float)mantissa / 16777216.0f));
    if (exponent == 31) return from_bits(sign | 0x7f800000u | (mantissa << 13));
    return from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
#endif
}

SPM_FUNCTION float load(const float* from) { return *from; }
SPM_FUNCTION float load(const Half* from) { return half_value(from->bits); }
SPM_FUNCTION float load(const Bfloat* from) { return from_bits((unsigned int)from->bits << 16); }

SPM_FUNCTION void store(float* to, float value) { *to = value; }
SPM_FUNCTION void store(Half* to, float value) { to->bits = half_bits(value); }
SPM_FUNCTION void store(Bfloat* to, float value) {
    const unsigned int bits = to_bits(value);
    const bool number = (bits & 0x7fffffffu) <= 0x7f800000u;
    to->bits = (unsigned short)(number ? (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16 : (bits >> 16) | 0x40u);
}

// The next free place of a row that threads fill in any order.
SPM_FUNCTION int next_place(int* count) {
#ifdef __CUDACC__
    return atomicAdd(count, 1);
#else
    return (*count)++;
#endif
}

SPM_FUNCTION bool is_nan(float value) { return value != value; }

// On the host as fusion.cosine_window has it: float32 cosines differ from library to library.
SPM_FUNCTION float cosine(float angle) {
#ifdef __CUDACC__
    return cosf(angle);
#else
    return (float)std::cos((double)angle);
#endif
}

// Unlike fminf and fmaxf, these hand NaN on, as NumPy's minimum and maximum do.
SPM_FUNCTION float minimum(float a, float b) { return is_nan(a) ? a : (a < b ? a : b); }
SPM_FUNCTION float maximum(float a, float b) { return is_nan(a) ? a : (a > b ? a : b); }
SPM_FUNCTION float clip(float value, float low, float high) { return minimum(maximum(value, low), high); }

}  // namespace spm
