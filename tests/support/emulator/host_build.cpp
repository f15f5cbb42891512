// The kernels for the host: roi.cu, frame.cu and layers.cu as they are, one block after the other, called through ctypes.
#define __global__
// A block's shared memory begins as on a device, with anything: a variable of the block's own (host_build.py fills those).
#define SPM_SHARED
#define __launch_bounds__(threads)
struct Place {
    int x, y;
};
static thread_local Place blockIdx, gridDim;

#include "roi.cu"
#include "frame.cu"
#include "layers.cu"

#include <utility>

template <typename... Arguments, std::size_t... Index>
static void invoke(void (*kernel)(Arguments...), void** given, std::index_sequence<Index...>) {
    kernel(*(Arguments*)given[Index]...);
}

template <typename... Arguments>
static int launch(void (*kernel)(Arguments...), void** given, int columns, int rows) {
    gridDim = {columns, rows};
    for (blockIdx.y = 0; blockIdx.y < rows; ++blockIdx.y) {
        for (blockIdx.x = 0; blockIdx.x < columns; ++blockIdx.x) {
            invoke(kernel, given, std::index_sequence_for<Arguments...>{});
        }
    }
    return sizeof...(Arguments);
}

#define KERNEL(kernel) \
    if (std::strcmp(name, #kernel) == 0) return launch(kernel, given, columns, rows);
#define TYPED_KERNEL(kernel) KERNEL(kernel##_f32) KERNEL(kernel##_f16) KERNEL(kernel##_bf16)

extern "C" {

// A launch as the driver's: a name, the addresses of the arguments, the numbers of blocks. Gives the number of arguments,
// also where there are no blocks, and 0 where there is no kernel of that name.
int spm_launch(const char* name, void** given, int columns, int rows) {
    TYPED_KERNEL(spm_roi)
    KERNEL(spm_begin)
    KERNEL(spm_frame_sum)
    TYPED_KERNEL(spm_crop)
    KERNEL(spm_select)
    KERNEL(spm_fuse)
    TYPED_KERNEL(spm_pool_norm)
    TYPED_KERNEL(spm_activate)
    TYPED_KERNEL(spm_decode)
    TYPED_KERNEL(spm_decode_fine)
    TYPED_KERNEL(spm_relate)
    TYPED_KERNEL(spm_prepare)
    return 0;
}

void spm_set_order(int backwards) { spm_backwards = backwards != 0; }

void spm_to_half(const float* from, Half* to, int count) {
    for (int i = 0; i < count; ++i) store(to + i, from[i]);
}
void spm_from_half(const Half* from, float* to, int count) {
    for (int i = 0; i < count; ++i) to[i] = load(from + i);
}
void spm_to_bfloat(const float* from, Bfloat* to, int count) {
    for (int i = 0; i < count; ++i) store(to + i, from[i]);
}
void spm_from_bfloat(const Bfloat* from, float* to, int count) {
    for (int i = 0; i < count; ++i) to[i] = load(from + i);
}

}  // extern "C"
