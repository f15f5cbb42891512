/* Bilinear samples of a uint8 frame on a grid, straight into the network's planes, and sums over a whole frame: see
 * crop.py, which does the same with OpenCV where this module was not built. The arithmetic is that of crop.crop_exact, operation by operation, so it must
 * be compiled without contraction to fused multiply-adds (setup.py says so).
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pythread.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Where the two neighbours of a sample lie along one axis, in bytes from the first pixel, and how far it is between. */
typedef struct {
    Py_ssize_t low, high;
    float fraction;
} Place;

/* Places of `count` positions along an axis of `size` pixels; 0 if one of them is not on it. */
static int find_places(const float *positions, Py_ssize_t count, Py_ssize_t size, Py_ssize_t stride, Place *places)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        float low = floorf(positions[i]);
        if (!(positions[i] >= 0.0f && positions[i] <= (float)(size - 1))) /* also refuses NaN */
            return 0;
        Py_ssize_t first = (Py_ssize_t)low, last = (Py_ssize_t)ceilf(positions[i]);
        if (last > size - 1)
            return 0;
        places[i].low = first * stride;
        places[i].high = last * stride;
        places[i].fraction = positions[i] - low;
    }
    return 1;
}

static inline float mix(float a, float b, float fraction)
{
    return a + (b - a) * fraction;
}

/* One sample of one channel. */
static inline float sample(const uint8_t *upper, const uint8_t *lower, const Place *x, float fy)
{
    float above = mix(upper[x->low], upper[x->high], x->fraction);
    float below = mix(lower[x->low], lower[x->high], x->fraction);
    return mix(above, below, fy);
}

#if defined(__SSE2__)
/* The four bytes from p on as floats: one pixel, and what follows it. */
static inline __m128 pixel(const uint8_t *p)
{
    int32_t bytes;
    memcpy(&bytes, p, 4);
    __m128i zero = _mm_setzero_si128();
    __m128i words = _mm_unpacklo_epi8(_mm_cvtsi32_si128(bytes), zero);
    return _mm_cvtepi32_ps(_mm_unpacklo_epi16(words, zero));
}

static inline __m128 mix4(__m128 a, __m128 b, __m128 fraction)
{
    return _mm_add_ps(a, _mm_mul_ps(_mm_sub_ps(b, a), fraction));
}

/* Three channels of one sample. */
static inline __m128 sample3(const uint8_t *upper, const uint8_t *lower, const Place *x, __m128 fy)
{
    __m128 fx = _mm_set1_ps(x->fraction);
    __m128 above = mix4(pixel(upper + x->low), pixel(upper + x->high), fx);
    __m128 below = mix4(pixel(lower + x->low), pixel(lower + x->high), fx);
    return mix4(above, below, fy);
}

/* Samples of a row of interleaved pixels, four at a time; how many of `count` were made. */
static Py_ssize_t sample_quads(const uint8_t *upper, const uint8_t *lower, const Place *x, Py_ssize_t count, float fy,
                               float *const out[3])
{
    __m128 weight = _mm_set1_ps(fy);
    Py_ssize_t i = 0;
    for (; i + 4 <= count; i += 4) {
        __m128 a = sample3(upper, lower, x + i, weight), b = sample3(upper, lower, x + i + 1, weight);
        __m128 c = sample3(upper, lower, x + i + 2, weight), d = sample3(upper, lower, x + i + 3, weight);
        _MM_TRANSPOSE4_PS(a, b, c, d);
        _mm_storeu_ps(out[0] + i, a);
        _mm_storeu_ps(out[1] + i, b);
        _mm_storeu_ps(out[2] + i, c);
    }
    return i;
}
#endif

/* All rows. Buffers have been checked: frame [h, w, 1 | 3 | 4], out [3, ny, nx]. */
static void sample_grid(const Py_buffer *frame, const Place *x, Py_ssize_t nx, const Place *y, Py_ssize_t ny,
                        const Py_buffer *out)
{
    Py_ssize_t channels = frame->shape[2], step = channels == 1 ? 0 : frame->strides[2], whole = 0;
#if defined(__SSE2__)
    /* Four bytes are read per pixel: that must not lead out of the frame, as it would behind its last pixel. */
    if (channels >= 3 && step == 1 && frame->strides[1] == channels) {
        Py_ssize_t limit = (frame->shape[1] - (channels == 3)) * channels;
        for (whole = nx; whole > 0 && x[whole - 1].high >= limit; whole--)
            ;
    }
#endif
    for (Py_ssize_t row = 0; row < ny; row++) {
        const uint8_t *upper = (const uint8_t *)frame->buf + y[row].low;
        const uint8_t *lower = (const uint8_t *)frame->buf + y[row].high;
        float *planes[3];
        for (int c = 0; c < 3; c++)
            planes[c] = (float *)((char *)out->buf + c * out->strides[0] + row * out->strides[1]);
        Py_ssize_t done = 0;
#if defined(__SSE2__)
        done = sample_quads(upper, lower, x, whole, y[row].fraction, planes);
#endif
        for (int c = 0; c < 3; c++)
            for (Py_ssize_t i = done; i < nx; i++)
                planes[c][i] = sample(upper + c * step, lower + c * step, x + i, y[row].fraction);
    }
}

/* A sum over a frame that several threads work at, a few rows at a time. */
enum { MOST_HELPERS = 7, BYTES_AT_A_TIME = 1 << 17 };

typedef struct Sums Sums;

typedef struct {
    Sums *sums;
    PyThread_type_lock busy; /* held while the helper is at work */
} Helper;

struct Sums {
    Py_buffer frame;
    Py_ssize_t rows; /* at a time */
    Helper helpers[MOST_HELPERS];
    PyThread_type_lock gate; /* guards what follows */
    Py_ssize_t next;         /* the first row that nobody has taken */
    uint64_t totals[4];
};

#if defined(__SSE2__)
enum { BLOCK = 48 }; /* bytes: three registers, which begin with the same channel again for 1, 3 and 4 channels */

/* Sums over as many whole blocks as `count` bytes hold; the number of bytes that they take. */
static Py_ssize_t sum_blocks(const uint8_t *bytes, Py_ssize_t count, Py_ssize_t channels, uint64_t *sums)
{
    const __m128i low = _mm_set1_epi16(0xff);
    Py_ssize_t blocks = count / BLOCK;
    for (Py_ssize_t left = blocks; left > 0;) {
        Py_ssize_t some = left < 256 ? left : 256; /* 256 bytes fit into 16 bits */
        __m128i even[3], odd[3];
        for (int r = 0; r < 3; r++)
            even[r] = odd[r] = _mm_setzero_si128();
        left -= some;
        for (; some > 0; some--, bytes += BLOCK)
            for (int r = 0; r < 3; r++) {
                __m128i pair = _mm_loadu_si128((const __m128i *)(bytes + 16 * r));
                even[r] = _mm_add_epi16(even[r], _mm_and_si128(pair, low));
                odd[r] = _mm_add_epi16(odd[r], _mm_srli_epi16(pair, 8));
            }
        for (int r = 0; r < 3; r++) {
            uint16_t lanes[2][8];
            _mm_storeu_si128((__m128i *)lanes[0], even[r]);
            _mm_storeu_si128((__m128i *)lanes[1], odd[r]);
            for (int i = 0; i < 16; i++)
                sums[(16 * r + i) % channels] += lanes[i % 2][i / 2];
        }
    }
    return blocks * BLOCK;
}
#endif

static void sum_rows(const Py_buffer *frame, Py_ssize_t first, Py_ssize_t last, uint64_t *sums)
{
    Py_ssize_t width = frame->shape[1], channels = frame->shape[2];
    int dense = frame->strides[2] == 1 && frame->strides[1] == channels;
    for (Py_ssize_t y = first; y < last; y++) {
        const uint8_t *row = (const uint8_t *)frame->buf + y * frame->strides[0];
        Py_ssize_t x = 0;
#if defined(__SSE2__)
        if (dense)
            x = sum_blocks(row, width * channels, channels, sums) / channels;
#else
        (void)dense;
#endif
        for (; x < width; x++)
            for (Py_ssize_t c = 0; c < channels; c++)
                sums[c] += row[x * frame->strides[1] + c * frame->strides[2]];
    }
}

/* Take rows until there are none left. */
static void work_at(Sums *sums)
{
    uint64_t own[4] = {0, 0, 0, 0};
    Py_ssize_t height = sums->frame.shape[0];
    for (;;) {
        PyThread_acquire_lock(sums->gate, WAIT_LOCK);
        Py_ssize_t first = sums->next, last = height - first > sums->rows ? first + sums->rows : height;
        sums->next = last;
        PyThread_release_lock(sums->gate);
        if (first == last)
            break;
        sum_rows(&sums->frame, first, last, own);
    }
    PyThread_acquire_lock(sums->gate, WAIT_LOCK);
    for (int c = 0; c < 4; c++)
        sums->totals[c] += own[c];
    PyThread_release_lock(sums->gate);
}

static void help(void *argument)
{
    Helper *helper = argument;
    work_at(helper->sums);
    PyThread_release_lock(helper->busy);
}

static void wait_for_helpers(Sums *sums)
{
    for (int i = 0; i < MOST_HELPERS; i++)
        if (sums->helpers[i].busy) {
            PyThread_acquire_lock(sums->helpers[i].busy, WAIT_LOCK);
            PyThread_release_lock(sums->helpers[i].busy);
        }
}

/* Fewer helpers than asked for do the same, later. */
static void start_helpers(Sums *sums, long count)
{
    for (long i = 0; i < count; i++) {
        Helper *helper = &sums->helpers[i];
        helper->sums = sums;
        helper->busy = PyThread_allocate_lock();
        if (!helper->busy)
            return;
        PyThread_acquire_lock(helper->busy, WAIT_LOCK);
        if (PyThread_start_new_thread(help, helper) == PYTHREAD_INVALID_THREAD_ID) {
            PyThread_release_lock(helper->busy);
            return;
        }
    }
}

static const char SUMS[] = "spm_rt._sampling.Sums";

/* Ends a sum, whether or not anybody has asked for it. */
static void forget_sums(PyObject *capsule)
{
    Sums *sums = PyCapsule_GetPointer(capsule, SUMS);
    PyThread_acquire_lock(sums->gate, WAIT_LOCK);
    sums->next = sums->frame.shape[0];
    PyThread_release_lock(sums->gate);
    wait_for_helpers(sums);
    for (int i = 0; i < MOST_HELPERS; i++)
        if (sums->helpers[i].busy)
            PyThread_free_lock(sums->helpers[i].busy);
    PyThread_free_lock(sums->gate);
    PyBuffer_Release(&sums->frame);
    PyMem_Free(sums);
}

static int is_frame(const Py_buffer *buffer)
{
    return buffer->ndim == 3 && buffer->itemsize == 1 && buffer->format && strcmp(buffer->format, "B") == 0 &&
           (buffer->shape[2] == 1 || buffer->shape[2] == 3 || buffer->shape[2] == 4);
}

static int is_float(const Py_buffer *buffer)
{
    return buffer->itemsize == 4 && buffer->format && strcmp(buffer->format, "f") == 0;
}

/* Check everything that memory safety needs, then sample; NULL with an exception set where something is wrong. */
static PyObject *check_and_sample(const Py_buffer *frame, const Py_buffer *x, const Py_buffer *y, const Py_buffer *out)
{
    if (!is_frame(frame))
        return PyErr_Format(PyExc_ValueError, "frame must be uint8 [h, w, 1, 3 or 4]");
    if (x->ndim != 1 || y->ndim != 1 || !is_float(x) || !is_float(y))
        return PyErr_Format(PyExc_ValueError, "x and y must be float32 [n]");
    if (out->ndim != 3 || !is_float(out) || out->shape[0] != 3 || out->shape[1] != y->shape[0] ||
        out->shape[2] != x->shape[0] || (x->shape[0] > 1 && out->strides[2] != 4))
        return PyErr_Format(PyExc_ValueError, "out must be float32 [3, len(y), len(x)] with contiguous rows");
    Py_ssize_t nx = x->shape[0], ny = y->shape[0];
    Place *places = PyMem_Malloc((size_t)(nx + ny + 1) * sizeof(Place));
    if (!places)
        return PyErr_NoMemory();
    int on_frame = find_places(x->buf, nx, frame->shape[1], frame->strides[1], places) &&
                   find_places(y->buf, ny, frame->shape[0], frame->strides[0], places + nx);
    if (on_frame) {
        Py_BEGIN_ALLOW_THREADS
        sample_grid(frame, places, nx, places + nx, ny, out);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(places);
    if (!on_frame)
        return PyErr_Format(PyExc_ValueError, "a position is not on the frame");
    Py_RETURN_NONE;
}

static PyObject *sample_into(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    static const int flags[4] = {PyBUF_STRIDES | PyBUF_FORMAT, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT,
                                 PyBUF_C_CONTIGUOUS | PyBUF_FORMAT, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE};
    Py_buffer buffers[4];
    PyObject *result = NULL;
    int held = 0;
    (void)module;
    if (count != 4)
        return PyErr_Format(PyExc_TypeError, "sample_into takes frame, x, y, out");
    while (held < 4 && PyObject_GetBuffer(arguments[held], &buffers[held], flags[held]) == 0)
        held++;
    if (held == 4)
        result = check_and_sample(&buffers[0], &buffers[1], &buffers[2], &buffers[3]);
    while (held > 0)
        PyBuffer_Release(&buffers[--held]);
    return result;
}

static PyObject *start_sums(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    (void)module;
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "start_sums takes frame, helpers");
    long helpers = PyLong_AsLong(arguments[1]);
    if (helpers == -1 && PyErr_Occurred())
        return NULL;
    if (helpers < 0 || helpers > MOST_HELPERS)
        return PyErr_Format(PyExc_ValueError, "helpers must be 0 to %d", MOST_HELPERS);
    Sums *sums = PyMem_Calloc(1, sizeof(Sums));
    if (!sums)
        return PyErr_NoMemory();
    if (PyObject_GetBuffer(arguments[0], &sums->frame, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
        PyMem_Free(sums);
        return NULL;
    }
    PyObject *capsule = NULL;
    sums->gate = PyThread_allocate_lock();
    if (!is_frame(&sums->frame))
        PyErr_SetString(PyExc_ValueError, "frame must be uint8 [h, w, 1, 3 or 4]");
    else if (!sums->gate)
        PyErr_NoMemory();
    else
        capsule = PyCapsule_New(sums, SUMS, forget_sums);
    if (!capsule) {
        if (sums->gate)
            PyThread_free_lock(sums->gate);
        PyBuffer_Release(&sums->frame);
        PyMem_Free(sums);
        return NULL;
    }
    sums->rows = 1 + BYTES_AT_A_TIME / (1 + sums->frame.shape[1] * sums->frame.shape[2]);
    start_helpers(sums, helpers);
    return capsule;
}

static PyObject *finish_sums(PyObject *module, PyObject *capsule)
{
    (void)module;
    Sums *sums = PyCapsule_GetPointer(capsule, SUMS);
    if (!sums)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    work_at(sums);
    wait_for_helpers(sums);
    Py_END_ALLOW_THREADS
    Py_ssize_t channels = sums->frame.shape[2];
    PyObject *result = PyTuple_New(channels);
    for (Py_ssize_t c = 0; result && c < channels; c++) {
        PyObject *total = PyLong_FromUnsignedLongLong(sums->totals[c]);
        if (!total)
            Py_CLEAR(result);
        else
            PyTuple_SET_ITEM(result, c, total);
    }
    return result;
}

static PyMethodDef methods[] = {
    {"sample_into", (PyCFunction)(void (*)(void))sample_into, METH_FASTCALL,
     "sample_into(frame, x, y, out): bilinear samples of a uint8 frame [h, w, channels] at positions x and y (float32, "
     "pixels, on the frame) into out, float32 [3, len(y), len(x)]."},
    {"start_sums", (PyCFunction)(void (*)(void))start_sums, METH_FASTCALL,
     "start_sums(frame, helpers): begin to sum up each channel of a uint8 frame [h, w, channels] in 0 to 7 threads."},
    {"finish_sums", finish_sums, METH_O,
     "finish_sums(started): the sums, one per channel; the calling thread does what has not been done."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_sampling", "Bilinear samples of a frame on a grid.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__sampling(void)
{
    return PyModule_Create(&definition);
}
