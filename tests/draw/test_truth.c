/* Annotations as instances to draw: polygons, runs, crowds, boxes without mask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/image_write.h"
#include "draw/truth.h"

static char folder[] = "/tmp/test_truth_XXXXXX";

static const char annotations[] =
    "{\"images\":[{\"id\":5,\"width\":10,\"height\":8,\"file_name\":\"a.png\"},"
    "{\"id\":6,\"width\":4,\"height\":4,\"file_name\":\"a.png\"}],"
    "\"categories\":[{\"id\":9,\"name\":\"nine\"},{\"id\":2,\"name\":\"two\"}],"
    "\"annotations\":["
    "{\"id\":1,\"image_id\":5,\"category_id\":9,\"bbox\":[2,1,4,3],\"area\":12,\"iscrowd\":0,"
    "\"segmentation\":[[2,1,6,1,6,4,2,4]]},"
    "{\"id\":2,\"image_id\":5,\"category_id\":2,\"bbox\":[0,0,2,8],\"area\":16,\"iscrowd\":1,"
    "\"segmentation\":{\"size\":[8,10],\"counts\":[0,16,64]}},"
    "{\"id\":3,\"image_id\":5,\"category_id\":2,\"bbox\":[7,6,30,30],\"area\":1,\"iscrowd\":0},"
    "{\"id\":4,\"image_id\":5,\"category_id\":2,\"bbox\":[7,6,0,0],\"area\":0,\"iscrowd\":0}]}";

static dataset *open_it(bool crowd_as_instances) {
    coco_options options = coco_options_default();
    options.crowd_as_instances = crowd_as_instances;
    options.need_masks = false;
    dataset *set;
    const char *spec = "a.json:.";
    if (dataset_open(&set, &spec, 1, NULL, 0, &options) != STATUS_OK) fail_msg("%s", error_cause());
    return set;
}

static void annotations_become_instances(void **state) {
    (void)state;
    dataset *set = open_it(false);
    truth_list list = {0};
    for (int again = 0; again < 2; again++) {
        assert_int_equal(truth_of_image(&list, set, 1, true), STATUS_OK);
        assert_int_equal(list.count, 0);
        assert_int_equal(truth_of_image(&list, set, 0, true), STATUS_OK);
        assert_int_equal(list.count, 3); /* the one without an extent is not drawn */
        assert_true(list.height == 8 && list.width == 10);
        const picture_instance *i = list.items;
        assert_memory_equal(i[0].box, ((float[]){2, 1, 6, 4}), sizeof i[0].box);
        assert_memory_equal(i[2].box, ((float[]){7, 6, 10, 8}), sizeof i[2].box); /* cut off at the image */
        assert_string_equal(i[0].name, "nine");
        assert_true(i[0].label == 1 && i[1].label == 0 && i[0].score < 0);
        assert_true(!i[0].crowd && i[1].crowd && !i[2].crowd);
        mask_box box = mask_rle_bounding_box(i[0].mask);
        assert_true(box.x == 2 && box.y == 1 && box.width == 4 && box.height == 3);
        assert_int_equal(mask_rle_area(i[0].mask), 12);
        assert_int_equal(mask_rle_area(i[1].mask), 16);
        assert_null(i[2].mask);
    }
    assert_int_equal(truth_of_image(&list, set, 0, false), STATUS_OK);
    assert_null(list.items[0].mask);
    truth_release(&list);
    dataset_free(set);
}

static void crowds_trained_as_instances_are_drawn_as_such(void **state) {
    (void)state;
    dataset *set = open_it(true);
    truth_list list = {0};
    assert_int_equal(truth_of_image(&list, set, 0, true), STATUS_OK);
    assert_false(list.items[1].crowd);
    truth_release(&list);
    dataset_free(set);
}

static int set_up(void **state) {
    (void)state;
    uint8_t pixels[8 * 10 * 3] = {0};
    if (!mkdtemp(folder) || chdir(folder) != 0) return -1;
    FILE *f = fopen("a.json", "we");
    if (!f || fputs(annotations, f) < 0 || fclose(f) != 0) return -1;
    return image_write_png("a.png", pixels, 8, 10) == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    unlink("a.json");
    unlink("a.png");
    return chdir("/") == 0 ? rmdir(folder) : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(annotations_become_instances),
        cmocka_unit_test(crowds_trained_as_instances_are_drawn_as_such),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
