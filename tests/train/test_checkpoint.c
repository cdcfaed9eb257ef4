/* Checkpoints: exact restore, retention, damage of every kind, and a process killed in the middle of saving. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file_util.h"
#include "base/philox.h"
#include "device/device.h"
#include "train/checkpoint.h"
#include "train/checkpoint_manifest.h"

static device *cpu;
static config cfg;
static param_store store;
static char folder[] = "/tmp/test_checkpoint_XXXXXX";

/* What the values are after an iteration; both buffers, every bit pattern but NaN may occur. */
static float value_after(int64_t iteration, int64_t index) {
    return (float)(iteration * 1000 + index) / 7;
}

static void fill(int64_t iteration) {
    for (int i = 0; i < store.count; i++) {
        const param *p = &store.params[i];
        for (int64_t k = 0; k < p->size; k++) {
            store.values[p->offset + k] = value_after(iteration, 10 * i + k);
            if (p->trainable) store.momentum[p->offset + k] = -value_after(iteration, 10 * i + k);
        }
    }
}

static void assert_filled(int64_t iteration) {
    for (int i = 0; i < store.count; i++) {
        const param *p = &store.params[i];
        for (int64_t k = 0; k < p->size; k++) {
            assert_true(store.values[p->offset + k] == value_after(iteration, 10 * i + k));
            if (p->trainable)
                assert_true(store.momentum[p->offset + k] == -value_after(iteration, 10 * i + k));
        }
    }
}

static checkpoint_state state_after(int64_t iteration) {
    return (checkpoint_state){.iteration = iteration,
                              .images = 16 * (iteration + 1),
                              .skipped_images = 3,
                              .seed = UINT64_C(0xfedcba9876543210),
                              .config_digest = "0123456789abcdef"};
}

static status save_iteration(int64_t iteration, int keep) {
    fill(iteration);
    checkpoint_source source = {.store = &store, .cfg = &cfg, .keep = keep};
    checkpoint_state state = state_after(iteration);
    return checkpoint_save(&source, &state, true);
}

static void assert_latest_is(int64_t iteration) {
    char path[PATH_MAX];
    assert_int_equal(checkpoint_find_latest(path, cfg.OUTPUT_DIR), STATUS_OK);
    assert_string_not_equal(path, "");
    fill(-1);
    checkpoint_state state;
    if (checkpoint_load(&store, &state, path, &cfg, NULL) != STATUS_OK) fail_msg("%s", error_cause());
    assert_int_equal(state.iteration, iteration);
    checkpoint_state expected = state_after(iteration);
    assert_int_equal(state.images, expected.images);
    assert_int_equal(state.skipped_images, expected.skipped_images);
    assert_true(state.seed == expected.seed);
    assert_string_equal(state.config_digest, expected.config_digest);
    assert_filled(iteration);
}

static int count_entries(const char *path, const char *start) {
    DIR *dir = opendir(path);
    assert_non_null(dir);
    int count = 0;
    for (struct dirent *e; (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            count += strncmp(e->d_name, start, strlen(start)) == 0;
    closedir(dir);
    return count;
}

static void run(const char *command) {
    assert_int_equal(system(command), 0);
}

/* Every test starts with an empty output folder. */
static int empty_output(void **state) {
    (void)state;
    run("rm -rf out && mkdir out");
    return checkpoint_prepare("out") == STATUS_OK ? 0 : -1;
}

static void restores_every_bit(void **state) {
    (void)state;
    char path[PATH_MAX];
    assert_int_equal(checkpoint_find_latest(path, "out"), STATUS_OK);
    assert_string_equal(path, "");
    assert_int_equal(save_iteration(499, 0), STATUS_OK);
    assert_latest_is(499);
    assert_int_equal(checkpoint_find_latest(path, "out"), STATUS_OK);
    assert_string_equal(path, "out/checkpoints/iter_0000499");
    char *text;
    size_t size;
    assert_int_equal(read_file(&text, &size, "out/last_checkpoint", 100), STATUS_OK);
    assert_string_equal(text, "checkpoints/iter_0000499\n");
    free(text);
    assert_int_equal(count_entries("out/checkpoints", ""), 1);
    assert_int_equal(count_entries("out/checkpoints/iter_0000499", ""), 4);
    /* A second save of the same iteration takes the place of the first. */
    assert_int_equal(save_iteration(499, 0), STATUS_OK);
    assert_int_equal(count_entries("out/checkpoints", ""), 1);
    assert_latest_is(499);
}

static void keeps_the_newest(void **state) {
    (void)state;
    assert_int_equal(save_iteration(99, 0), STATUS_OK);
    for (int i = 0; i < 5; i++) assert_int_equal(save_iteration(i, 2), STATUS_OK);
    /* 99 is of a later run: not this one's to remove. */
    assert_int_equal(count_entries("out/checkpoints", ""), 3);
    assert_int_equal(access("out/checkpoints/iter_0000003", F_OK), 0);
    assert_int_equal(access("out/checkpoints/iter_0000004", F_OK), 0);
    assert_latest_is(99);
    run("rm -r out/checkpoints/iter_0000099");
    assert_latest_is(4);
}

static void keeps_the_best(void **state) {
    (void)state;
    checkpoint_source source = {.store = &store, .cfg = &cfg, .keep = 2};
    checkpoint_best best = {.number = "bbox/AP50", .value = 0.1 + 0.2, .iteration = 1};
    for (int i = 0; i < 6; i++) {
        checkpoint_state now = state_after(i);
        now.best = best;
        now.best.since = i;
        assert_int_equal(checkpoint_save(&source, &now, true), STATUS_OK);
    }
    assert_int_equal(count_entries("out/checkpoints", ""), 3);
    assert_int_equal(access("out/checkpoints/iter_0000001", F_OK), 0);
    checkpoint_state last;
    assert_int_equal(checkpoint_read_state(&last, "out/checkpoints/iter_0000005"), STATUS_OK);
    assert_string_equal(last.best.number, best.number);
    assert_true(last.best.value == best.value); /* every bit */
    assert_int_equal(last.best.iteration, 1);
    assert_int_equal(last.best.since, 5);
    /* One of a run that does not evaluate; then one that says half of it. */
    assert_int_equal(save_iteration(6, 2), STATUS_OK);
    assert_int_equal(checkpoint_read_state(&last, "out/checkpoints/iter_0000006"), STATUS_OK);
    assert_string_equal(last.best.number, "");
    assert_int_equal(last.best.iteration, -1);
    run("sed -i 's/\"best_value\": [0-9.e-]*, //' out/checkpoints/iter_0000005/state.json");
    assert_int_equal(checkpoint_read_state(&last, "out/checkpoints/iter_0000005"), STATUS_DATA);
}

static void cleans_up_after_itself_only(void **state) {
    (void)state;
    run("mkdir out/checkpoints/.tmp_maskrcnn_iter_0000007 out/checkpoints/.tmp_other "
        "out/checkpoints/.tmp_maskrcnn_mine");
    run("cd out/checkpoints/.tmp_maskrcnn_iter_0000007 && touch weights.safetensors.part "
        "momentum.safetensors state.json manifest.json.part");
    run("touch out/checkpoints/.tmp_maskrcnn_mine/thesis.tex out/checkpoints/.tmp_other/a "
        "out/checkpoints/iter_12");
    assert_int_equal(checkpoint_prepare("out"), STATUS_OK);
    assert_int_not_equal(access("out/checkpoints/.tmp_maskrcnn_iter_0000007", F_OK), 0);
    assert_int_equal(access("out/checkpoints/.tmp_maskrcnn_mine/thesis.tex", F_OK), 0);
    assert_int_equal(access("out/checkpoints/.tmp_other/a", F_OK), 0);
    assert_int_equal(save_iteration(1, 1), STATUS_OK);
    assert_latest_is(1);
}

static void write_bytes(const char *path, const char *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* Single flipped bits anywhere and cuts anywhere are found; in a tensor's data, the tensor is named. */
static void finds_every_damage(void **state) {
    (void)state;
    assert_int_equal(save_iteration(3, 0), STATUS_OK);
    static const char *const names[] = {"weights.safetensors", "momentum.safetensors", "state.json",
                                        "manifest.json"};
    const char *base = "out/checkpoints/iter_0000003";
    philox_key key = {.seed = 4, .purpose = PHILOX_TEST};
    for (uint32_t n = 0; n < 4; n++) {
        char path[PATH_MAX], *bytes;
        size_t size;
        snprintf(path, sizeof path, "%s/%s", base, names[n]);
        assert_int_equal(read_file(&bytes, &size, path, 1 << 20), STATUS_OK);
        key.step = n;
        for (uint32_t trial = 0; trial < 1000; trial++) {
            uint32_t at = philox_below(&key, 2 * trial, (uint32_t)size),
                     bit = philox_below(&key, 2 * trial + 1, 8);
            bytes[at] = (char)(bytes[at] ^ 1 << bit);
            write_bytes(path, bytes, size);
            assert_int_equal(checkpoint_verify(base), STATUS_DATA);
            assert_non_null(strstr(error_cause(), names[n]));
            if (n < 2 && at >= size - 8) assert_non_null(strstr(error_cause(), "tensor "));
            bytes[at] = (char)(bytes[at] ^ 1 << bit);
        }
        for (size_t cut = 0; cut < size; cut += 7) {
            write_bytes(path, bytes, cut);
            assert_int_equal(checkpoint_verify(base), STATUS_DATA);
            assert_non_null(strstr(error_cause(), names[n]));
        }
        unlink(path);
        assert_int_equal(checkpoint_verify(base), STATUS_NO_INPUT);
        write_bytes(path, bytes, size);
        assert_int_equal(checkpoint_verify(base), STATUS_OK);
        free(bytes);
    }
}

static void falls_back_to_an_older_one(void **state) {
    (void)state;
    for (int i = 1; i <= 3; i++) assert_int_equal(save_iteration(i, 0), STATUS_OK);
    assert_latest_is(3);
    run("truncate -s -1 out/checkpoints/iter_0000003/momentum.safetensors");
    assert_latest_is(2);
    run("rm out/checkpoints/iter_0000002/manifest.json");
    assert_latest_is(1);
    /* With the damaged newer ones still there, going on from 1 keeps what it saves. */
    assert_int_equal(save_iteration(2, 1), STATUS_OK);
    assert_latest_is(2);
    run("printf x >> out/checkpoints/iter_0000002/state.json");
    char path[PATH_MAX];
    assert_int_equal(checkpoint_find_latest(path, "out"), STATUS_DATA);
    assert_string_equal(path, "");
    assert_non_null(strstr(error_cause(), "none of the 2 checkpoints"));
}

static void other_models_are_refused(void **state) {
    (void)state;
    assert_int_equal(save_iteration(1, 0), STATUS_OK);
    param_store other;
    param_store_init(&other);
    for (int i = 0; i < store.count; i++) {
        param p = store.params[i];
        param_spec spec = {
            .name = p.name, .kind = p.kind, .layout = p.layout, .rank = p.rank, .trainable = p.trainable};
        memcpy(spec.shape, p.shape, sizeof p.shape);
        if (i == 1) spec.shape[0]++; /* a predictor: exact all the same */
        param_store_add(&other, &spec);
    }
    assert_int_equal(param_store_allocate(&other, cpu, NULL, true), STATUS_OK);
    checkpoint_state loaded;
    assert_int_equal(checkpoint_load(&other, &loaded, "out/checkpoints/iter_0000001", &cfg, NULL),
                     STATUS_DATA);
    assert_non_null(strstr(
        error_cause(), "roi_heads.box_predictor.cls_score.weight has shape [3, 5] in the file, but [4, 5]"));
    param_store_release(&other);
}

/* A full disk is played by a limit on file sizes. */
static void failed_save_leaves_the_older_ones(void **state) {
    (void)state;
    assert_int_equal(save_iteration(1, 1), STATUS_OK);
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < 5; i++) {
        /* One byte too few for each file of the checkpoint, and none at all. */
        char path[PATH_MAX];
        struct stat info = {.st_size = 1};
        snprintf(path, sizeof path, "out/checkpoints/iter_0000001/%s",
                 i < 3 ? checkpoint_files[i] : "manifest.json");
        if (i < 4) assert_int_equal(stat(path, &info), 0);
        small.rlim_cur = (rlim_t)info.st_size - 1;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        status final = save_iteration(2, 1);
        checkpoint_source source = {.store = &store, .cfg = &cfg, .keep = 1};
        checkpoint_state after = state_after(2);
        status periodic = checkpoint_save(&source, &after, false);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(final, STATUS_IO);
        assert_int_equal(periodic, STATUS_OK);
        assert_int_equal(count_entries("out/checkpoints", ""), 1);
        assert_latest_is(1);
    }
    signal(SIGXFSZ, handler);
}

/* A child saves iteration after iteration and is killed at a random moment. Whatever it left, the next start
 * finds a checkpoint at least as new as the last one the child reported, cleans up, and can save again. */
static void survives_being_killed(void **state) {
    (void)state;
    philox_key key = {.seed = 5, .purpose = PHILOX_TEST};
    int64_t next = 1;
    assert_int_equal(save_iteration(0, 2), STATUS_OK);
    for (uint32_t trial = 0; trial < 40; trial++) {
        int report[2];
        assert_int_equal(pipe(report), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            if (!freopen("/dev/null", "w", stdout)) _exit(2);
            for (int64_t i = next;; i++) {
                if (save_iteration(i, 2) != STATUS_OK) _exit(1);
                if (write(report[1], &i, sizeof i) != sizeof i) _exit(1);
            }
        }
        close(report[1]);
        int64_t reported = next - 1;
        /* At least one save, so that it is not always the first that is hit; then up to 6 ms more. */
        assert_int_equal(read(report[0], &reported, sizeof reported), sizeof reported);
        struct timespec pause = {.tv_nsec = (long)philox_below(&key, trial, 6000000)};
        nanosleep(&pause, NULL);
        assert_int_equal(kill(child, SIGKILL), 0);
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how));
        while (read(report[0], &reported, sizeof reported) == sizeof reported) continue;
        close(report[0]);

        assert_int_equal(checkpoint_prepare("out"), STATUS_OK);
        assert_int_equal(count_entries("out/checkpoints", "."), 0);
        char path[PATH_MAX];
        assert_int_equal(checkpoint_find_latest(path, "out"), STATUS_OK);
        checkpoint_state found;
        assert_int_equal(checkpoint_load(&store, &found, path, &cfg, NULL), STATUS_OK);
        assert_true(found.iteration >= reported);
        assert_filled(found.iteration);
        next = found.iteration + 1;
    }
}

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder) || chdir(folder) != 0) return -1;
    if (device_open(&cpu, "cpu") != STATUS_OK || config_default(&cfg) != STATUS_OK) return -1;
    if (config_set(&cfg, "OUTPUT_DIR", "out") != STATUS_OK) return -1;
    const param_spec specs[] = {
        {.name = "backbone.body.conv1.weight",
         .kind = PARAM_WEIGHT,
         .layout = LAYOUT_CONV,
         .rank = 4,
         .shape = {2, 3, 3, 4}},
        {.name = "roi_heads.box_predictor.cls_score.weight",
         .kind = PARAM_WEIGHT,
         .rank = 2,
         .shape = {3, 5},
         .trainable = true},
        {.name = "roi_heads.box_predictor.cls_score.bias",
         .kind = PARAM_BIAS,
         .rank = 1,
         .shape = {3},
         .trainable = true},
        {.name = "backbone.body.bn1.running_var", .kind = PARAM_BUFFER, .rank = 1, .shape = {2}},
    };
    param_store_init(&store);
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) param_store_add(&store, &specs[i]);
    return param_store_allocate(&store, cpu, NULL, true) == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    param_store_release(&store);
    config_release(&cfg);
    device_close(cpu);
    run("rm -rf out");
    return chdir("/") == 0 ? rmdir(folder) : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(restores_every_bit, empty_output),
        cmocka_unit_test_setup(keeps_the_newest, empty_output),
        cmocka_unit_test_setup(keeps_the_best, empty_output),
        cmocka_unit_test_setup(cleans_up_after_itself_only, empty_output),
        cmocka_unit_test_setup(finds_every_damage, empty_output),
        cmocka_unit_test_setup(falls_back_to_an_older_one, empty_output),
        cmocka_unit_test_setup(other_models_are_refused, empty_output),
        cmocka_unit_test_setup(failed_save_leaves_the_older_ones, empty_output),
        cmocka_unit_test_setup(survives_being_killed, empty_output),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
