/* The coarse stage's proposals in one pass over few bytes: what proposals.select_proposals does with numpy where this
 * module was not built, bit for bit (the same float32 operations in the same order, so no fused multiply-adds).
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
    double scale, x, y;             /* crop pixels per frame pixel; the region's corner in the frame */
    double near_iou, floor, limit;  /* of TrackerSettings: near_iou, score_floor, nms_threshold */
    int reserve, wanted;
} Task;

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
    return inter / (area_a + area_b - inter);
}

static void to_frame(const Box *crop, Box *frame, Py_ssize_t count, const Task *task)
{
    float scale = (float)task->scale;
    for (Py_ssize_t i = 0; i < count; i++) {
        frame[i].x1 = (float)((double)(crop[i].x1 / scale) + task->x);
        frame[i].y1 = (float)((double)(crop[i].y1 / scale) + task->y);
        frame[i].x2 = (float)((double)(crop[i].x2 / scale) + task->x);
        frame[i].y2 = (float)((double)(crop[i].y2 / scale) + task->y);
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
static int keep_apart(const float *scores, const Box *boxes, Py_ssize_t *alive, Py_ssize_t count, const Task *task,
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
static int select_proposals(const float *scores, const Box *boxes, Py_ssize_t count, const Box *last, const Task *task,
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

/* The indices as bytes of int64, and the chosen boxes in frame pixels as bytes of float32. */
static PyObject *choose_checked(const Py_buffer *scores, const Py_buffer *boxes, const Py_buffer *last, const Task *task)
{
    Py_ssize_t count = scores->len / 4;
    if (!is_float(scores) || !is_float(boxes) || !is_float(last) || boxes->len != count * 16 || last->len != 16 ||
        count < 1 || task->wanted < 1)
        return PyErr_Format(PyExc_ValueError, "scores [n], boxes [n, 4] and last [4] must be float32, n and wanted > 0");
    Py_ssize_t most_kept = task->wanted < count ? task->wanted : count;
    Box *frame = PyMem_Malloc((size_t)count * sizeof(Box));
    Py_ssize_t *alive = PyMem_Malloc((size_t)count * sizeof(Py_ssize_t));
    int64_t *kept = PyMem_Malloc((size_t)(most_kept + 1) * sizeof(int64_t));
    PyObject *result = NULL, *places = NULL;
    if (frame && alive && kept) {
        to_frame(boxes->buf, frame, count, task);
        int found = select_proposals(scores->buf, frame, count, last->buf, task, alive, kept);
        places = PyBytes_FromStringAndSize(NULL, found * (Py_ssize_t)sizeof(Box));
        for (int i = 0; places && i < found; i++)
            memcpy(PyBytes_AS_STRING(places) + i * sizeof(Box), frame + kept[i], sizeof(Box));
        if (places)
            result = Py_BuildValue("y#N", (char *)kept, found * (Py_ssize_t)sizeof(int64_t), places);
    } else
        PyErr_NoMemory();
    PyMem_Free(frame);
    PyMem_Free(alive);
    PyMem_Free(kept);
    return result;
}

static PyObject *choose(PyObject *module, PyObject *arguments)
{
    PyObject *given[3], *result = NULL;
    Py_buffer buffers[3];
    Task task;
    int held = 0;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOO(ddd)dddii", &given[0], &given[1], &given[2], &task.scale, &task.x, &task.y,
                          &task.near_iou, &task.floor, &task.limit, &task.reserve, &task.wanted))
        return NULL;
    while (held < 3 && PyObject_GetBuffer(given[held], &buffers[held], PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) == 0)
        held++;
    if (held == 3)
        result = choose_checked(&buffers[0], &buffers[1], &buffers[2], &task);
    while (held > 0)
        PyBuffer_Release(&buffers[--held]);
    return result;
}

static PyMethodDef methods[] = {
    {"choose", choose, METH_VARARGS,
     "choose(scores, boxes, last, (scale, x, y), near_iou, score_floor, nms_threshold, reserve, wanted): proposals of "
     "coarse scores [n] and boxes [n, 4] (crop pixels, float32, contiguous): their indices (bytes of int64) and boxes in "
     "frame pixels (bytes of float32)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_choosing", "The coarse stage's proposals.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__choosing(void)
{
    return PyModule_Create(&definition);
}
