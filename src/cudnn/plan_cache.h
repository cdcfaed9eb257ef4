/* Execution plans on disk: one text file for each version of cuDNN and kind of GPU, so that the second run need not search.
 *
 * The first line names what the plans are for; every other one is a plan: key, workspace in bytes, milliseconds (negative:
 * not measured), cuDNN's JSON, CRC-32C of the line before it, between tabs. A file that is damaged or for something else is
 * ignored as a whole, with a warning. */
#ifndef CUDNN_PLAN_CACHE_H
#define CUDNN_PLAN_CACHE_H

#include "cudnn/conv_plans.h"

#include <limits.h>

typedef struct plan_record {
    char *key, *json; /* own lines; no tabs in them */
    int64_t workspace;
    double milliseconds;
} plan_record;

typedef struct plan_cache {
    char path[PATH_MAX];
    char title[160];      /* first line */
    plan_record *records; /* sorted by key */
    int count, capacity;
    bool changed;
} plan_cache;

/* The cache of this target in a folder, with what its file holds. CANT_CREATE: the path is too long. Release in any
 * case. */
status plan_cache_open(plan_cache *cache, const char *folder, const cudnn_target *target);

/* The same for a file's bytes, as far as they are right: true, or false with the reason in error_cause() and an empty
 * cache. `cache->title` says what to expect. */
bool plan_cache_parse(plan_cache *cache, const char *text, size_t size);

/* NULL: none of this key. */
const plan_record *plan_cache_find(const plan_cache *cache, const char *key);

/* Puts a copy in, also in the place of one that is there. */
void plan_cache_put(plan_cache *cache, const char *key, const char *json, int64_t workspace,
                    double milliseconds);

/* Drops a plan that cuDNN does not take. */
void plan_cache_remove(plan_cache *cache, const char *key);

/* Writes the file, and its folder, if anything changed. Ranks of one host may do so at the same time: the file's lock keeps
 * them apart, and what others wrote since is kept where this cache has nothing of that key. CANT_CREATE, IO... */
status plan_cache_save(plan_cache *cache);

void plan_cache_release(plan_cache *cache);

#endif
