/*
 * worker/device.h - a worker's OpenCL device: what it holds of the run, and what goes up
 * and down.
 *
 * Lanes and validation losses are computed there; folds and updates stay on the
 * processor, in shared memory. Weights go up once for each committed version, tokens for
 * each micro-batch, a lane's gradient comes down once, when it is complete; everything
 * else stays. Weights beneath adapters, which no step changes, go up once. The model's
 * arrays are addresses that nobody can read here.
 *
 * A device that fails ends its worker: what it was computing is done again by another
 * one.
 */
#ifndef CLLM_WORKER_DEVICE_H
#define CLLM_WORKER_DEVICE_H

#include "compute/opencl/opencl.h"
#include "compute/ops.h"
#include "model/model.h"

struct cllm_worker;

/* Arrays of one model on the device: addresses without memory. */
struct cllm_device_arrays {
    float *w, *dw; // (n_elements)
    float *frozen; // beneath adapters; NULL without them
    void *model;   /* cllm_model_array_bytes() */
};

struct cllm_device {
    const struct cllm_ops *ops; /* NULL = the worker has none */
    struct cllm_device_arrays arrays;
    uint64_t version;   /* of the weights that are there; 0 = none of the run */
    uint64_t opened_ns; /* CLOCK_MONOTONIC */
    struct cllm_opencl_counters warm; /* when everything was */
};

/* Open the device that the worker's slot was given, if it was, and get its operations.
 * Returns 0 or CLLM_EDEVICE with text. */
int cllm_device_open(struct cllm_worker *worker);
void cllm_device_close(struct cllm_worker *worker);

/* Arrays for a model of @plan and @shape, whose arrays become those; @n_elements of the
 * vectors of what learns, padding included. @arrays comes as zero. Returns 0 or a
 * negative code with text. */
int cllm_device_reserve(struct cllm_device_arrays *arrays,
                        const struct cllm_parameters *plan, uint64_t n_elements,
                        struct cllm_model_shape *shape);
void cllm_device_forget(const struct cllm_device_arrays *arrays);

/* Let the device have the run's frozen weights, which go up once, when a kernel first
 * needs them. Returns 0 or a negative code with text. */
int cllm_device_freeze(struct cllm_worker *worker);

/* Compute one micro-batch of the run both ways, so that every kernel is built and every
 * buffer made before the worker gives up what that takes. */
int cllm_device_warm(struct cllm_worker *worker);

/* Before the hello: the device's name, which is part of it; "" without one. */
void cllm_device_introduce(struct cllm_worker *worker);

/* After it: what the start took. */
void cllm_device_tell_start(struct cllm_worker *worker);

/* ---- during a lane; a failure ends the process ---- */

/* The weights @w of the version that holds committed step @step, on the device. */
const float *cllm_device_weights(struct cllm_worker *worker, const float *w,
                                 uint64_t step);
/* Bring the gradient, device.arrays.dw, down to @dw. */
void cllm_device_fetch(struct cllm_worker *worker, float *dw);
/* Has everything until now gone well? Counters go to the slot's page. */
void cllm_device_check(struct cllm_worker *worker);

#endif /* CLLM_WORKER_DEVICE_H */
