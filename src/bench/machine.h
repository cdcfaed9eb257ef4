/* What a measurement was taken on, and what that could do at best: every bench and `profile` print it and write it into their
 * JSON, so that a number can be compared with another one, and with its bound. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include "autograd/tensor.h"
#include "base/json_write.h"
#include "device/device.h"

#include <stddef.h>
#include <stdio.h>

enum { MACHINE_NAME = 128, MACHINE_ROWS = 24 };

typedef struct machine {
    char cpu[MACHINE_NAME], blas[MACHINE_NAME], system[MACHINE_NAME];
    int cores, threads; /* usable by this process; in the pool */
    double memory_gib;
    char device[MACHINE_NAME]; /* "cpu", or the card's name */
    struct machine_row {
        char name[32], value[MACHINE_NAME];
    } rows[MACHINE_ROWS]; /* of a GPU: driver, CUDA, cuDNN, ...; nothing for the CPU */
    int row_count;
    /* Measured on the device, the best of some runs; 0 until machine_measure. */
    double gemm_gflops;    /* product of square matrices */
    const char *gemm_type; /* "F32", "TF32", "BF16", "F16": what those hold */
    double
        memory_gb_per_s; /* CPU: triad a = b + s c, 12 bytes an element; GPU: copy within its memory, 8 bytes a float */
} machine;

/* Fills everything but the peaks. `dev` may be NULL (no device is used). */
void machine_describe(machine *m, device *dev);

/* The peaks, in about a second, with the threads of the pool; of matrices of this type. OS: no memory for it. */
status machine_measure(machine *m, device *dev, dtype storage, bool tf32);

/* Two to four lines. */
void machine_print(const machine *m, FILE *to);

/* The key "machine" and its object, into an open object. */
void machine_write_json(json_writer *w, const machine *m);

/* The processor's own name; "not known" where the system does not tell. */
void machine_cpu_name(char *text, size_t size);

#endif
