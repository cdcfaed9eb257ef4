/* The plan cache on disk: what is written is read; anything else is refused as a whole, never followed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file_util.h"
#include "base/philox.h"
#include "cudnn/plan_cache.h"

static char folder[] = "/tmp/test_plan_cache_XXXXXX";
static const cudnn_target target = {.name = "NVIDIA \"Test\"/1", .capability = 90, .version = 91900};

static void fill(plan_cache *cache) {
    assert_int_equal(plan_cache_open(cache, folder, &target), STATUS_OK);
    assert_null(strchr(strrchr(cache->path, '/') + 1, '"'));
    plan_cache_put(cache, "wgrad n2", "{\"a\": [1, 2]}", 4096, 0.125);
    plan_cache_put(cache, "forward n2", "{\"b\": 1}", 0, -1.0);
    plan_cache_put(cache, "dgrad n2", "{}", 1, 3.5);
}

static void test_what_is_written_is_read(void **state) {
    (void)state;
    plan_cache cache, again;
    fill(&cache);
    plan_cache_put(&cache, "dgrad n2", "{\"c\": 2}", 2, 3.25);
    plan_cache_remove(&cache, "not there");
    assert_int_equal(plan_cache_save(&cache), STATUS_OK);
    assert_int_equal(plan_cache_open(&again, folder, &target), STATUS_OK);
    assert_int_equal(again.count, 3);
    const plan_record *r = plan_cache_find(&again, "dgrad n2");
    assert_non_null(r);
    assert_string_equal(r->json, "{\"c\": 2}");
    assert_true(r->workspace == 2 && r->milliseconds == 3.25);
    assert_null(plan_cache_find(&again, "dgrad"));
    plan_cache_remove(&again, "dgrad n2");
    assert_null(plan_cache_find(&again, "dgrad n2"));
    assert_int_equal(again.count, 2);
    plan_cache_release(&cache);
    plan_cache_release(&again);
}

/* What another process wrote meanwhile is kept, but not in the place of one's own. */
static void test_two_writers(void **state) {
    (void)state;
    plan_cache a, b;
    assert_int_equal(plan_cache_open(&a, folder, &target), STATUS_OK);
    assert_int_equal(plan_cache_open(&b, folder, &target), STATUS_OK);
    plan_cache_put(&a, "from a", "{}", 1, 1);
    plan_cache_put(&a, "both", "{}", 1, 1);
    plan_cache_put(&b, "both", "{}", 2, 1);
    assert_int_equal(plan_cache_save(&a), STATUS_OK);
    assert_int_equal(plan_cache_save(&b), STATUS_OK);
    plan_cache_release(&a);
    assert_int_equal(plan_cache_open(&a, folder, &target), STATUS_OK);
    assert_non_null(plan_cache_find(&a, "from a"));
    assert_int_equal(plan_cache_find(&a, "both")->workspace, 2);
    plan_cache_release(&a);
    plan_cache_release(&b);
}

static void test_another_gpu_is_refused(void **state) {
    (void)state;
    plan_cache cache;
    char *text;
    size_t size;
    fill(&cache);
    assert_int_equal(plan_cache_save(&cache), STATUS_OK);
    assert_int_equal(read_file(&text, &size, cache.path, 1 << 20), STATUS_OK);
    assert_true(plan_cache_parse(&cache, text, size));
    cache.title[0] = 'M';
    assert_false(plan_cache_parse(&cache, text, size));
    assert_int_equal(cache.count, 0);
    free(text);
    plan_cache_release(&cache);
}

/* Every cut and every changed byte is noticed: a line has its CRC, the first one is compared. */
static void test_damage_is_noticed(void **state) {
    (void)state;
    plan_cache cache;
    char *text;
    size_t size;
    fill(&cache);
    assert_int_equal(plan_cache_save(&cache), STATUS_OK);
    assert_int_equal(read_file(&text, &size, cache.path, 1 << 20), STATUS_OK);
    philox_key key = {.seed = 3, .purpose = PHILOX_TEST};
    for (size_t i = 0; i < size; i++) {
        char *copy = malloc(size);
        assert_non_null(copy);
        memcpy(copy, text, size);
        /* a file that ends with a whole line has fewer plans, and all are right */
        if ((i == 0 || copy[i - 1] != '\n') && plan_cache_parse(&cache, copy, i))
            fail_msg("cut at byte %zu was not noticed", i);
        copy[i] = (char)(copy[i] ^ (1 + (int)(254 * philox_uniform(&key, i))));
        if (plan_cache_parse(&cache, copy, size)) fail_msg("a change of byte %zu was not noticed", i);
        assert_int_equal(cache.count, 0);
        free(copy);
    }
    free(text);
    plan_cache_release(&cache);
}

static void test_a_damaged_file_is_replaced(void **state) {
    (void)state;
    plan_cache cache;
    fill(&cache);
    assert_int_equal(write_file_atomic(cache.path, "rubbish", 7), STATUS_OK);
    plan_cache_release(&cache);
    fill(&cache);
    assert_int_equal(cache.count, 3);
    assert_int_equal(plan_cache_save(&cache), STATUS_OK);
    plan_cache_release(&cache);
    assert_int_equal(plan_cache_open(&cache, folder, &target), STATUS_OK);
    assert_int_equal(cache.count, 3);
    plan_cache_release(&cache);
}

int main(void) {
    if (!mkdtemp(folder)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read), cmocka_unit_test(test_two_writers),
        cmocka_unit_test(test_another_gpu_is_refused), cmocka_unit_test(test_damage_is_noticed),
        cmocka_unit_test(test_a_damaged_file_is_replaced)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char line[64];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    return system(line) != 0 || failed;
}
