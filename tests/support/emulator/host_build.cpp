// The kernels for the host: roi.cu and frame.cu as they are, one block after the other, called through ctypes.
#define __global__
#define __launch_bounds__(threads)
struct Place {
    int x, y;
};
static thread_local Place blockIdx, gridDim;

#include "roi.cu"
#include "frame.cu"

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

extern "C" {

// A launch as the driver's: a name, the addresses of the arguments, the numbers of blocks. Gives the number of arguments,
// also where there are no blocks, and 0 where there is no kernel of that name.
int spm_launch(const char* name, void** given, int columns, int rows) {
    KERNEL(spm_roi_f32)
    KERNEL(spm_roi_f16)
    KERNEL(spm_roi_bf16)
    KERNEL(spm_begin)
    KERNEL(spm_frame_sum)
    KERNEL(spm_crop_f32)
    KERNEL(spm_crop_f16)
    KERNEL(spm_crop_bf16)
    KERNEL(spm_select)
    KERNEL(spm_fuse)
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
