#include "bench/op_bench.h"

#include "autograd/op_cost.h"
#include "base/host_memory.h"
#include "bench/json_output.h"
#include "bench/machine.h"
#include "bench/naive_roi.h"
#include "bench/op_timer.h"
#include "setup/setup.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_KERNELS = OP_MAX_VARIANTS + 8, SHAPES_TEXT = 512 };

static const double reference_flops = 2e9;

/* Kernels that can run on the job's device, the one that ships first. */
typedef struct kernel_list {
    const op_kernel *kernels[MOST_KERNELS];
    int count;
} kernel_list;

typedef struct bench {
    const op_bench_job *job;
    kernel_list list;
    machine machine;
    json_writer json;
    struct left_out {
        const char *name;
        char reason[128];
    } * left_out; /* [n_bench_cases] */
    int left_out_count;
} bench;

/* One direction of one kernel on one case. */
typedef struct timing {
    bool there;
    double seconds, gflops, gb_per_s, peak_share;
} timing;

static void add_kernel(kernel_list *list, const op_bench_job *job, const op_kernel *kernel) {
    if (!kernel || list->count == MOST_KERNELS || (job->variant && strcmp(kernel->name, job->variant) != 0))
        return;
    for (int i = 0; i < list->count; i++)
        if (list->kernels[i] == kernel) return;
    list->kernels[list->count++] = kernel;
}

static status list_kernels(kernel_list *list, const op_bench_job *job) {
    const op_def *op = job->op;
    if (device_get_kind(job->dev) == DEVICE_CPU) {
        add_kernel(list, job, op->cpu);
        for (int i = 0; i < OP_MAX_VARIANTS; i++) add_kernel(list, job, op->variants[i]);
        add_kernel(list, job, op->reference_f32);
        add_kernel(list, job, naive_roi_kernel(op->name));
    } else {
        for (int i = 0; i < MOST_KERNELS; i++)
            add_kernel(list, job, device_find_variant(job->dev, op->name, i));
    }
    if (list->count > 0) return STATUS_OK;
    if (job->variant)
        return error_set(STATUS_USAGE, "run it without --variant: the table names them all",
                         "bench op %s: no kernel %s on %s", op->name, job->variant,
                         device_get_name(job->dev));
    return error_set(STATUS_NO_DEVICE, "use --device cpu", "bench op %s: no kernel for %s", op->name,
                     device_get_name(job->dev));
}

/* What the tensors of a case may take: half of what is free. A GPU says no by itself. */
static size_t memory_limit(const device *dev) {
    return device_get_kind(dev) == DEVICE_CPU ? host_memory_free() / 2 : 0;
}

static status time_one(timing *t, const bench *b, op_timer *r, const op_kernel *kernel, bool backward) {
    *t = (timing){.there = backward ? kernel->backward && op_timer_has_backward(r) : true};
    if (!t->there) return STATUS_OK;
    RETURN_IF_ERROR(op_timer_seconds(&t->seconds, r, kernel, backward));
    op_cost cost = op_cost_of(op_timer_call(r), backward);
    double bytes = cost.read_bytes + cost.written_bytes,
           by_products = 1e-9 * cost.flops / b->machine.gemm_gflops,
           by_memory = 1e-9 * bytes / b->machine.memory_gb_per_s;
    t->gflops = 1e-9 * cost.flops / t->seconds;
    t->gb_per_s = 1e-9 * bytes / t->seconds;
    t->peak_share = (by_products > by_memory ? by_products : by_memory) / t->seconds;
    return STATUS_OK;
}

static void print_timing(const timing *t) {
    if (t->there)
        printf(" %10.4f %8.1f %7.2f %6.1f", 1e3 * t->seconds, t->gflops, t->gb_per_s, 100 * t->peak_share);
    else
        printf(" %10s %8s %7s %6s", "-", "-", "-", "-");
}

static void write_timing(json_writer *w, const timing *t, const char *direction) {
    char key[64];
    snprintf(key, sizeof key, "%s_ms", direction);
    json_write_key(w, key);
    if (!t->there) {
        json_write_null(w);
        return;
    }
    json_write_f64(w, 1e3 * t->seconds);
    snprintf(key, sizeof key, "%s_gflop_per_s", direction);
    json_output_f64(w, key, t->gflops);
    snprintf(key, sizeof key, "%s_gb_per_s", direction);
    json_output_f64(w, key, t->gb_per_s);
    snprintf(key, sizeof key, "%s_peak_share", direction);
    json_output_f64(w, key, t->peak_share);
}

static void write_cost(json_writer *w, const op_call *call, const char *direction, bool backward) {
    char key[64];
    op_cost cost = op_cost_of(call, backward);
    snprintf(key, sizeof key, "%s_gflop", direction);
    json_output_f64(w, key, 1e-9 * cost.flops);
    snprintf(key, sizeof key, "%s_mb", direction);
    json_output_f64(w, key, 1e-6 * (cost.read_bytes + cost.written_bytes));
}

/* "x [2,8,8,3] rois [10,5]" */
static const char *shapes_text(char text[SHAPES_TEXT], const op_call *call) {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < call->op->n_inputs; i++) {
        char shape[96];
        if (!call->in[i] || used >= SHAPES_TEXT) continue;
        used +=
            (size_t)snprintf(text + used, SHAPES_TEXT - used, "%s%s %s", used ? " " : "",
                             call->op->input_names[i], tensor_shape_text(call->in[i], shape, sizeof shape));
    }
    return text;
}

static void write_kernel(json_writer *w, const op_kernel *kernel, const timing t[2]) {
    json_write_begin_object(w);
    json_output_text(w, "name", kernel->name);
    write_timing(w, &t[0], "forward");
    write_timing(w, &t[1], "backward");
    json_write_end_object(w);
}

static void write_case_head(json_writer *w, const op_timer *r, const char *name, const timing t[2]) {
    char shapes[SHAPES_TEXT];
    json_output_text(w, "name", name);
    json_output_text(w, "shapes", shapes_text(shapes, op_timer_call(r)));
    write_timing(w, &t[0], "forward");
    write_timing(w, &t[1], "backward");
    write_cost(w, op_timer_call(r), "forward", false);
    if (op_timer_has_backward(r)) write_cost(w, op_timer_call(r), "backward", true);
}

/* Plain loops take minutes for a large convolution; who wants to know asks for them. */
static bool is_too_slow(const bench *b, const op_timer *r, const op_kernel *kernel) {
    const op_def *op = b->job->op;
    return kernel == op->reference_f32 && kernel != op->cpu && !b->job->variant &&
           op_cost_of(op_timer_call(r), false).flops > reference_flops;
}

/* On this case: the job's kernels without those that are too slow. */
static kernel_list kernels_for(const bench *b, const op_timer *r) {
    kernel_list list = {.count = 0};
    for (int i = 0; i < b->list.count; i++)
        if (!is_too_slow(b, r, b->list.kernels[i])) list.kernels[list.count++] = b->list.kernels[i];
    return list;
}

static status time_kernels(bench *b, op_timer *r, const char *name) {
    timing t[MOST_KERNELS][2];
    kernel_list list = kernels_for(b, r);
    for (int i = 0; i < list.count; i++) {
        const op_kernel *kernel = list.kernels[i];
        for (int backward = 0; backward < 2; backward++)
            RETURN_IF_ERROR(time_one(&t[i][backward], b, r, kernel, backward));
        printf("%-30s %-16s", i ? "" : name, kernel->name);
        print_timing(&t[i][0]);
        fputs(" |", stdout);
        print_timing(&t[i][1]);
        putchar('\n');
        fflush(stdout);
    }
    json_writer *w = &b->json;
    json_write_begin_object(w);
    write_case_head(w, r, name, t[0]);
    json_write_key(w, "kernels");
    json_write_begin_array(w);
    for (int i = 0; i < list.count; i++) write_kernel(w, list.kernels[i], t[i]);
    json_write_end_array(w);
    json_write_end_object(w);
    return STATUS_OK;
}

static void leave_out(bench *b, const char *name) {
    struct left_out *l = &b->left_out[b->left_out_count++];
    l->name = name;
    snprintf(l->reason, sizeof l->reason, "%s", error_cause());
    printf("%-30s left out: %s\n", name, l->reason);
    error_clear();
}

static void write_left_out(json_writer *w, const bench *b) {
    json_write_key(w, "left_out");
    json_write_begin_array(w);
    for (int i = 0; i < b->left_out_count; i++) {
        json_write_begin_object(w);
        json_output_text(w, "name", b->left_out[i].name);
        json_output_text(w, "reason", b->left_out[i].reason);
        json_write_end_object(w);
    }
    json_write_end_array(w);
}

static status run_case(bench *b, const op_case *c) {
    const op_bench_job *job = b->job;
    op_timer *r;
    status s = op_timer_new(&r, job->dev, job->op, c,
                            &(op_timer_options){.storage = job->storage,
                                                .tf32 = job->tf32,
                                                .backward = !job->forward_only,
                                                .limit = memory_limit(job->dev)});
    if (s == STATUS_OK) {
        s = time_kernels(b, r, c->name);
        op_timer_free(r);
    }
    if (s != STATUS_OS) return s;
    leave_out(b, c->name);
    return STATUS_OK;
}

/* A case's whole name is that case's alone, also where others begin with it. */
static bool is_wanted(const op_bench_job *job, const char *name) {
    if (!job->cases) return true;
    for (int i = 0; i < job->op->n_bench_cases; i++)
        if (strcmp(job->op->bench_cases[i].name, job->cases) == 0) return strcmp(name, job->cases) == 0;
    return strstr(name, job->cases);
}

static status run_cases(bench *b) {
    const op_bench_job *job = b->job;
    json_write_key(&b->json, "cases");
    json_write_begin_array(&b->json);
    printf("\n%-47s %42s\n%-30s %-16s", "", "forward                             backward", job->op->name,
           "kernel");
    for (int i = 0; i < 2; i++)
        printf("%s %10s %8s %7s %6s", i ? " |" : "", "ms", "GFLOP/s", "GB/s", "% peak");
    putchar('\n');
    int found = 0;
    for (int i = 0; i < job->op->n_bench_cases; i++) {
        if (!is_wanted(job, job->op->bench_cases[i].name)) continue;
        RETURN_IF_ERROR(run_case(b, &job->op->bench_cases[i]));
        found++;
    }
    json_write_end_array(&b->json);
    if (found > 0) return STATUS_OK;
    return error_set(STATUS_USAGE, "run it without --case: the table names them all",
                     "bench op %s: no case has \"%s\" in its name", job->op->name,
                     job->cases ? job->cases : "");
}

static status finish(bench *b) {
    write_left_out(&b->json, b);
    machine_write_json(&b->json, &b->machine);
    json_output_f64(&b->json, "peak_rss_mib", (double)host_memory_peak() / (1 << 20));
    json_write_end_object(&b->json);
    return json_output_write(b->job->json, &b->json);
}

static status run(bench *b) {
    const op_bench_job *job = b->job;
    RETURN_IF_ERROR(list_kernels(&b->list, job));
    RETURN_IF_ERROR(json_output_check(job->json));
    machine_describe(&b->machine, job->dev);
    RETURN_IF_ERROR(machine_measure(&b->machine, job->dev, job->storage, job->tf32));
    machine_print(&b->machine, stdout);
    json_write_begin_object(&b->json);
    json_output_text(&b->json, "op", job->op->name);
    json_output_text(&b->json, "precision",
                     setup_precision_name(&(precision){.storage = job->storage, .tf32 = job->tf32}));
    RETURN_IF_ERROR(run_cases(b));
    return finish(b);
}

status op_bench_run(const op_bench_job *job) {
    bench b = {.job = job, .left_out = calloc((size_t)job->op->n_bench_cases + 1, sizeof *b.left_out)};
    if (!b.left_out) return error_set(STATUS_OS, "free some memory", "bench op: no memory for its table");
    json_write_init(&b.json);
    status s = run(&b);
    json_write_release(&b.json);
    free(b.left_out);
    return s;
}
