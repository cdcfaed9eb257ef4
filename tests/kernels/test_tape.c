/* The tape on a small network with a shared weight, a residual and a branch without gradient: gradients
 * against finite differences, accumulation, hooks, memory that is reused but never while it is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "add/add.h"
#include "autograd/tape.h"
#include "autograd/tape_internal.h"
#include "autograd/tape_times.h"
#include "base/philox.h"
#include "device/device.h"
#include "linear/linear.h"

enum { ROWS = 6, WIDTH = 8, DEPTH = 5, VARIABLES = 3 };

typedef struct network {
    device *dev;
    tape *t;
    float x[ROWS * WIDTH], weights[VARIABLES][WIDTH * WIDTH], gradients[VARIABLES][WIDTH * WIDTH];
    tensor *loss;
    void *memory;
    size_t bytes;
    int ready[VARIABLES], order[VARIABLES], n_ready;
} network;

/* x -> DEPTH residual blocks y = relu(linear(x, shared)) + x -> linear with its own weight -> sum by a linear
 * of ones. */
static void network_init(network *n) {
    *n = (network){0};
    assert_int_equal(device_open(&n->dev, "cpu"), STATUS_OK);
    philox_key key = {.seed = 1, .purpose = PHILOX_TEST};
    for (int i = 0; i < ROWS * WIDTH; i++) n->x[i] = philox_normal(&key, (uint64_t)i);
    for (int v = 0; v < VARIABLES; v++)
        for (int i = 0; i < WIDTH * WIDTH; i++)
            n->weights[v][i] = 0.3f * philox_normal(&key, (uint64_t)(1000 * (v + 1) + i));
    n->t = tape_new(n->dev, NULL);
    tensor *w[VARIABLES];
    for (int v = 0; v < VARIABLES; v++)
        w[v] = tape_variable(n->t, "weight", DTYPE_F32, (int64_t[]){WIDTH, WIDTH}, 2, n->weights[v],
                             n->gradients[v], v);
    tensor *x = tape_constant(n->t, "x", DTYPE_F32, 2, (int64_t[]){ROWS, WIDTH}, n->x);
    for (int i = 0; i < DEPTH; i++) {
        tensor *branch = linear(n->t, x, w[0], NULL, &(linear_params){.relu = true});
        x = add(n->t, branch, x, &(add_params){.relu = false});
    }
    x = linear(n->t, x, w[1], NULL, &(linear_params){.relu = false});
    static float ones[WIDTH * ROWS];
    for (int i = 0; i < WIDTH * ROWS; i++) ones[i] = (float)(i % 3) - 0.7f;
    tensor *pool = tape_constant(n->t, "ones", DTYPE_F32, 2, (int64_t[]){1, WIDTH}, ones);
    n->loss = linear(n->t, x, pool, NULL, &(linear_params){.relu = false});
    tape_keep(n->t, n->loss);
    /* There is no reduction op here, so seed the gradient of the [ROWS,1] output by hand: all ones. */
    tape_value *v = n->t->values[n->loss->id];
    static float seed[ROWS];
    for (int i = 0; i < ROWS; i++) seed[i] = 1.0f;
    v->grad = v->value;
    v->grad.data = seed;
    v->external_grad = v->grad_written = true;
    n->bytes = tape_plan(n->t);
    n->memory = aligned_alloc(OP_SCRATCH_ALIGNMENT, n->bytes);
    assert_non_null(n->memory);
    tape_attach(n->t, n->memory, n->bytes);
}

static void network_release(network *n) {
    tape_free(n->t);
    free(n->memory);
    device_close(n->dev);
}

static double run_forward(network *n) {
    tape_forward(n->t);
    double sum = 0;
    for (int i = 0; i < ROWS; i++) sum += tensor_f32(n->loss)[i];
    return sum;
}

static void note_ready(void *context, int index) {
    network *n = context;
    n->ready[index]++;
    n->order[n->n_ready++] = index;
}

static void gradients_match_differences(void **state) {
    (void)state;
    network n;
    network_init(&n);
    memset(n.memory, 0xFF, n.bytes); /* NaN everywhere: what is read must have been written */
    run_forward(&n);
    memset(n.gradients, 0xFF, sizeof n.gradients);
    tape_backward(n.t, note_ready, &n);
    for (int v = 0; v < VARIABLES; v++) assert_int_equal(n.ready[v], 1);
    assert_int_equal(n.order[0], 2); /* unused: cleared at once */
    assert_int_equal(n.order[1], 1);
    assert_int_equal(n.order[2], 0); /* shared by all blocks: ready after the first block's backward */
    for (int i = 0; i < WIDTH * WIDTH; i++) assert_true(n.gradients[2][i] == 0.0f);
    for (int v = 0; v < 2; v++) {
        for (int i = 0; i < WIDTH * WIDTH; i += 5) {
            float saved = n.weights[v][i], step = 1e-3f;
            n.weights[v][i] = saved + step;
            double up = run_forward(&n);
            n.weights[v][i] = saved - step;
            double down = run_forward(&n);
            n.weights[v][i] = saved;
            double numeric = (up - down) / (2.0 * (double)step);
            double error = numeric - (double)n.gradients[v][i];
            assert_true(error * error <= 4e-3 * (1.0 + numeric * numeric));
        }
    }
    network_release(&n);
}

static void steps_repeat_bit_for_bit(void **state) {
    (void)state;
    network n;
    network_init(&n);
    float first[VARIABLES][WIDTH * WIDTH];
    for (int step = 0; step < 3; step++) {
        run_forward(&n);
        tape_backward(n.t, NULL, NULL);
        if (step == 0) memcpy(first, n.gradients, sizeof first);
        assert_memory_equal(first, n.gradients, sizeof first);
    }
    network_release(&n);
}

static void live_blocks_never_overlap(void **state) {
    (void)state;
    network n;
    network_init(&n);
    size_t sum = 0;
    for (int i = 0; i < n.t->n_blocks; i++) {
        const tape_block *a = &n.t->blocks[i];
        sum += a->bytes;
        assert_true(a->offset + a->bytes <= n.bytes);
        for (int j = 0; j < i; j++) {
            const tape_block *b = &n.t->blocks[j];
            bool together = a->first <= b->last && b->first <= a->last;
            bool overlap = a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
            assert_false(together && overlap);
        }
    }
    assert_true(n.bytes < sum); /* something was reused */
    network_release(&n);
}

/* It runs to the end in any case: with ops that are collective, other ranks wait for them. */
static void non_finite_values_are_found(void **state) {
    (void)state;
    network n;
    char text[128];
    network_init(&n);
    run_forward(&n);
    tape_find_non_finite(n.t, text, sizeof text);
    assert_string_equal(text, "");
    n.x[3] = (float)NAN; /* of the first row */
    float last = tensor_f32(n.loss)[ROWS - 1];
    tensor_f32(n.loss)[ROWS - 1] = 0;
    tape_find_non_finite(n.t, text, sizeof text);
    assert_non_null(strstr(text, "input x"));
    assert_true(tensor_f32(n.loss)[ROWS - 1] == last);
    n.x[3] = 3e38f;
    for (int i = 0; i < WIDTH * WIDTH; i++) n.weights[0][i] = 9;
    tape_find_non_finite(n.t, text, sizeof text);
    assert_non_null(strstr(text, "op linear, output y"));
    network_release(&n);
}

typedef struct told {
    int count;
    tape_run runs[4];
} told;

static void note_run(void *context, const tape_run *run) {
    told *all = context;
    assert_true(all->count < 4);
    all->runs[all->count++] = *run;
}

/* Runs are told once, forward before backward, and cost what their valid rows do. */
static void measured_runs_cost_their_valid_rows(void **state) {
    (void)state;
    static float x[ROWS * WIDTH], weight[WIDTH * WIDTH], gradient[WIDTH * WIDTH], seed[ROWS * WIDTH];
    int32_t rows = ROWS - 2;
    device *dev;
    assert_int_equal(device_open(&dev, "cpu"), STATUS_OK);
    tape *t = tape_new(dev, NULL);
    tensor *w = tape_variable(t, "weight", DTYPE_F32, (int64_t[]){WIDTH, WIDTH}, 2, weight, gradient, 0);
    tensor *in = tape_constant(t, "x", DTYPE_F32, 2, (int64_t[]){ROWS, WIDTH}, x);
    in->rows = tape_constant(t, "count", DTYPE_I32, 1, (int64_t[]){1}, &rows);
    tape_scope(t, "head.fc");
    tensor *y = linear(t, in, w, NULL, &(linear_params){.relu = false});
    tape_value *v = t->values[y->id];
    v->grad = v->value;
    v->grad.data = seed;
    v->external_grad = v->grad_written = true;
    size_t bytes = tape_plan(t);
    void *memory = aligned_alloc(64, bytes + 64);
    assert_non_null(memory);
    tape_attach(t, memory, bytes);
    tape_measure(t, NULL);
    tape_forward(t);
    tape_backward(t, NULL, NULL);
    told all = {0};
    tape_take_runs(t, note_run, &all);
    assert_int_equal(all.count, 2);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(all.runs[i].layer, "head.fc");
        assert_true(all.runs[i].op == &linear_op && all.runs[i].backward == (i == 1));
        assert_true(all.runs[i].seconds > 0);
        assert_true(all.runs[i].cost.flops == 2.0 * (ROWS - 2) * WIDTH * WIDTH);
    }
    assert_true(all.runs[1].start >= all.runs[0].start + all.runs[0].seconds);
    assert_true(all.runs[0].cost.written_bytes == 4.0 * (ROWS - 2) * WIDTH);
    tape_take_runs(t, note_run, &all);
    assert_int_equal(all.count, 2);
    tape_free(t);
    free(memory);
    device_close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measured_runs_cost_their_valid_rows),
        cmocka_unit_test(gradients_match_differences),
        cmocka_unit_test(steps_repeat_bit_for_bit),
        cmocka_unit_test(live_blocks_never_overlap),
        cmocka_unit_test(non_finite_values_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
