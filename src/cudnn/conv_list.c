#include "cudnn/conv_list.h"

#include "base/check.h"
#include "cudnn/conv_calls.h"

#include <stdlib.h>

static void add(conv_list *list, const conv_desc *d) {
    for (int i = 0; i < list->count; i++)
        if (conv_desc_equal(&list->descs[i], d)) return;
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 256;
        list->descs = realloc(list->descs, (size_t)list->capacity * sizeof *list->descs);
        CHECK(list->descs, "out of memory for %d convolutions", list->capacity);
    }
    list->descs[list->count++] = *d;
}

static void add_part(conv_list *list, const op_call *call, conv_part part, dtype storage, bool tf32) {
    conv_desc d;
    if (!conv_call_describe(&d, call, part, storage)) return;
    d.tf32 = tf32 && storage == DTYPE_F32;
    if (part == CONV_OF_D_WEIGHT) d.output = storage;
    if (conv_desc_is_asked(&d)) add(list, &d);
    d = conv_desc_plain(&d);
    if (conv_desc_is_asked(&d)) add(list, &d);
}

void conv_list_add_tape(conv_list *list, const tape *t, dtype storage, bool tf32) {
    enum { X, WEIGHT };
    for (int i = 0; i < tape_op_count(t); i++) {
        bool backward;
        const op_call *call = tape_call(t, i, &backward);
        add_part(list, call, CONV_OF_OUTPUT, storage, tf32);
        if (!backward) continue;
        if (call->d_in[X]) add_part(list, call, CONV_OF_D_X, storage, tf32);
        if (call->d_in[WEIGHT]) add_part(list, call, CONV_OF_D_WEIGHT, storage, tf32);
    }
}

void conv_list_release(conv_list *list) {
    free(list->descs);
    *list = (conv_list){0};
}

bool conv_list_plan(plan_cache *cache, conv_plan_counts *counts, const cudnn_target *target,
                    const conv_desc *d) {
    conv_graph graph;
    conv_plan plan;
    conv_limits limits = {.workspace = (int64_t)conv_desc_workspace(d), .deterministic = true};
    *counts = (conv_plan_counts){0};
    char *json = NULL, key[CONV_KEY_SIZE];
    if (conv_graph_init(&graph, target->api, target->handle, d) == STATUS_OK &&
        conv_plans_find(&plan, 1, counts, target, &graph, d, &limits) == 1) {
        json = conv_plan_json(target, &plan);
        if (json) plan_cache_put(cache, conv_desc_key(key, d), json, plan.workspace, plan.milliseconds);
        conv_plan_release(target, &plan);
    }
    conv_graph_release(&graph);
    bool is_kept = json != NULL;
    free(json);
    return is_kept;
}
