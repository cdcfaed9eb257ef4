#include "train/optimizer.h"

#include "base/philox.h"
#include "base/thread_pool.h"
#include "device/device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static device *cpu;
static float step_rates[SGD_STEP_RATE_FLOATS];

static int open_device(void **state) {
    (void)state;
    return device_open(&cpu, "cpu") == STATUS_OK ? 0 : -1;
}

static int close_device(void **state) {
    (void)state;
    device_close(cpu);
    return 0;
}

static void add(param_store *store, const char *name, param_kind kind, int64_t size, bool trainable) {
    param_store_add(
        store, &(param_spec){.name = name, .kind = kind, .rank = 1, .shape = {size}, .trainable = trainable});
}

enum { CONV = 0, BIAS, NORM, NORM_BIAS, FROZEN };

static void make_store(param_store *store, int64_t size) {
    param_store_init(store);
    add(store, "conv.weight", PARAM_WEIGHT, size, true);
    add(store, "conv.bias", PARAM_BIAS, 5, true);
    add(store, "gn.weight", PARAM_NORM, 3, true);
    add(store, "gn.bias", PARAM_NORM, 3, true);
    add(store, "bn.running_mean", PARAM_BUFFER, 4, false);
    assert_int_equal(param_store_allocate(store, cpu, NULL, true), STATUS_OK);
    for (int64_t i = 0; i < store->total; i++) store->values[i] = 0.25f + (float)(i % 7);
}

static float *values_of(param_store *s, int i) {
    return s->values + s->params[i].offset;
}
static float *gradients_of(param_store *s, int i) {
    return (float *)s->gradients + s->params[i].offset;
}
static float *momentum_of(param_store *s, int i) {
    return s->momentum + s->params[i].offset;
}

static optimizer *make(param_store *store, const char *settings) {
    char text[1024], *words[64];
    int count = 0;
    strcpy(text, settings);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) words[count++] = word;
    config cfg;
    if (config_load(&cfg, NULL, words, count) != STATUS_OK) fail_msg("%s", error_cause());
    optimizer *o;
    assert_int_equal(optimizer_new(&o, store, &cfg, step_rates), STATUS_OK);
    config_release(&cfg);
    return o;
}

static gradient_report run(optimizer *o, double lr, double previous_lr) {
    optimizer_rates(step_rates, o, lr, previous_lr);
    optimizer_queue(o);
    return optimizer_report(o, optimizer_record_place(o));
}

static void check_near(float value, double expected) {
    if (!(fabs((double)value - expected) <= 1e-6 * fmax(1, fabs(expected))))
        fail_msg("%.9g instead of %.9g", (double)value, expected);
}

static void groups_are_detectron2s(void **state) {
    (void)state;
    param_store store;
    make_store(&store, 10);
    optimizer *o = make(&store, "SOLVER.WEIGHT_DECAY 0.5 SOLVER.WEIGHT_DECAY_NORM 0.25");
    const double decay[] = {.5, .5, .25, .25};
    for (int i = 0; i < 4; i++) {
        assert_true(optimizer_weight_decay(o, i) == decay[i]);
        assert_true(optimizer_lr_scale(o, i) == 1);
    }
    optimizer_free(o);
    o = make(&store, "SOLVER.WEIGHT_DECAY 0.5 SOLVER.WEIGHT_DECAY_NORM None SOLVER.WEIGHT_DECAY_BIAS 0 "
                     "SOLVER.BIAS_LR_FACTOR 2");
    const double decay_bias[] = {.5, 0, .5, 0}, scale_bias[] = {1, 2, 1, 2};
    for (int i = 0; i < 4; i++) {
        assert_true(optimizer_weight_decay(o, i) == decay_bias[i]);
        assert_true(optimizer_lr_scale(o, i) == scale_bias[i]);
    }
    optimizer_free(o);
    param_store_release(&store);
}

static void steps_follow_the_formula(void **state) {
    (void)state;
    param_store store;
    make_store(&store, 10);
    optimizer *o = make(
        &store,
        "SOLVER.MOMENTUM 0.9 SOLVER.WEIGHT_DECAY 0.01 SOLVER.WEIGHT_DECAY_NORM 0 SOLVER.BIAS_LR_FACTOR 2");
    double w = (double)values_of(&store, CONV)[3], v = 0, bias = (double)values_of(&store, BIAS)[1],
           bias_v = 0;
    double norm = (double)values_of(&store, NORM)[2], norm_v = 0;
    float frozen = values_of(&store, FROZEN)[0];
    for (int step = 0; step < 3; step++) {
        double g = 0.5 - step, lr = 0.1 * (step + 1);
        gradients_of(&store, CONV)[3] = gradients_of(&store, BIAS)[1] = gradients_of(&store, NORM)[2] =
            (float)g;
        gradient_report report = run(o, lr, lr);
        assert_null(report.non_finite);
        assert_true(fabs(report.norm - sqrt(3 * g * g)) < 1e-12);
        v = .9 * v + g + .01 * w, w -= lr * v;
        bias_v = .9 * bias_v + g + .01 * bias, bias -= 2 * lr * bias_v;
        norm_v = .9 * norm_v + g, norm -= lr * norm_v;
    }
    check_near(values_of(&store, CONV)[3], w);
    check_near(momentum_of(&store, CONV)[3], v);
    check_near(values_of(&store, BIAS)[1], bias);
    check_near(values_of(&store, NORM)[2], norm);
    assert_true(values_of(&store, FROZEN)[0] == frozen);
    optimizer_free(o);
    param_store_release(&store);
}

/* One step from momentum 0 without decay at rate 1: the values change by the clipped gradient. conv has (3,
 * 4, 0...), a norm of 5; conv.bias has (0.3, -0.4, 0...), a norm of 0.5; together sqrt(25.25). */
static void check_clipping(const char *settings, const double expected[4]) {
    param_store store;
    make_store(&store, 10);
    char all[512];
    snprintf(all, sizeof all, "SOLVER.WEIGHT_DECAY 0 SOLVER.CLIP_GRADIENTS.ENABLED True %s", settings);
    optimizer *o = make(&store, all);
    float *values[4] = {&values_of(&store, CONV)[0], &values_of(&store, CONV)[1], &values_of(&store, BIAS)[0],
                        &values_of(&store, BIAS)[1]};
    const float gradients[4] = {3, 4, .3f, -.4f};
    double before[4];
    for (int i = 0; i < 4; i++) {
        before[i] = (double)*values[i];
        ((float *)store.gradients)[values[i] - store.values] = gradients[i];
    }
    gradient_report report = run(o, 1, 1);
    assert_true(fabs(report.norm - sqrt(25.25)) < 1e-6);
    for (int i = 0; i < 4; i++) check_near(*values[i], before[i] - expected[i]);
    for (int i = 0; i < 4; i++)
        assert_true(((float *)store.gradients)[values[i] - store.values] == gradients[i]);
    optimizer_free(o);
    param_store_release(&store);
}

static void gradients_are_clipped(void **state) {
    (void)state;
    check_clipping("SOLVER.CLIP_GRADIENTS.CLIP_TYPE value SOLVER.CLIP_GRADIENTS.CLIP_VALUE 0.35",
                   (double[]){.35, .35, .3, -.35});
    check_clipping("SOLVER.CLIP_GRADIENTS.CLIP_TYPE norm SOLVER.CLIP_GRADIENTS.CLIP_VALUE 1",
                   (double[]){.6, .8, .3, -.4});
    check_clipping("SOLVER.CLIP_GRADIENTS.CLIP_TYPE norm SOLVER.CLIP_GRADIENTS.CLIP_VALUE 0.1 "
                   "SOLVER.CLIP_GRADIENTS.NORM_TYPE 1",
                   (double[]){.3 / 7, .4 / 7, .03 / .7, -.04 / .7});
    check_clipping("SOLVER.CLIP_GRADIENTS.CLIP_TYPE norm SOLVER.CLIP_GRADIENTS.CLIP_VALUE 2 "
                   "SOLVER.CLIP_GRADIENTS.NORM_TYPE .inf",
                   (double[]){1.5, 2, .3, -.4});
    double factor = 1 / sqrt(25.25);
    check_clipping("SOLVER.CLIP_GRADIENTS.CLIP_TYPE full_model SOLVER.CLIP_GRADIENTS.CLIP_VALUE 1",
                   (double[]){3 * factor, 4 * factor, .3 * factor, -.4 * factor});
}

/* Detectron's own form, V = m V + lr g with the correction of its _CorrectMomentum, next to ours. */
static void scaled_momentum_is_detectrons(void **state) {
    (void)state;
    param_store store;
    make_store(&store, 10);
    optimizer *o = make(&store, "SOLVER.SCALE_MOMENTUM True SOLVER.WEIGHT_DECAY 0");
    static const double rates[] = {.01, .0105, .0108, .02, .02, .002, .0021};
    double w = (double)values_of(&store, CONV)[0], V = 0;
    for (int step = 0; step < 7; step++) {
        double lr = rates[step], previous = step ? rates[step - 1] : lr, g = 1 + step;
        gradients_of(&store, CONV)[0] = (float)g;
        run(o, lr, previous);
        double ratio = fmax(lr / previous, previous / lr);
        if (ratio > 1.1) V *= lr / previous;
        V = .9 * V + lr * g;
        w -= V;
        check_near(values_of(&store, CONV)[0], w);
    }
    optimizer_free(o);
    param_store_release(&store);
}

static void the_first_bad_tensor_is_named(void **state) {
    (void)state;
    param_store store;
    make_store(&store, 200000);
    optimizer *o = make(&store, "");
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int k = 0; k < 3; k++) {
        gradients_of(&store, NORM)[1] = bad[k];
        gradients_of(&store, NORM_BIAS)[0] = NAN;
        gradient_report report = run(o, .1, .1);
        assert_true(report.is_stopped);
        assert_string_equal(report.non_finite, "gn.weight");
        assert_false(isfinite(report.norm));
    }
    gradients_of(&store, CONV)[199999] = INFINITY;
    assert_string_equal(run(o, .1, .1).non_finite, "conv.weight");
    memset(store.gradients, 0, (size_t)store.trainable * sizeof(float));
    gradients_of(&store, CONV)[0] = 3e38f; /* finite, though its square is no float */
    gradient_report report = run(o, .1, .1);
    assert_null(report.non_finite);
    assert_true(fabs(report.norm / 3e38 - 1) < 1e-6);
    optimizer_free(o);
    param_store_release(&store);
}

/* A bad step and all after it change nothing, though their gradients are good; a bad loss is as bad as a bad gradient. */
static void nothing_moves_after_a_bad_step(void **state) {
    (void)state;
    for (int is_loss = 0; is_loss < 2; is_loss++) {
        param_store store;
        make_store(&store, 100);
        optimizer *o = make(&store, "");
        for (int64_t i = 0; i < store.trainable; i++) ((float *)store.gradients)[i] = .5f;
        assert_false(run(o, .1, .1).is_stopped);
        float value = values_of(&store, CONV)[7], momentum = momentum_of(&store, CONV)[7];
        float *bad = is_loss ? &optimizer_record_place(o)->losses[2] : &gradients_of(&store, BIAS)[1],
              good = *bad;
        *bad = NAN;
        assert_true(run(o, .1, .1).is_stopped);
        *bad = good;
        gradient_report later = run(o, .1, .1);
        assert_true(later.is_stopped && !later.non_finite && isfinite(later.norm));
        assert_true(values_of(&store, CONV)[7] == value && momentum_of(&store, CONV)[7] == momentum);
        optimizer_free(o);
        param_store_release(&store);
    }
}

static void threads_change_no_bit(void **state) {
    (void)state;
    float *first = NULL;
    double first_norm = 0;
    for (int threads = 1; threads <= 4; threads++) {
        thread_pool_start(threads);
        param_store store;
        make_store(&store, 300001);
        optimizer *o =
            make(&store, "SOLVER.CLIP_GRADIENTS.ENABLED True SOLVER.CLIP_GRADIENTS.CLIP_TYPE norm");
        philox_key key = {.seed = 3, .purpose = PHILOX_TEST};
        for (int i = 0; i < 4; i++)
            for (int64_t k = 0; k < store.params[i].size; k++)
                gradients_of(&store, i)[k] = philox_normal(&key, (uint64_t)(k + i));
        double norm = 0;
        for (int step = 0; step < 2; step++) {
            norm = run(o, .1, .1).norm;
        }
        size_t bytes = (size_t)store.trainable * sizeof(float);
        if (!first) {
            first = malloc(bytes);
            memcpy(first, store.values, bytes);
            first_norm = norm;
        }
        assert_memory_equal(first, store.values, bytes);
        assert_memory_equal(&first_norm, &norm, sizeof norm);
        optimizer_free(o);
        param_store_release(&store);
    }
    free(first);
    thread_pool_stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_are_detectron2s),        cmocka_unit_test(steps_follow_the_formula),
        cmocka_unit_test(gradients_are_clipped),         cmocka_unit_test(scaled_momentum_is_detectrons),
        cmocka_unit_test(the_first_bad_tensor_is_named), cmocka_unit_test(nothing_moves_after_a_bad_step),
        cmocka_unit_test(threads_change_no_bit),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
