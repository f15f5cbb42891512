/* The coarse stage's proposals in one pass over few bytes, and the choice among them: what proposals.select_proposals and
 * fusion do with numpy where this module was not built, bit for bit (the same operations in the same order, so no fused
 * multiply-adds).
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    float x1, y1, x2, y2;
} Box;

typedef struct {
    double scale, x, y; /* crop pixels per frame pixel; the region's corner in the frame */
} Region;

typedef struct {
    Region region;
    double near_iou, floor, limit; /* of TrackerSettings: near_iou, score_floor, nms_threshold */
    int reserve, wanted;
} SelectionTask;

/* numpy's minimum and maximum: NaN if either is. */
static inline float least(float a, float b)
{
    return a != a ? a : b != b ? b : a < b ? a : b;
}

static inline float most(float a, float b)
{
    return a != a ? a : b != b ? b : a > b ? a : b;
}

/* Overlap of two boxes; `one` is 1 where pixels are counted inclusively. */
static inline float overlap(const Box *a, const Box *b, float one)
{
    float width = most(least(a->x2, b->x2) - most(a->x1, b->x1) + one, 0.0f);
    float height = most(least(a->y2, b->y2) - most(a->y1, b->y1) + one, 0.0f);
    float inter = width * height;
    float area_a = (a->x2 - a->x1 + one) * (a->y2 - a->y1 + one);
    float area_b = (b->x2 - b->x1 + one) * (b->y2 - b->y1 + one);
    float both = area_a + area_b - inter;
    if (inter == 0.0f && both > 0.0f) /* most of them: the same without a division */
        return 0.0f;
    return inter / both;
}

static void to_frame(const Box *crop, Box *frame, Py_ssize_t count, const Region *region)
{
    float scale = (float)region->scale;
    for (Py_ssize_t i = 0; i < count; i++) {
        frame[i].x1 = (float)((double)(crop[i].x1 / scale) + region->x);
        frame[i].y1 = (float)((double)(crop[i].y1 / scale) + region->y);
        frame[i].x2 = (float)((double)(crop[i].x2 / scale) + region->x);
        frame[i].y2 = (float)((double)(crop[i].y2 / scale) + region->y);
    }
}

/* Whether a near box is to be reserved rather than another: by score, then by overlap; NaN scores last. */
static int is_better(float score, float near, float than_score, float than_near)
{
    if (score > than_score || (score == score && than_score != than_score))
        return 1;
    return (score == than_score || (score != score && than_score != than_score)) && near > than_near;
}

/* The proposal kept for the last box (proposals.reserve_near). */
static Py_ssize_t reserve_near(const float *scores, const Box *boxes, Py_ssize_t count, const Box *last, float near_iou)
{
    Py_ssize_t near = 0, best = 0, nearest = 0;
    float best_near = 0.0f, largest = -1.0f;
    for (Py_ssize_t i = 0; i < count; i++) {
        float value = overlap(boxes + i, last, 1.0f);
        if (value > largest) {
            largest = value;
            nearest = i;
        }
        if (value > near_iou && (near++ == 0 || is_better(scores[i], value, scores[best], best_near))) {
            best = i;
            best_near = value;
        }
    }
    return near >= 2 ? best : nearest;
}

/* Greedy suppression: the best of those alive, again and again; equal scores by index. How many were kept. */
static int keep_apart(const float *scores, const Box *boxes, Py_ssize_t *alive, Py_ssize_t count, const SelectionTask *task,
                      int wanted, int64_t *kept)
{
    float limit = (float)task->limit;
    int found = 0;
    while (found < wanted && count > 0) {
        Py_ssize_t best = 0, left = 0;
        for (Py_ssize_t i = 1; i < count; i++)
            if (scores[alive[i]] > scores[alive[best]])
                best = i;
        Py_ssize_t chosen = alive[best];
        kept[found++] = chosen;
        for (Py_ssize_t i = 0; i < count; i++)
            if (i != best && !(overlap(boxes + alive[i], boxes + chosen, 0.0f) >= limit))
                alive[left++] = alive[i];
        count = left;
    }
    return found;
}

/* proposals.select_proposals: how many indices were written to `kept`. */
static int select_proposals(const float *scores, const Box *boxes, Py_ssize_t count, const Box *last, const SelectionTask *task,
                            Py_ssize_t *alive, int64_t *kept)
{
    int found = 0, wanted = task->wanted;
    Py_ssize_t reserved = -1, pool = 0;
    if (task->reserve && wanted > 1) {
        reserved = reserve_near(scores, boxes, count, last, (float)task->near_iou);
        wanted--;
    }
    float largest = -INFINITY;
    for (Py_ssize_t i = 0; i < count; i++)
        largest = most(largest, i == reserved ? -1.0f : scores[i]);
    float floor = (float)task->floor * largest;
    if (floor == floor) {
        floor = floor > 0.0f ? floor : 0.0f;
        for (Py_ssize_t i = 0; i < count; i++)
            if (i != reserved && scores[i] >= floor)
                alive[pool++] = i;
        found = keep_apart(scores, boxes, alive, pool, task, wanted, kept);
    }
    if (reserved >= 0)
        kept[found++] = reserved;
    return found;
}

static int is_float(const Py_buffer *buffer)
{
    return buffer->itemsize == 4 && buffer->format && strcmp(buffer->format, "f") == 0;
}

/* Room for `count` rows of floats as a bytearray: numpy makes a writable array of it without a copy. */
static float *new_rows(PyObject **array, Py_ssize_t count, Py_ssize_t columns)
{
    *array = PyByteArray_FromStringAndSize(NULL, count * columns * (Py_ssize_t)sizeof(float));
    return *array ? (float *)PyByteArray_AS_STRING(*array) : NULL;
}

/* Crop boxes, frame boxes and scores of those that were chosen. */
static PyObject *gather(const Py_buffer *scores, const Py_buffer *boxes, const Box *frame, const int64_t *kept, int found)
{
    PyObject *arrays[3] = {NULL, NULL, NULL}, *result = NULL;
    float *crop_rows = new_rows(&arrays[0], found, 4), *frame_rows = new_rows(&arrays[1], found, 4);
    float *score_rows = new_rows(&arrays[2], found, 1);
    if (crop_rows && frame_rows && score_rows) {
        for (int i = 0; i < found; i++) {
            memcpy(crop_rows + 4 * i, (const Box *)boxes->buf + kept[i], sizeof(Box));
            memcpy(frame_rows + 4 * i, frame + kept[i], sizeof(Box));
            score_rows[i] = ((const float *)scores->buf)[kept[i]];
        }
        result = PyTuple_Pack(3, arrays[0], arrays[1], arrays[2]);
    }
    for (int i = 0; i < 3; i++)
        Py_XDECREF(arrays[i]);
    return result;
}

static PyObject *propose_checked(const Py_buffer *scores, const Py_buffer *boxes, const Py_buffer *last, const SelectionTask *task)
{
    Py_ssize_t count = scores->len / 4;
    if (!is_float(scores) || !is_float(boxes) || !is_float(last) || boxes->len != count * 16 || last->len != 16 ||
        count < 1 || task->wanted < 1)
        return PyErr_Format(PyExc_ValueError, "scores [n], boxes [n, 4] and last [4] must be float32, n and wanted > 0");
    Py_ssize_t most_kept = task->wanted < count ? task->wanted : count;
    Box *frame = PyMem_Malloc((size_t)count * sizeof(Box));
    Py_ssize_t *alive = PyMem_Malloc((size_t)count * sizeof(Py_ssize_t));
    int64_t *kept = PyMem_Malloc((size_t)(most_kept + 1) * sizeof(int64_t));
    PyObject *result = NULL;
    if (frame && alive && kept) {
        to_frame(boxes->buf, frame, count, &task->region);
        int found = select_proposals(scores->buf, frame, count, last->buf, task, alive, kept);
        result = gather(scores, boxes, frame, kept, found);
    } else
        PyErr_NoMemory();
    PyMem_Free(frame);
    PyMem_Free(alive);
    PyMem_Free(kept);
    return result;
}

/* Contiguous buffers of `count` objects; how many could be had, with an exception set if not all. */
static int get_buffers(PyObject *const *given, Py_buffer *buffers, int count)
{
    int held = 0;
    while (held < count && PyObject_GetBuffer(given[held], &buffers[held], PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) == 0)
        held++;
    return held;
}

static void release_buffers(Py_buffer *buffers, int held)
{
    while (held > 0)
        PyBuffer_Release(&buffers[--held]);
}

static PyObject *propose(PyObject *module, PyObject *arguments)
{
    PyObject *given[3], *result = NULL;
    Py_buffer buffers[3];
    SelectionTask task;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOO(ddd)dddii", &given[0], &given[1], &given[2], &task.region.scale,
                          &task.region.x, &task.region.y, &task.near_iou, &task.floor, &task.limit, &task.reserve,
                          &task.wanted))
        return NULL;
    int held = get_buffers(given, buffers, 3);
    if (held == 3)
        result = propose_checked(&buffers[0], &buffers[1], &buffers[2], &task);
    release_buffers(buffers, held);
    return result;
}

/* What fusion.fuse, cosine_window and next_box need besides the proposals. */
typedef struct {
    Region region;
    double height, width; /* of the frame */
    int crop_size, series;
    double score_weight, box_weight, influence, update_threshold, size_rate, min_side; /* of TrackerSettings */
} FusionTask;

typedef struct {
    Box box;
    float score, fine, ranking;
} Fused;

/* fusion.cosine_window along one axis. */
static inline float wave(float low, float high, int crop_size)
{
    float center = (low + high) / 2.0f / (float)(crop_size - 1);
    float angle = 6.283185307179586f * least(most(center, 0.0f), 1.0f);
    return 0.5f - 0.5f * (float)cos((double)angle);
}

static inline float blend(float share, float a, float b)
{
    return share * a + (1.0f - share) * b;
}

/* fusion.fuse for one proposal. */
static Fused fuse(const Box *crop, const Box *box, float coarse, float fine, const Box *fine_box, const FusionTask *task)
{
    Fused fused = {*fine_box, fine, fine, 0.0f};
    if (!task->series) {
        float weight = (float)task->score_weight, influence_of_fine = weight * fine;
        fused.score = (1.0f - weight) * coarse + influence_of_fine;
        float total = coarse + (float)task->box_weight * fine;
        float share = coarse / least(most(total, 1e-5f), 99999.0f);
        fused.box.x1 = blend(share, box->x1, fine_box->x1);
        fused.box.y1 = blend(share, box->y1, fine_box->y1);
        fused.box.x2 = blend(share, box->x2, fine_box->x2);
        fused.box.y2 = blend(share, box->y2, fine_box->y2);
    }
    float window = wave(crop->x1, crop->x2, task->crop_size) * wave(crop->y1, crop->y2, task->crop_size);
    float influence = (float)task->influence;
    fused.ranking = (1.0f - influence) * fused.score + influence * window;
    return fused;
}

/* Along one axis of fusion.next_box: the new side's middle, and half of the side. */
static void next_side(const float detected[2], const double last[2], double rate, double min_side, double size,
                      double *low, double *high)
{
    double a = detected[0], b = detected[1];
    double side = (b - a) * rate + (last[1] - last[0]) * (1.0 - rate);
    side = side > min_side ? side : min_side;
    double center = (a + b) / 2.0, limit = size - side / 2.0;
    center = limit < center ? limit : center;
    center = center > 0.0 ? center : 0.0;
    *low = center - side / 2.0;
    *high = center + side / 2.0;
}

/* The chosen proposal, its scores and the new box. Buffers: crop boxes, boxes, coarse scores, fine scores, fine boxes,
 * last box. */
static PyObject *decide_checked(const Py_buffer *given, const FusionTask *task)
{
    Py_ssize_t count = given[2].len / 4;
    const double *last = given[5].buf;
    for (int i = 0; i < 5; i++)
        if (!is_float(&given[i]) || given[i].len != count * (i == 2 || i == 3 ? 4 : 16) || count < 1)
            return PyErr_Format(PyExc_ValueError, "boxes [k, 4] and scores [k] must be float32, k > 0");
    if (given[5].itemsize != 8 || !given[5].format || strcmp(given[5].format, "d") != 0 || given[5].len != 32)
        return PyErr_Format(PyExc_ValueError, "the last box must be float64 [4]");
    const Box *crop = given[0].buf, *boxes = given[1].buf;
    const float *coarse = given[2].buf, *fine = given[3].buf;
    Fused best;
    Py_ssize_t chosen = -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        Box fine_box;
        to_frame((const Box *)given[4].buf + i, &fine_box, 1, &task->region);
        Fused fused = fuse(crop + i, boxes + i, coarse[i], fine[i], &fine_box, task);
        /* numpy's argmax: the first NaN, else the first of the largest. */
        if (chosen < 0 || (best.ranking == best.ranking && !(fused.ranking <= best.ranking))) {
            best = fused;
            chosen = i;
        }
    }
    double box[4] = {last[0], last[1], last[2], last[3]}, score = best.score, rate = task->size_rate * score;
    if (score >= task->update_threshold) {
        float x[2] = {best.box.x1, best.box.x2}, y[2] = {best.box.y1, best.box.y2};
        double last_x[2] = {last[0], last[2]}, last_y[2] = {last[1], last[3]};
        next_side(x, last_x, rate, task->min_side, task->width, &box[0], &box[2]);
        next_side(y, last_y, rate, task->min_side, task->height, &box[1], &box[3]);
    }
    return Py_BuildValue("(dddd)ddd", box[0], box[1], box[2], box[3], score, (double)coarse[chosen], (double)best.fine);
}

static PyObject *decide(PyObject *module, PyObject *arguments)
{
    PyObject *given[6], *result = NULL;
    Py_buffer buffers[6];
    FusionTask task;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOOOOO(ddd)(dd)ipdddddd", &given[0], &given[1], &given[2], &given[3], &given[4],
                          &given[5], &task.region.scale, &task.region.x, &task.region.y, &task.height, &task.width,
                          &task.crop_size, &task.series, &task.score_weight, &task.box_weight, &task.influence,
                          &task.update_threshold, &task.size_rate, &task.min_side))
        return NULL;
    int held = get_buffers(given, buffers, 6);
    if (held == 6)
        result = decide_checked(buffers, &task);
    release_buffers(buffers, held);
    return result;
}

static PyMethodDef methods[] = {
    {"propose", propose, METH_VARARGS,
     "propose(scores, boxes, last, (scale, x, y), near_iou, score_floor, nms_threshold, reserve, wanted): proposals of "
     "coarse scores [n] and boxes [n, 4] (crop pixels, float32, contiguous): their boxes in crop pixels, in frame pixels, "
     "and their scores (bytearrays of float32)."},
    {"decide", decide, METH_VARARGS,
     "decide(crop_boxes, boxes, coarse_scores, fine_scores, fine_boxes, last, (scale, x, y), (height, width), crop_size, "
     "series, fine_score_weight, fine_box_weight, window_influence, update_threshold, size_rate, min_side): both stages' "
     "scores and boxes fused: the new box (x1, y1, x2, y2), and the chosen proposal's score, coarse score and fine score."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_choosing", "The coarse stage's proposals and the choice among them.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__choosing(void)
{
    return PyModule_Create(&definition);
}
