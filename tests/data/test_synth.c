/* The synthetic dataset: same bytes for the same arguments, masks that agree with polygons, only folders of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>
#include "base/file_util.h"
#include "data/image_read.h"
#include "data/image_write.h"
#include "data/mask_polygon.h"
#include "data/shared_data.h"
#include "data/synth.h"
#include "data/synth_scene.h"

static char folder[] = "/tmp/test_synth_XXXXXX";

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static void remove_one(const char *path, void *context) {
    (void)context;
    unlink(path);
}

static int remove_folder(void **state) {
    (void)state;
    static const char *const subs[] = {"a/images", "a", "b/images", "b", "foreign", ""};
    for (size_t i = 0; i < sizeof subs / sizeof *subs; i++) {
        char path[PATH_MAX];
        make_path(path, "%s/%s", folder, subs[i]);
        for_each_file(path, "", remove_one, NULL);
        rmdir(path);
    }
    return access(folder, F_OK) == 0;
}

static void must_equal_other(const char *path, void *context) {
    char other[PATH_MAX], *ours, *theirs;
    size_t size, other_size;
    make_path(other, "%s/b%s", folder, path + strlen(folder) + 2);
    assert_int_equal(read_file(&ours, &size, path, 1 << 24), STATUS_OK);
    assert_int_equal(read_file(&theirs, &other_size, other, 1 << 24), STATUS_OK);
    assert_int_equal(size, other_size);
    assert_memory_equal(ours, theirs, size);
    free(ours);
    free(theirs);
    (*(int *)context)++;
}

static int count_text(const char *text, const char *needle) {
    int count = 0;
    for (; (text = strstr(text, needle)); text++) count++;
    return count;
}

static void same_arguments_same_bytes(void **state) {
    (void)state;
    char path[PATH_MAX];
    make_path(path, "%s/a", folder);
    assert_int_equal(synth_dataset(path, 60, 3, NULL), STATUS_OK); /* an earlier, larger one */
    assert_int_equal(synth_dataset(path, 40, 5, NULL), STATUS_OK);
    make_path(path, "%s/b", folder);
    assert_int_equal(synth_dataset(path, 40, 5, NULL), STATUS_OK);
    int compared = 0;
    make_path(path, "%s/a", folder);
    assert_int_equal(for_each_file(path, "", must_equal_other, &compared), 2);
    make_path(path, "%s/a/images", folder);
    assert_int_equal(for_each_file(path, "", must_equal_other, &compared), 40);
    assert_int_equal(for_each_file(path, ".png", must_equal_other, &compared), 10);
    assert_int_equal(compared, 52);

    char *json;
    size_t size;
    make_path(path, "%s/a/annotations.json", folder);
    assert_int_equal(read_file(&json, &size, path, 1 << 24), STATUS_OK);
    assert_int_equal(count_text(json, "\"file_name\""), 40);
    assert_true(count_text(json, "\"category_id\"") > 60);
    assert_true(count_text(json, "\"iscrowd\": 1") >= 3);
    assert_true(count_text(json, "\"segmentation\": [[") > 30);
    assert_true(count_text(json, "], [") > 3);
    assert_true(count_text(json, "\"counts\": \"") > 4);
    assert_true(count_text(json, "\"counts\": [") > 4);
    free(json);
}

static void refuses_folders_that_are_not_its_own(void **state) {
    (void)state;
    char path[PATH_MAX], inside[PATH_MAX];
    make_path(path, "%s/foreign", folder);
    assert_int_equal(mkdir(path, 0777), 0);
    make_path(inside, "%s/foreign/thesis.txt", folder);
    assert_int_equal(write_file_atomic(inside, "years", 5), STATUS_OK);
    assert_int_equal(synth_dataset(path, 1, 0, NULL), STATUS_CANT_CREATE);
    assert_non_null(strstr(error_cause(), path));
    assert_int_not_equal(synth_dataset(inside, 1, 0, NULL), STATUS_OK);
    unlink(inside);
    synth_options wide = {.height = 64, .width = 100};
    assert_int_equal(synth_dataset(path, 1, 0, &wide), STATUS_OK);
    image_header header;
    make_path(inside, "%s/foreign/images/000001.jpg", folder);
    assert_int_equal(image_read_header(&header, inside, NULL), STATUS_OK);
    assert_int_equal(header.height, 64);
    assert_int_equal(header.width, 100);
    unlink(inside);
    make_path(inside, "%s/foreign/images", folder);
    rmdir(inside);
}

/* What the annotations rest on: exact outlines give the visible pixels; visible masks do not overlap. */
static void scenes_are_consistent(void **state) {
    (void)state;
    int exact = 0, empty = 0, crowds = 0, classes[SYNTH_CLASS_COUNT] = {0};
    mask_rle mask = {0};
    for (uint32_t image = 0; image < 64; image++) {
        enum { H = 128, W = 160 };
        synth_scene scene;
        uint8_t bitmap[H * W], covered[H * W] = {0};
        assert_int_equal(synth_scene_draw(&scene, 9, image, H, W), STATUS_OK);
        empty += scene.objects == 0;
        for (int i = 0; i < scene.objects; i++) {
            const synth_object *object = &scene.object[i];
            classes[object->class]++;
            crowds += object->crowd;
            int64_t area = 0;
            for (int k = 0; k < H * W; k++) {
                assert_int_equal(covered[k] & object->visible[k], 0);
                covered[k] |= object->visible[k];
                area += object->visible[k];
            }
            assert_int_equal(area, object->area);
            assert_true(area > 0);
            if (!object->exact) continue;
            exact++;
            const synth_outline *o = &object->outline;
            assert_int_equal(mask_rle_from_polygons(&mask, o->xy, o->part_points, o->parts, H, W), STATUS_OK);
            mask_rle_decode(bitmap, &mask);
            assert_memory_equal(bitmap, object->visible, sizeof bitmap);
        }
        synth_scene_release(&scene);
    }
    assert_true(exact > 30);
    assert_int_equal(empty, 4);
    assert_true(crowds >= 4);
    for (int c = 0; c < SYNTH_CLASS_COUNT; c++) assert_true(classes[c] > 10);
    mask_rle_release(&mask);
}

static void written_pictures_read_back(void **state) {
    (void)state;
    char path[PATH_MAX];
    synth_scene scene;
    image_buffer image = {0};
    assert_int_equal(synth_scene_draw(&scene, 1, 2, 70, 81), STATUS_OK);
    make_path(path, "%s/picture", folder);
    assert_int_equal(image_write_png(path, scene.pixels, 70, 81), STATUS_OK);
    assert_int_equal(image_read(&image, path, NULL), STATUS_OK);
    assert_int_equal(image.height, 70);
    assert_int_equal(image.width, 81);
    assert_memory_equal(image.pixels, scene.pixels, 70 * 81 * 3);
    assert_int_equal(image_write_jpeg(path, scene.pixels, 70, 81, 95), STATUS_OK);
    assert_int_equal(image_read(&image, path, NULL), STATUS_OK);
    int64_t difference = 0;
    for (int i = 0; i < 70 * 81 * 3; i++) difference += abs(image.pixels[i] - scene.pixels[i]);
    assert_true(difference < 8 * 70 * 81 * 3);
    assert_int_not_equal(image_write_png("/no/such/folder/x.png", scene.pixels, 70, 81), STATUS_OK);
    assert_non_null(strstr(error_cause(), "/no/such/folder/x.png"));
    image_buffer_release(&image);
    synth_scene_release(&scene);
}

/* Pixels that are missing are an error, wherever the file ends. */
static void cut_jpegs_are_refused(void **state) {
    (void)state;
    char path[PATH_MAX], *bytes;
    size_t size;
    synth_scene scene;
    image_buffer image = {0};
    make_path(path, "%s/cut.jpg", folder);
    assert_int_equal(synth_scene_draw(&scene, 1, 2, 64, 96), STATUS_OK);
    assert_int_equal(image_write_jpeg(path, scene.pixels, 64, 96, 90), STATUS_OK);
    assert_int_equal(read_file(&bytes, &size, path, 1 << 20), STATUS_OK);
    for (int percent = 0; percent < 99; percent++)
        if (image_decode(&image, (uint8_t *)bytes, size * (size_t)percent / 100, NULL) != STATUS_DATA)
            fail_msg("a JPEG cut at %d %% was read", percent);
    assert_int_equal(image_decode(&image, (uint8_t *)bytes, size - 2, NULL),
                     STATUS_OK); /* only the end marker */
    free(bytes);
    image_buffer_release(&image);
    synth_scene_release(&scene);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_arguments_same_bytes), cmocka_unit_test(refuses_folders_that_are_not_its_own),
        cmocka_unit_test(scenes_are_consistent),     cmocka_unit_test(written_pictures_read_back),
        cmocka_unit_test(cut_jpegs_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
