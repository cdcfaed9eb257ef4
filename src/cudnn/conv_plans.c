#include "cudnn/conv_plans.h"

#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef cudnnBackendDescriptor_t descriptor;

enum { MAX_CONFIGS = 64, MAX_JSON = 1 << 20 };

/* ---- the target ----------------------------------------------------------------------------------------- */

static status target_failed(const cudnn_api *api, status code, const char *remedy, const char *what) {
    char message[256] = "";
    api->get_last_error(message, sizeof message);
    return error_set(code, remedy, "cuDNN: %s: %s", what, message);
}

/* An attribute of type CHAR; NULL: none. free() it. */
static char *get_text(const cudnn_api *api, descriptor from, cudnnBackendAttributeName_t name) {
    int64_t size = 0;
    if (api->descriptor_get(from, name, CUDNN_TYPE_CHAR, 0, &size, NULL) != CUDNN_STATUS_SUCCESS) return NULL;
    if (size <= 0 || size > MAX_JSON) return NULL;
    char *text = malloc((size_t)size + 1);
    CHECK(text, "out of memory for %lld bytes of JSON", (long long)size);
    int64_t got = 0;
    if (api->descriptor_get(from, name, CUDNN_TYPE_CHAR, size, &got, text) != CUDNN_STATUS_SUCCESS ||
        got < 0 || got > size) {
        free(text);
        return NULL;
    }
    text[got] = '\0';
    return text;
}

/* The place behind `"key" :` in flat JSON; NULL: it is not there. */
static const char *json_value(const char *json, const char *key) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *at = strstr(json, quoted);
    if (!at) return NULL;
    at += strlen(quoted);
    at += strspn(at, " \t\r\n");
    if (*at != ':') return NULL;
    return at + 1 + strspn(at + 1, " \t\r\n");
}

/* Name and capability, for file names: letters, digits, and '_' for all else in the name. */
static status read_identity(cudnn_target *target, const char *json) {
    const char *name = json_value(json, "deviceName"), *capability = json_value(json, "deviceVer");
    if (!name || *name != '"' || !capability || atoi(capability) <= 0 || atoi(capability) > 99999)
        return error_set(STATUS_DATA, "give the JSON that cuDNN writes of a GPU's properties",
                         "the description of the GPU lacks deviceName or deviceVer");
    size_t length = strcspn(name + 1, "\"");
    snprintf(target->name, sizeof target->name, "%.*s", (int)(length < 63 ? length : 63), name + 1);
    for (char *c = target->name; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127) *c = ' ';
    target->capability = atoi(capability) / 10;
    return STATUS_OK;
}

status cudnn_target_from_json(cudnn_target *target, const cudnn_api *api, const char *json) {
    static const char remedy[] = "give the JSON that cuDNN writes of a GPU's properties";
    *target = (cudnn_target){.api = api, .version = api->get_version()};
    RETURN_IF_ERROR(read_identity(target, json));
    if (api->descriptor_create(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &target->device) != CUDNN_STATUS_SUCCESS)
        return target_failed(api, STATUS_NO_DEVICE, NULL, "no description of a GPU");
    if (api->descriptor_set(target->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                            (int64_t)strlen(json), json) != CUDNN_STATUS_SUCCESS ||
        api->descriptor_finalize(target->device) != CUDNN_STATUS_SUCCESS)
        return target_failed(api, STATUS_DATA, remedy, "the description of the GPU is refused");
    return STATUS_OK;
}

status cudnn_target_from_handle(cudnn_target *target, const cudnn_api *api, cudnnHandle_t handle) {
    *target = (cudnn_target){.api = api, .handle = handle, .version = api->get_version()};
    char *json = NULL;
    if (api->descriptor_create(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &target->device) ==
            CUDNN_STATUS_SUCCESS &&
        api->descriptor_set(target->device, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle) ==
            CUDNN_STATUS_SUCCESS &&
        api->descriptor_finalize(target->device) == CUDNN_STATUS_SUCCESS)
        json = get_text(api, target->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION);
    if (!json) return target_failed(api, STATUS_NO_DEVICE, NULL, "the GPU's properties cannot be read");
    status s = read_identity(target, json);
    free(json);
    return s;
}

void cudnn_target_release(cudnn_target *target) {
    if (target->device) target->api->descriptor_destroy(target->device);
    *target = (cudnn_target){0};
}

/* ---- candidates ----------------------------------------------------------------------------------------- */

/* Descriptors of the engine configurations that one mode offers, best first. */
static int offered_configs(descriptor configs[MAX_CONFIGS], const cudnn_target *target,
                           const conv_graph *graph, cudnnBackendHeurMode_t mode) {
    const cudnn_api *api = target->api;
    descriptor heuristic = NULL, of = graph->graph;
    int64_t got = 0;
    int made = 0;
    if (api->descriptor_create(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristic) != CUDNN_STATUS_SUCCESS)
        return 0;
    bool ready = api->descriptor_set(heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &of) == CUDNN_STATUS_SUCCESS &&
                 api->descriptor_set(heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode) ==
                     CUDNN_STATUS_SUCCESS;
    if (ready && !target->handle)
        ready =
            api->descriptor_set(heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                &target->device) == CUDNN_STATUS_SUCCESS;
    ready = ready && api->descriptor_finalize(heuristic) == CUDNN_STATUS_SUCCESS;
    while (ready && made < MAX_CONFIGS &&
           api->descriptor_create(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[made]) == CUDNN_STATUS_SUCCESS)
        made++;
    if (ready && api->descriptor_get(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                     made, &got, configs) != CUDNN_STATUS_SUCCESS)
        got = 0;
    if (got > made) got = made;
    for (int i = (int)got; i < made; i++) api->descriptor_destroy(configs[i]);
    api->descriptor_destroy(heuristic);
    return (int)got;
}

/* Notes of an engine as bits: numerical ones, or those on its behaviour. */
static unsigned engine_notes(const cudnn_api *api, descriptor engine, bool numerical) {
    int64_t got = 0;
    unsigned bits = 0;
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendBehaviorNote_t behaviour[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    cudnnStatus_t result =
        numerical ? api->descriptor_get(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                        CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &got, notes)
                  : api->descriptor_get(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                        CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &got, behaviour);
    for (int64_t i = 0; result == CUDNN_STATUS_SUCCESS && i < got; i++)
        bits |= 1u << (numerical ? (unsigned)notes[i] : (unsigned)behaviour[i]);
    return bits;
}

static void read_notes(conv_plan *plan, const cudnn_api *api, descriptor config) {
    descriptor engine = NULL;
    int64_t got = 0;
    if (api->descriptor_create(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS) return;
    if (api->descriptor_get(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &got,
                            &engine) == CUDNN_STATUS_SUCCESS &&
        got == 1) {
        plan->notes = engine_notes(api, engine, true);
        plan->compiled = engine_notes(api, engine, false) >> CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION & 1u;
    }
    api->descriptor_destroy(engine);
}

/* Winograd with tiles beyond 4x4 and sums in less than float lose too many bits for training. */
static bool allows(const conv_desc *d, const conv_limits *limits, unsigned notes) {
    unsigned forbidden = 1u << CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION |
                         1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 |
                         1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13;
    if (limits->deterministic) forbidden |= 1u << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    if (d->storage == DTYPE_F32 && !d->tf32)
        forbidden |= 1u << CUDNN_NUMERICAL_NOTE_TENSOR_CORE | 1u << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    return (notes & forbidden) == 0;
}

static bool read_workspace(const cudnn_api *api, conv_plan *plan) {
    int64_t got = 0;
    return api->descriptor_get(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                               &got, &plan->workspace) == CUDNN_STATUS_SUCCESS &&
           plan->workspace >= 0;
}

static bool make_plan(conv_plan *plan, const cudnn_target *target, descriptor config) {
    const cudnn_api *api = target->api;
    if (api->descriptor_create(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan->plan) != CUDNN_STATUS_SUCCESS)
        return false;
    bool made = api->descriptor_set(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config) == CUDNN_STATUS_SUCCESS;
    cudnnHandle_t handle = target->handle;
    if (made && handle) /* a plan is finalized for one or the other */
        made = api->descriptor_set(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1,
                                   &handle) == CUDNN_STATUS_SUCCESS;
    else if (made)
        made = api->descriptor_set(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP,
                                   CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &target->device) == CUDNN_STATUS_SUCCESS;
    return made && api->descriptor_finalize(plan->plan) == CUDNN_STATUS_SUCCESS && read_workspace(api, plan);
}

/* Adds the plan of one configuration, or counts why not. */
static int try_config(conv_plan *plan, conv_plan_counts *counts, const cudnn_target *target,
                      descriptor config, const conv_desc *d, const conv_limits *limits) {
    *plan = (conv_plan){.milliseconds = -1.0};
    counts->candidates++;
    read_notes(plan, target->api, config);
    int *reason = NULL;
    if (!allows(d, limits, plan->notes))
        reason = &counts->filtered;
    else if (!make_plan(plan, target, config))
        reason = &counts->refused;
    else if (plan->workspace > limits->workspace)
        reason = &counts->too_large;
    if (!reason) return 1;
    ++*reason;
    conv_plan_release(target, plan);
    return 0;
}

int conv_plans_find(conv_plan *plans, int capacity, conv_plan_counts *counts, const cudnn_target *target,
                    const conv_graph *graph, const conv_desc *d, const conv_limits *limits) {
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B,
                                                   CUDNN_HEUR_MODE_FALLBACK};
    *counts = (conv_plan_counts){0};
    int found = 0;
    for (int m = 0; m < 3 && found < capacity; m++) {
        descriptor configs[MAX_CONFIGS];
        int n = offered_configs(configs, target, graph, modes[m]);
        for (int i = 0; i < n; i++) {
            if (found < capacity) found += try_config(&plans[found], counts, target, configs[i], d, limits);
            target->api->descriptor_destroy(configs[i]);
        }
    }
    return found;
}

/* ---- keeping -------------------------------------------------------------------------------------------- */

char *conv_plan_json(const cudnn_target *target, const conv_plan *plan) {
    char *json = get_text(target->api, plan->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
    for (char *c = json; c && *c;
         c++) /* outside of strings, where alone they may stand, these are white space */
        if (*c == '\n' || *c == '\r' || *c == '\t') *c = ' ';
    return json;
}

status conv_plan_from_json(conv_plan *plan, const cudnn_target *target, const char *json) {
    const cudnn_api *api = target->api;
    cudnnHandle_t handle = target->handle;
    *plan = (conv_plan){.milliseconds = -1.0};
    if (api->descriptor_create(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan->plan) ==
            CUDNN_STATUS_SUCCESS &&
        api->descriptor_set(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle) ==
            CUDNN_STATUS_SUCCESS &&
        api->descriptor_set(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                            (int64_t)strlen(json), json) == CUDNN_STATUS_SUCCESS &&
        api->descriptor_finalize(plan->plan) == CUDNN_STATUS_SUCCESS && read_workspace(api, plan))
        return STATUS_OK;
    status s = target_failed(api, STATUS_NO_DEVICE, "remove the plan cache", "a kept plan is refused");
    conv_plan_release(target, plan);
    return s;
}

void conv_plan_release(const cudnn_target *target, conv_plan *plan) {
    if (plan->plan) target->api->descriptor_destroy(plan->plan);
    *plan = (conv_plan){0};
}

const char *conv_plan_notes_text(char text[128], const conv_plan *plan) {
    static const char *const names[CUDNN_NUMERICAL_NOTE_TYPE_COUNT] = {
        "tensor-core",  "down-converts", "reduced-sums",   "fft",       "nondeterministic", "winograd",
        "winograd-4x4", "winograd-6x6",  "winograd-13x13", "strict-nan"};
    int used = snprintf(text, 128, "%s", plan->compiled ? "compiled" : "");
    for (int i = 0; i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++)
        if (plan->notes >> i & 1u)
            used += snprintf(text + used, 128 - (size_t)used, "%s%s", used ? " " : "", names[i]);
    return text;
}
