/* `maskrcnn draw`: pixels, masks and boxes are where training has them, also in flipped images; refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/run_program.h"
#include "data/image_read.h"
#include "data/image_write.h"
#include "draw/palette.h"
#include "draw/picture.h"

enum { HEIGHT = 48, WIDTH = 64, SCALE = 8, GAP = 8, CAPTION = 23, IMAGES = 8, LIMIT = 100 };
static const uint8_t dark[3] = {40, 50, 60}, bright[3] = {250, 240, 200};
static const int object[4] = {5, 9, 21, 30}; /* x1 y1 x2 y2: left of the middle, so that a flip moves it */

static char folder[] = "/tmp/test_draw_command_XXXXXX";
static program_run result;
static image_buffer got;

/* `maskrcnn draw` with the quick start's configuration and further words, each after '~'. */
static int draw(const char *words) {
    char line[4096];
    snprintf(line, sizeof line, "maskrcnn~draw~--config~%s/configs/quickstart.yaml%s", TEST_SOURCE_DIR,
             words);
    run_program(&result, folder, line, LIMIT);
    return result.code;
}

static void draw_well(const char *words) {
    if (draw(words) != 0) fail_msg("exit code %d:\n%s%s", result.code, result.out, result.err);
}

static void read_picture(const char *name) {
    assert_int_equal(image_read(&got, name, NULL), STATUS_OK);
}

static const uint8_t *pixel(int x, int y) {
    assert_true(x < got.width && y < got.height);
    return got.pixels + 3 * ((size_t)y * (size_t)got.width + (size_t)x);
}

static void blend(uint8_t out[3], const uint8_t under[3], const uint8_t colour[3]) {
    for (int c = 0; c < 3; c++) out[c] = (uint8_t)((under[c] * 60 + colour[c] * 40 + 50) / 100);
}

static int count_pixels(const uint8_t rgb[3], int x0, int y0, int x1, int y1) {
    int count = 0;
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) count += memcmp(pixel(x, y), rgb, 3) == 0;
    return count;
}

#define ONE_SIZE                                                                                             \
    "~DATASETS.TRAIN~one.json:.~INPUT.MIN_SIZE_TRAIN~(48,)~INPUT.MAX_SIZE_TRAIN~64~SOLVER.IMS_PER_BATCH~8"

/* Every pixel of the first picture, but for its plate (which lies above the object) and the dashes at the edges. */
static void every_pixel_is_what_the_network_gets(void **state) {
    (void)state;
    static const uint8_t mean[3] = {124, 116, 104}; /* of the padding: 0 after normalising */
    uint8_t colour[3], fill[3];
    draw_well("~--out~exact~--images~1~INPUT.RANDOM_FLIP~none" ONE_SIZE);
    read_picture("exact/train_batch_0000.png");
    assert_true(got.width == 64 * SCALE + 2 * GAP && got.height == 64 * SCALE + 2 * GAP + CAPTION);
    class_colour(colour, 0);
    blend(fill, bright, colour);
    for (int y = 2; y < 64 * SCALE; y++)
        for (int x = 2; x < 64 * SCALE - 2; x++) {
            int column = x / SCALE, row = y / SCALE;
            bool edge = false,
                 in = column >= object[0] && column < object[2] && row >= object[1] && row < object[3];
            for (int i = 0; i < 2;
                 i++) { /* box: a line in the middle of the boundary; outline: inside of it */
                edge |= abs(x - (object[2 * i] * SCALE)) <= 2 && y >= object[1] * SCALE - 2 &&
                        y < object[3] * SCALE + 2;
                edge |= abs(y - (object[2 * i + 1] * SCALE)) <= 2 && x >= object[0] * SCALE - 2 &&
                        x < object[2] * SCALE + 2;
            }
            bool plate = y >= object[1] * SCALE - 24 && y < object[1] * SCALE && x >= object[0] * SCALE - 2 &&
                         x < object[0] * SCALE + 90;
            if (edge || plate || abs(y - HEIGHT * SCALE) <= 3) continue;
            const uint8_t *wanted = row >= HEIGHT ? mean : in ? fill : dark;
            if (memcmp(pixel(GAP + x, GAP + CAPTION + y), wanted, 3) != 0)
                fail_msg("pixel %d,%d is %d,%d,%d", x, y, *pixel(GAP + x, GAP + CAPTION + y),
                         pixel(GAP + x, GAP + CAPTION + y)[1], pixel(GAP + x, GAP + CAPTION + y)[2]);
        }
    assert_memory_equal(pixel(GAP + object[0] * SCALE, GAP + CAPTION + 20 * SCALE), colour, 3);
    assert_memory_equal(pixel(GAP + object[2] * SCALE - 1, GAP + CAPTION + 20 * SCALE), colour, 3);
}

/* In every cell the mask hides the object, and the box's lines stand beside it, whether it was flipped or not. */
static void objects_stay_covered_when_flipped(void **state) {
    (void)state;
    uint8_t colour[3], fill[3];
    draw_well("~--out~flips~--images~8" ONE_SIZE);
    read_picture("flips/train_batch_0000.png");
    class_colour(colour, 0);
    blend(fill, bright, colour);
    assert_int_equal(count_pixels(bright, 0, 0, got.width, got.height), 0);
    int columns = (got.width - GAP) / (GAP + 64 * SCALE), left = 0, right = 0;
    for (int i = 0; i < IMAGES; i++) {
        int x = GAP + i % columns * (64 * SCALE + GAP);
        int y = GAP + CAPTION + i / columns * (64 * SCALE + GAP + CAPTION), middle = x + 32 * SCALE;
        int on_left = count_pixels(fill, x, y, middle, y + 64 * SCALE);
        int on_right = count_pixels(fill, middle, y, x + 64 * SCALE, y + 64 * SCALE);
        int inner =
            (16 * SCALE - 6) * (21 * SCALE - 6); /* at least: inside of the outline and of the box's line */
        assert_true((on_left >= inner && on_right == 0) || (on_right >= inner && on_left == 0));
        left += on_left > 0;
        right += on_right > 0;
    }
    assert_true(left > 0 && right > 0);
    assert_non_null(strstr(result.out, "8 images of iteration 0 in flips/train_batch_0000.png"));
}

static void a_grid_for_each_batch(void **state) {
    (void)state;
    draw_well("~--out~made/deep~SOLVER.IMS_PER_BATCH~2" ONE_SIZE
              "~SOLVER.IMS_PER_BATCH~2~INPUT.MASK_FORMAT~bitmask");
    read_picture("made/deep/train_batch_0000.png");
    int two = got.width;
    read_picture("made/deep/train_batch_0001.png");
    assert_int_equal(got.width, two);
    assert_int_not_equal(access("made/deep/train_batch_0002.png", F_OK), 0);
    draw_well("~--out~made/deep~--images~5" ONE_SIZE "~SOLVER.IMS_PER_BATCH~2~MODEL.MASK_ON~False");
    read_picture("made/deep/train_batch_0002.png");
    assert_true(got.width < two); /* the fifth image alone */
}

#define QUICK "~SOLVER.MAX_ITER~1~MODEL.ROI_HEADS.NUM_CLASSES~1~INPUT.MIN_SIZE_TEST~48~INPUT.MAX_SIZE_TEST~64"
#define MODEL_OF "~--weights~run/model_final.safetensors"

/* Side by side at ten times the size: the annotation on the left, nothing above the highest score on the right. */
static void predictions_stand_beside_the_ground_truth(void **state) {
    (void)state;
    uint8_t colour[3], fill[3];
    char line[4096];
    snprintf(line, sizeof line,
             "maskrcnn~train~--config~%s/configs/quickstart.yaml~OUTPUT_DIR~run~DATALOADER.NUM_WORKERS~0%s%s",
             TEST_SOURCE_DIR, ONE_SIZE, QUICK "~DATASETS.TEST~()");
    run_program(&result, folder, line, LIMIT);
    if (result.code != 0) fail_msg("exit code %d:\n%s", result.code, result.err);
    draw_well("~--out~beside~--images~3~--draw-threshold~1" MODEL_OF ONE_SIZE QUICK
              "~DATASETS.TEST~one.json:.");
    assert_int_equal(access("beside/0001_one.png", F_OK), 0);
    assert_int_not_equal(access("beside/0004_one.png", F_OK), 0);
    read_picture("beside/0003_one.png");
    assert_int_equal(got.width, 2 * 10 * WIDTH + 3 * GAP);
    assert_int_equal(got.height, 10 * HEIGHT + 2 * GAP + CAPTION);
    class_colour(colour, 0);
    blend(fill, bright, colour);
    int x = GAP + 10 * object[0] + 60, y = GAP + CAPTION + 10 * object[1] + 60, right = 10 * WIDTH + GAP;
    assert_memory_equal(pixel(x, y), fill, 3);
    assert_memory_equal(pixel(x + right, y), bright, 3);
    assert_int_equal(count_pixels(colour, right, 0, got.width, got.height), 0);
    draw_well("~--out~all~--images~1~--draw-threshold~0" MODEL_OF ONE_SIZE QUICK
              "~MODEL.ROI_HEADS.SCORE_THRESH_TEST~0~DATASETS.TEST~()"); /* of the training data */
    read_picture("all/0001_one.png");
    assert_true(count_pixels(colour, right, 0, got.width, got.height) > 100);
    draw_well("~--out~some" MODEL_OF QUICK "~DATASETS.TEST~gap.json:.");
    assert_non_null(strstr(result.err, "absent.png"));
    assert_int_equal(access("some/0001_one.png", F_OK), 0);
    assert_int_not_equal(access("some/0002_one.png", F_OK), 0);
}

static void refuse(const char *words, int code, const char *culprit) {
    assert_int_equal(draw(words), code);
    if (!strstr(result.err, culprit)) fail_msg("\"%s\" is not in:\n%s", culprit, result.err);
    assert_non_null(strstr(result.err, "remedy:"));
}

static void mistakes_are_named(void **state) {
    (void)state;
    refuse("", 64, "--out");
    refuse("~--out~o~--images~0" ONE_SIZE, 64, "--images");
    refuse("~--out~o~--images~some" ONE_SIZE, 64, "some");
    refuse("~--out~o~DATASETS.TRAIN~()", 78, "DATASETS.TRAIN");
    refuse("~--out~o~DATASETS.TRAIN~none.json:.", 66, "none.json");
    refuse("~--out~one.json" ONE_SIZE, 73, "one.json");
    refuse("~--out~o~--draw-threshold~2" ONE_SIZE, 64, "--draw-threshold");
    refuse("~--out~o~--weights~none.safetensors" QUICK ONE_SIZE "~DATASETS.TEST~one.json:.", 66,
           "none.safetensors");
    refuse("~--out~o~--weights~w~DATASETS.TRAIN~()~DATASETS.TEST~()", 78, "DATASETS.TEST");
    refuse("~--out~o" ONE_SIZE "~MODEL.NO_SUCH_KEY~1", 78, "NO_SUCH_KEY");
}

static void without_cairo_it_says_so(void **state) {
    (void)state;
    refuse("~--out~o" ONE_SIZE, 69, "cairo");
    assert_non_null(strstr(result.err, "libcairo2-dev"));
}

static void write_dataset(void) {
    uint8_t pixels[HEIGHT * WIDTH * 3];
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            bool in = x >= object[0] && x < object[2] && y >= object[1] && y < object[3];
            memcpy(pixels + 3 * (y * WIDTH + x), in ? bright : dark, 3);
        }
    assert_int_equal(image_write_png("one.png", pixels, HEIGHT, WIDTH), STATUS_OK);
    FILE *f = fopen("one.json", "we");
    assert_non_null(f);
    fputs("{\"categories\":[{\"id\":3,\"name\":\"plum\"}],\"images\":[", f);
    for (int i = 0; i < IMAGES; i++)
        fprintf(f, "%s{\"id\":%d,\"width\":%d,\"height\":%d,\"file_name\":\"one.png\"}", i ? "," : "", i + 1,
                WIDTH, HEIGHT);
    fputs("],\"annotations\":[", f);
    for (int i = 0; i < IMAGES; i++)
        fprintf(
            f,
            "%s{\"id\":%d,\"image_id\":%d,\"category_id\":3,\"iscrowd\":0,\"area\":1,\"bbox\":[%d,%d,%d,%d],"
            "\"segmentation\":[[%d,%d,%d,%d,%d,%d,%d,%d]]}",
            i ? "," : "", i + 1, i + 1, object[0], object[1], object[2] - object[0], object[3] - object[1],
            object[0], object[1], object[2], object[1], object[2], object[3], object[0], object[3]);
    fputs("]}", f);
    assert_int_equal(fclose(f), 0);
    assert_non_null(f = fopen("gap.json", "we"));
    fprintf(f,
            "{\"categories\":[{\"id\":3,\"name\":\"plum\"}],\"annotations\":[],\"images\":[{\"id\":1,"
            "\"width\":%d,"
            "\"height\":%d,\"file_name\":\"absent.png\"},{\"id\":2,\"width\":%d,\"height\":%d,\"file_name\":"
            "\"one.png\"}]}",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    assert_int_equal(fclose(f), 0);
}

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder) || chdir(folder) != 0) return -1;
    write_dataset();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    image_buffer_release(&got);
    program_run rm;
    char line[256];
    snprintf(line, sizeof line, "rm~-r~%s", folder);
    run_program(&rm, "/", line, LIMIT);
    return chdir("/") == 0 && rm.code == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pixel_is_what_the_network_gets),
        cmocka_unit_test(objects_stay_covered_when_flipped),
        cmocka_unit_test(a_grid_for_each_batch),
        cmocka_unit_test(predictions_stand_beside_the_ground_truth),
        cmocka_unit_test(mistakes_are_named),
    };
    const struct CMUnitTest without[] = {cmocka_unit_test(without_cairo_it_says_so)};
    return picture_built_in() ? cmocka_run_group_tests(tests, set_up, tear_down)
                              : cmocka_run_group_tests(without, set_up, tear_down);
}
