#include "cuda/library_math.h"

#include "base/check.h"
#include "base/log.h"
#include "cuda/lt_product.h"
#include "cudnn/conv_calls.h"
#include "cudnn/plan_cache.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TUNED_PLANS = 5,
    TIMED_RUNS = 3,
    SAVE_AFTER = 64, /* new plans, so that a run that is killed loses few */
    LT_MARK_SIZE = 32
};

#define LT_MARK "cublasLt " /* stands where a cuDNN plan's JSON would; then the algorithm's rank */

/* A variant pack and the pointers that it was made of. */
typedef struct bound_pack {
    void *operands[CONV_OPERANDS], *workspace;
    cudnnBackendDescriptor_t pack;
} bound_pack;

typedef enum routine_kind { ROUTINE_NONE, ROUTINE_CUDNN, ROUTINE_LT } routine_kind;

/* How one description is computed. */
typedef struct routine {
    conv_desc desc;
    routine_kind kind;
    bool settled;     /* kept from an earlier run, or timed */
    conv_graph graph; /* ROUTINE_CUDNN */
    conv_plan plan;
    bound_pack *packs;
    int n_packs, packs_capacity;
    lt_product product; /* ROUTINE_LT */
} routine;

static struct {
    bool opened, tuning;
    const cudnn_api *cudnn; /* NULL: not available */
    cudnnHandle_t handle;
    cudnn_target target;
    plan_cache cache;
    int unsaved;
    const lt_api *lt; /* NULL: not available */
    cublasLtHandle_t lt_handle;
    routine **routines; /* open hashing by description */
    size_t n_routines, n_slots;
} library;

void library_tune(bool on) {
    library.tuning = on;
}

/* ---- opening and closing -------------------------------------------------------------------------------- */

/* $MASKRCNN_PLANS, else maskrcnn in the user's cache folder; false: there is none. */
static bool cache_folder(char folder[PATH_MAX]) {
    const char *said = getenv("MASKRCNN_PLANS"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = said && *said     ? snprintf(folder, PATH_MAX, "%s", said)
                 : cache && *cache ? snprintf(folder, PATH_MAX, "%s/maskrcnn", cache)
                 : home && *home   ? snprintf(folder, PATH_MAX, "%s/.cache/maskrcnn", home)
                                   : PATH_MAX;
    return length < PATH_MAX;
}

static status open_cudnn(void) {
    const cudnn_api *api;
    RETURN_IF_ERROR(cudnn_api_get(&api));
    if (api->create(&library.handle) != CUDNN_STATUS_SUCCESS)
        return error_set(STATUS_NO_DEVICE, NULL, "cuDNN does not start on this GPU");
    library.cudnn = api;
    if (cudnn_target_from_handle(&library.target, api, library.handle) != STATUS_OK) {
        log_warn("cuda", "plans are not kept: %s", error_cause());
        error_clear();
        cudnn_target_release(&library.target); /* with a handle, only the cache needs the description */
        library.target = (cudnn_target){.api = api, .handle = library.handle};
        return STATUS_OK;
    }
    char folder[PATH_MAX];
    if (!cache_folder(folder)) return STATUS_OK;
    return plan_cache_open(&library.cache, folder, &library.target);
}

static status open_lt(void) {
    const lt_api *api;
    RETURN_IF_ERROR(lt_api_get(&api));
    if (api->create(&library.lt_handle) != CUBLAS_STATUS_SUCCESS)
        return error_set(STATUS_NO_DEVICE, NULL, "cublasLt does not start on this GPU");
    library.lt = api;
    return STATUS_OK;
}

static void open_once(void) {
    if (library.opened) return;
    library.opened = true;
    if (open_cudnn() != STATUS_OK)
        log_warn("cuda", "convolutions run on the program's own kernels, which are slower: %s",
                 error_cause());
    if (open_lt() != STATUS_OK)
        log_warn("cuda", "matrix products run on the program's own kernels, which are slower: %s",
                 error_cause());
}

static void save_cache(void) {
    library.unsaved = 0;
    if (!library.cache.title[0] || plan_cache_save(&library.cache) == STATUS_OK) return;
    log_warn("cuda", "plans are not kept: %s", error_cause());
    library.cache.changed = false;
}

/* Back to: nothing is chosen. */
static void clear_routine(routine *r) {
    for (int i = 0; i < r->n_packs; i++) library.cudnn->descriptor_destroy(r->packs[i].pack);
    r->n_packs = 0;
    if (r->kind == ROUTINE_CUDNN) conv_plan_release(&library.target, &r->plan);
    if (r->graph.api) conv_graph_release(&r->graph);
    if (r->kind == ROUTINE_LT) lt_product_release(&r->product);
    r->kind = ROUTINE_NONE;
}

static void release_routine(routine *r) {
    clear_routine(r);
    free(r->packs);
    free(r);
}

void library_close(void) {
    for (size_t i = 0; i < library.n_slots; i++)
        if (library.routines[i]) release_routine(library.routines[i]);
    free(library.routines);
    if (library.cudnn) {
        save_cache();
        plan_cache_release(&library.cache);
        cudnn_target_release(&library.target);
        library.cudnn->destroy(library.handle);
    }
    if (library.lt) library.lt->destroy(library.lt_handle);
    memset(&library, 0, sizeof library);
}

/* ---- running -------------------------------------------------------------------------------------------- */

/* The pack of these pointers; they are the same in every step, so after the first one nothing is made here. */
static cudnnBackendDescriptor_t pack_of(routine *r, void *const operands[CONV_OPERANDS], void *workspace) {
    const cudnn_api *api = library.cudnn;
    for (int i = 0; i < r->n_packs; i++)
        if (r->packs[i].workspace == workspace &&
            memcmp(r->packs[i].operands, operands, sizeof r->packs[i].operands) == 0)
            return r->packs[i].pack;
    if (r->n_packs == r->packs_capacity) {
        r->packs_capacity = r->packs_capacity ? 2 * r->packs_capacity : 4;
        r->packs = realloc(r->packs, (size_t)r->packs_capacity * sizeof *r->packs);
        CHECK(r->packs, "out of memory for %d variant packs", r->packs_capacity);
    }
    int64_t uids[CONV_OPERANDS], n = 0;
    void *pointers[CONV_OPERANDS];
    for (int i = 0; i < CONV_OPERANDS; i++) {
        if (!conv_desc_has(&r->desc, i)) continue;
        uids[n] = CONV_FIRST_UID + i;
        pointers[n++] = operands[i];
    }
    bound_pack *b = &r->packs[r->n_packs];
    *b = (bound_pack){.workspace = workspace};
    memcpy(b->operands, operands, sizeof b->operands);
    cudnnStatus_t made = api->descriptor_create(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &b->pack);
    if (made == CUDNN_STATUS_SUCCESS)
        made = api->descriptor_set(b->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uids);
    if (made == CUDNN_STATUS_SUCCESS)
        made = api->descriptor_set(b->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n,
                                   pointers);
    if (made == CUDNN_STATUS_SUCCESS)
        made = api->descriptor_set(b->pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1,
                                   &workspace);
    if (made == CUDNN_STATUS_SUCCESS) made = api->descriptor_finalize(b->pack);
    CHECK(made == CUDNN_STATUS_SUCCESS, "cuDNN refuses the pointers of a convolution (status %d)", (int)made);
    r->n_packs++;
    return b->pack;
}

/* The product's matrices among the operands. */
static lt_operands product_operands(const conv_desc *d, void *const operands[CONV_OPERANDS]) {
    lt_operands o = {.bias = operands[CONV_BIAS], .addend = operands[CONV_ADDEND]};
    o.a = d->direction == CONV_FORWARD ? operands[CONV_X] : operands[CONV_Y];
    o.b = d->direction == CONV_WGRAD ? operands[CONV_X] : operands[CONV_W];
    o.d = operands[conv_desc_output(d)];
    return o;
}

static bool launch(routine *r, void *const operands[CONV_OPERANDS], void *workspace, cudaStream_t stream) {
    if (r->kind == ROUTINE_LT) {
        lt_operands o = product_operands(&r->desc, operands);
        return lt_product_run(&r->product, library.lt_handle, &o, workspace, stream);
    }
    cudnnBackendDescriptor_t pack = pack_of(r, operands, workspace);
    return library.cudnn->set_stream(library.handle, stream) == CUDNN_STATUS_SUCCESS &&
           library.cudnn->execute(library.handle, r->plan.plan, pack) == CUDNN_STATUS_SUCCESS;
}

/* Milliseconds of the fastest of some runs; negative: it does not run. */
static double time_routine(routine *r, void *const operands[CONV_OPERANDS], void *workspace,
                           cudaStream_t stream) {
    cudaEvent_t start = NULL, stop = NULL;
    double best = -1.0;
    bool ready = cudaEventCreate(&start) == cudaSuccess && cudaEventCreate(&stop) == cudaSuccess;
    for (int i = 0; ready && i <= TIMED_RUNS; i++) { /* the first one warms up */
        float milliseconds = 0.0f;
        bool ran = cudaEventRecord(start, stream) == cudaSuccess && launch(r, operands, workspace, stream) &&
                   cudaEventRecord(stop, stream) == cudaSuccess &&
                   cudaEventSynchronize(stop) == cudaSuccess &&
                   cudaEventElapsedTime(&milliseconds, start, stop) == cudaSuccess;
        if (!ran) {
            best = -1.0;
            break;
        }
        if (i > 0 && (best < 0 || milliseconds < best)) best = milliseconds;
    }
    if (start) cudaEventDestroy(start);
    if (stop) cudaEventDestroy(stop);
    return best;
}

/* ---- choosing ------------------------------------------------------------------------------------------- */

static lt_desc product_of(const conv_desc *d) {
    int64_t pixels = d->n * d->h * d->w;
    lt_desc p = {.m = pixels,
                 .n = d->k,
                 .k = d->c,
                 .storage = d->storage,
                 .output = d->output,
                 .tf32 = d->tf32,
                 .bias = d->bias,
                 .addend = d->addend,
                 .relu = d->relu,
                 .transposed_b = d->direction == CONV_FORWARD,
                 .workspace = conv_desc_workspace(d)};
    if (p.workspace > LT_WORKSPACE) p.workspace = LT_WORKSPACE;
    if (d->direction == CONV_DGRAD) {
        p.n = d->c;
        p.k = d->k;
    }
    if (d->direction == CONV_WGRAD) {
        p.m = d->k;
        p.n = d->c;
        p.k = pixels;
        p.transposed_a = true;
    }
    return p;
}

static bool make_product(routine *r) {
    if (!library.lt || !conv_desc_is_product(&r->desc)) return false;
    lt_desc p = product_of(&r->desc);
    if (lt_product_init(&r->product, library.lt, library.lt_handle, &p) == STATUS_OK) return true;
    lt_product_release(&r->product);
    return false;
}

static int make_plans(routine *r, conv_plan *plans, int capacity) {
    conv_plan_counts counts;
    conv_limits limits = {.workspace = (int64_t)conv_desc_workspace(&r->desc), .deterministic = true};
    if (!library.cudnn || !conv_desc_is_asked(&r->desc)) return 0;
    if (conv_graph_init(&r->graph, library.cudnn, library.handle, &r->desc) != STATUS_OK) {
        conv_graph_release(&r->graph);
        return 0;
    }
    return conv_plans_find(plans, capacity, &counts, &library.target, &r->graph, &r->desc, &limits);
}

static void keep_choice(const routine *r, double milliseconds) {
    if (!library.cache.title[0]) return;
    char key[CONV_KEY_SIZE], mark[LT_MARK_SIZE], *json = NULL;
    conv_desc_key(key, &r->desc);
    snprintf(mark, sizeof mark, LT_MARK "%d", r->product.chosen);
    if (r->kind == ROUTINE_CUDNN) json = conv_plan_json(&library.target, &r->plan);
    if (r->kind == ROUTINE_LT || json)
        plan_cache_put(&library.cache, key, json ? json : mark,
                       r->kind == ROUTINE_CUDNN ? r->plan.workspace : 0, milliseconds);
    free(json);
    if (++library.unsaved >= SAVE_AFTER) save_cache();
}

/* As kept from an earlier run. */
static bool restore(routine *r) {
    char key[CONV_KEY_SIZE];
    const plan_record *kept = plan_cache_find(&library.cache, conv_desc_key(key, &r->desc));
    if (!kept || kept->workspace > (int64_t)conv_desc_workspace(&r->desc)) return false;
    if (strncmp(kept->json, LT_MARK, strlen(LT_MARK)) == 0) {
        int rank = atoi(kept->json + strlen(LT_MARK));
        if (!make_product(r)) return false;
        r->kind = ROUTINE_LT;
        if (rank >= 0 && rank < r->product.n_algorithms) r->product.chosen = rank;
        return true;
    }
    if (!library.cudnn || !conv_desc_is_asked(&r->desc)) return false;
    if (conv_plan_from_json(&r->plan, &library.target, kept->json) == STATUS_OK &&
        r->plan.workspace <= (int64_t)conv_desc_workspace(&r->desc)) {
        r->kind = ROUTINE_CUDNN;
        return true;
    }
    conv_plan_release(&library.target, &r->plan);
    plan_cache_remove(&library.cache, key);
    return false;
}

/* What the heuristics put first; a product of matrices goes to cublasLt. */
static void choose_untimed(routine *r) {
    if (make_product(r))
        r->kind = ROUTINE_LT;
    else if (make_plans(r, &r->plan, 1) == 1)
        r->kind = ROUTINE_CUDNN;
}

/* The fastest of all. */
static void choose_timed(routine *r, void *const operands[CONV_OPERANDS], void *workspace,
                         cudaStream_t stream) {
    conv_plan plans[TUNED_PLANS];
    int n = make_plans(r, plans, TUNED_PLANS), best_plan = -1, best_algorithm = -1;
    double best = -1.0;
    r->kind = ROUTINE_CUDNN;
    for (int i = 0; i < n; i++) {
        r->plan = plans[i];
        double milliseconds = time_routine(r, operands, workspace, stream);
        if (milliseconds < 0 || (best >= 0 && milliseconds >= best)) continue;
        best = milliseconds;
        best_plan = i;
    }
    r->kind = ROUTINE_LT;
    bool has_product = make_product(r);
    for (int i = 0; has_product && i < r->product.n_algorithms; i++) {
        r->product.chosen = i;
        double milliseconds = time_routine(r, operands, workspace, stream);
        if (milliseconds < 0 || (best >= 0 && milliseconds >= best)) continue;
        best = milliseconds;
        best_algorithm = i;
    }
    if (best_algorithm >= 0) best_plan = -1;
    for (int i = 0; i < n; i++)
        if (i != best_plan) conv_plan_release(&library.target, &plans[i]);
    r->plan = best_plan >= 0 ? plans[best_plan] : (conv_plan){0};
    r->plan.milliseconds = best;
    r->product.chosen = best_algorithm;
    r->kind = best_algorithm >= 0 ? ROUTINE_LT : best_plan >= 0 ? ROUTINE_CUDNN : ROUTINE_NONE;
    if (r->kind != ROUTINE_LT && has_product) lt_product_release(&r->product);
    if (r->kind != ROUTINE_NONE) keep_choice(r, best);
}

/* ---- the table ------------------------------------------------------------------------------------------ */

static size_t hash_of(const conv_desc *d) {
    const int64_t parts[] = {d->direction, d->n,    d->h,      d->w,   d->c,        d->k,
                             d->r,         d->s,    d->stride, d->pad, d->dilation, d->storage,
                             d->output,    d->bias, d->addend, d->relu};
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        hash = (hash ^ (uint64_t)parts[i]) * 1099511628211u;
    return (size_t)(hash ^ hash >> 32);
}

static routine **slot_of(const conv_desc *d) {
    size_t i = hash_of(d) & (library.n_slots - 1);
    while (library.routines[i] && !conv_desc_equal(&library.routines[i]->desc, d))
        i = (i + 1) & (library.n_slots - 1);
    return &library.routines[i];
}

static void grow_table(void) {
    size_t old_slots = library.n_slots;
    routine **old = library.routines;
    library.n_slots = old_slots ? 2 * old_slots : 1024;
    library.routines = calloc(library.n_slots, sizeof(routine *));
    CHECK(library.routines, "out of memory for %zu routines", library.n_slots);
    for (size_t i = 0; i < old_slots; i++)
        if (old[i]) *slot_of(&old[i]->desc) = old[i];
    free(old);
}

/* The routine of a description; something is chosen for it if anything can compute it. */
static routine *routine_of(const conv_desc *d) {
    open_once();
    if (2 * library.n_routines >= library.n_slots) grow_table();
    routine **slot = slot_of(d);
    if (*slot) return *slot;
    *slot = calloc(1, sizeof(routine));
    CHECK(*slot, "out of memory for a routine");
    (*slot)->desc = *d;
    library.n_routines++;
    (*slot)->settled = restore(*slot);
    if (!(*slot)->settled) choose_untimed(*slot);
    return *slot;
}

static bool is_aligned(const conv_desc *d, void *const operands[CONV_OPERANDS], const void *workspace) {
    uintptr_t bits = 0;
    for (int i = 0; i < CONV_OPERANDS; i++) {
        if (!conv_desc_has(d, i)) continue;
        if (!operands[i]) return false;
        bits |= (uintptr_t)operands[i];
    }
    return bits % 16 == 0 && (uintptr_t)workspace % OP_SCRATCH_ALIGNMENT == 0;
}

bool library_has(const conv_desc *d, void *const operands[CONV_OPERANDS], const void *workspace) {
    return is_aligned(d, operands, workspace) && routine_of(d)->kind != ROUTINE_NONE;
}

void library_run(const conv_desc *d, void *const operands[CONV_OPERANDS], void *workspace,
                 struct device_stream *stream) {
    cudaStream_t queue = (cudaStream_t)stream;
    routine *r = routine_of(d);
    CHECK(r->kind != ROUTINE_NONE && is_aligned(d, operands, workspace), "library_run without library_has");
    if (library.tuning && !r->settled) {
        clear_routine(r);
        choose_timed(r, operands, workspace, queue);
        r->settled = true;
        if (r->kind == ROUTINE_NONE) return; /* nothing runs: from now on library_has says so */
    }
    char key[CONV_KEY_SIZE];
    CHECK(launch(r, operands, workspace, queue), "%s failed to start on the GPU", conv_desc_key(key, d));
}
