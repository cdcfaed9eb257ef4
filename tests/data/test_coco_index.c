/* The COCO index: reading rules one by one on small hand-written files, real files, kept index files. */
#include "data/coco_test_util.h"

#include <fcntl.h>
#include <math.h>
#include "data/coco_index.h"
#include "data/coco_parse.h"

#define IMAGES                                                                                               \
    "\"images\":[{\"id\":7,\"file_name\":\"a.jpg\",\"width\":40,\"height\":30},{\"id\":5,\"file_name\":\"b." \
    "jpg\",\"width\":20,\"height\":50}]"
#define CATEGORIES "\"categories\":[{\"id\":9,\"name\":\"dog\"},{\"id\":2,\"name\":\"cat\"}]"
#define SQUARE "\"segmentation\":[[1,1,11,1,11,11,1,11]]"
#define DOCUMENT(annotations) "{" IMAGES "," CATEGORIES ",\"annotations\":[" annotations "]}"

static coco_index *open_text(const char *text, const coco_options *options) {
    coco_index *index = NULL;
    status s = coco_index_open(&index, write_text("case.json", text), options);
    if (s != STATUS_OK) print_message("%s\n", error_cause());
    assert_int_equal(s, STATUS_OK);
    return index;
}

static uint64_t count_of(const coco_index *index, coco_issue issue) {
    return coco_index_finding(index, issue)->count;
}

/* Number of findings of all kinds. */
static uint64_t count_all(const coco_index *index) {
    uint64_t sum = 0;
    for (int i = 0; i < COCO_ISSUE_COUNT; i++) sum += count_of(index, i);
    return sum;
}

static void test_numbers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool good;
        int64_t value;
    } whole[] = {{"0", true, 0},
                 {"-0", true, 0},
                 {"9007199254740993", true, 9007199254740993},
                 {"9223372036854775807", true, INT64_MAX},
                 {"-9223372036854775808", true, INT64_MIN},
                 {"9223372036854775808", false, 0},
                 {"-9223372036854775809", false, 0},
                 {"12.0", true, 12},
                 {"12.00", true, 12},
                 {"12.5", false, 0},
                 {"1e3", true, 1000},
                 {"", false, 0},
                 {"-", false, 0},
                 {"12a", false, 0},
                 {" 12", false, 0},
                 {"0x10", false, 0},
                 {"1e30", false, 0},
                 {"nan", false, 0}};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        int64_t value = 0;
        assert_int_equal(coco_number_to_int64(whole[i].text, strlen(whole[i].text), &value), whole[i].good);
        if (whole[i].good) assert_true(value == whole[i].value);
    }
    static const char *const reals[] = {"0",
                                        "-0.0",
                                        "510.66",
                                        "0.1",
                                        "123456789012345",
                                        "1234567890123456",
                                        "0.1234567890123456789",
                                        "1e-5",
                                        "-7.25E+2",
                                        "999999999999999",
                                        "0.000000000000001",
                                        "4.35",
                                        "1.7976931348623157e308",
                                        "5e-324"};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        double value, expected = strtod(reals[i], NULL);
        assert_true(coco_number_to_double(reals[i], strlen(reals[i]), &value));
        assert_memory_equal(&value, &expected, sizeof value);
    }
    static const char *const bad[] = {"", "-", ".", "1e999", "nan", "inf", "0x1", "1 ", "1..2", "--1", "1e"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double value;
        assert_false(coco_number_to_double(bad[i], strlen(bad[i]), &value));
    }
}

static void check_plain(const coco_index *index) {
    assert_int_equal(coco_index_image_count(index), 2);
    assert_int_equal(coco_index_category_count(index), 2);
    assert_int_equal(coco_index_annotation_count(index), 2);
    assert_string_equal(coco_index_category_name(index, 0), "cat");
    assert_int_equal(coco_index_category(index, 1)->id, 9);
    assert_string_equal(coco_index_file_name(index, 0), "a.jpg");
    assert_int_equal(coco_index_find_image(index, 5), 1);
    assert_int_equal(coco_index_find_image(index, 6), -1);
    const coco_image *image = coco_index_image(index, 0);
    assert_int_equal(image->width, 40);
    assert_int_equal(image->height, 30);
    assert_int_equal(image->annotation_count, 1);
    const coco_annotation *a = coco_index_annotation(index, image->first_annotation);
    assert_int_equal(a->id, 70);
    assert_int_equal(a->category, 1);
    assert_true(a->box[0] == 1 && a->box[1] == 1.5 && a->box[2] == 10 && a->box[3] == 9.25);
    assert_true(coco_index_usable(index, a));
    const uint32_t *sizes;
    const double *xy = coco_index_polygon(index, a, &sizes);
    assert_int_equal(a->count, 1);
    assert_int_equal(sizes[0], 8);
    assert_true(xy[0] == 1 && xy[7] == 11);
    /* one pixel of margin, inside the image */
    assert_true(a->mask_box[0] == 0 && a->mask_box[1] == 0 && a->mask_box[2] == 12 && a->mask_box[3] == 12);
    assert_int_equal(count_all(index), 0);
    assert_false(coco_index_was_fixed(index));
}

#define PLAIN_ANNOTATIONS                                                                                    \
    "{\"id\":50,\"image_id\":5,\"category_id\":2,\"bbox\":[0,0,5,5],\"iscrowd\":0,\"area\":25," SQUARE "},"  \
    "{\"id\":70,\"image_id\":7,\"category_id\":9,\"bbox\":[1,1.5,10,9.25]," SQUARE "}"

static void test_any_order_of_keys(void **state) {
    (void)state;
    static const char *const documents[] = {
        DOCUMENT(PLAIN_ANNOTATIONS),
        "{\"annotations\":[" PLAIN_ANNOTATIONS "]," CATEGORIES "," IMAGES "}",
        "{\"info\":{\"deep\":[[{\"id\":[1,{\"annotations\":[{}]}]}]]}," CATEGORIES
        ",\"annotations\":[" PLAIN_ANNOTATIONS "],"
        "\"licenses\":[{\"id\":1,\"name\":\"x\"}],\"more\":null," IMAGES "}",
        "\xEF\xBB\xBF" DOCUMENT(PLAIN_ANNOTATIONS),
        " \n\t" DOCUMENT(PLAIN_ANNOTATIONS) "\n\n",
    };
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
        coco_index *index = open_text(documents[i], NULL);
        check_plain(index);
        coco_summary sum = coco_index_summarize(index);
        assert_int_equal(sum.images, 2);
        assert_int_equal(sum.annotations, 2);
        assert_int_equal(sum.usable, 2);
        coco_index_free(index);
    }
}

static void test_exact_and_text_ids(void **state) {
    (void)state;
    coco_index *index = open_text(
        "{\"images\":[{\"id\":9007199254740993,\"file_name\":\"a\",\"width\":\"40\",\"height\":30.0},"
        "{\"id\":\"9007199254740992\",\"file_name\":\"b\",\"width\":40,\"height\":30}],"
        "\"categories\":[{\"id\":\"3\",\"name\":\"x\"}],"
        "\"annotations\":[{\"id\":9223372036854775807,\"image_id\":9007199254740993,\"category_id\":3.0,"
        "\"bbox\":[\"1\",1,2,2]," SQUARE "},"
        "{\"id\":\"12\",\"image_id\":\"9007199254740992\",\"category_id\":\"3\",\"bbox\":[1,1,2,2]," SQUARE
        "}]}",
        NULL);
    assert_int_equal(coco_index_annotation_count(index), 2);
    assert_int_equal(coco_index_find_image(index, 9007199254740993), 0);
    assert_int_equal(coco_index_find_image(index, 9007199254740992), 1);
    assert_int_equal(coco_index_annotation(index, 0)->id, INT64_MAX);
    assert_int_equal(coco_index_annotation(index, 1)->image, 1);
    assert_int_equal(count_of(index, COCO_STRING_NUMBER), 6);
    assert_int_equal(count_all(index), 6);
    coco_index_free(index);
}

static void test_duplicate_keys(void **state) {
    (void)state;
    coco_index *index = open_text(
        "{\"images\":[]," IMAGES "," CATEGORIES
        ",\"annotations\":[{\"id\":1,\"id\":50,\"image_id\":5,\"category_id\":2,"
        "\"bbox\":[1,1,1,1],\"bbox\":[0,0,5,5],\"segmentation\":{\"counts\":[1],\"size\":[1,1]}," SQUARE
        "}],\"info\":{\"x\":1,\"y\":{\"x\":2},\"x\":3}}",
        NULL);
    assert_int_equal(coco_index_image_count(index), 2);
    assert_int_equal(count_of(index, COCO_DUPLICATE_KEY), 5);
    assert_string_equal(coco_index_finding(index, COCO_DUPLICATE_KEY)->examples[0],
                        "key \"images\" before byte 21");
    const coco_annotation *a = coco_index_annotation(index, 0);
    assert_int_equal(a->id, 50);
    assert_true(a->box[2] == 5);
    assert_int_equal(a->mask_kind, COCO_MASK_POLYGONS);
    assert_int_equal(count_all(index), 5);
    assert_true(coco_index_was_fixed(index));
    coco_index_free(index);

    /* the same in an object with many keys: k0..k99, then k5 and k70 again */
    char text[4096] = "{\"info\":{";
    for (int i = 0; i < 100; i++) snprintf(text + strlen(text), 32, "\"k%d\":%d,", i, i);
    strcat(text, "\"k5\":1,\"k70\":2}," IMAGES "," CATEGORIES ",\"annotations\":[]}");
    index = open_text(text, NULL);
    assert_int_equal(count_of(index, COCO_DUPLICATE_KEY), 2);
    coco_index_free(index);
}

/* Annotations that are all of image 7 (40x30); what is expected of the first one. */
static void test_findings_one_by_one(void **state) {
    (void)state;
#define A "\"id\":1,\"image_id\":7,\"category_id\":2,"
    static const struct {
        const char *document;
        coco_issue issue; /* the only finding */
        uint32_t kept, usable;
    } cases[] = {
        {DOCUMENT("{" A "\"bbox\":[0,0,0,5]," SQUARE "}"), COCO_EMPTY_BOX, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,-1]," SQUARE "}"), COCO_EMPTY_BOX, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5]," SQUARE "}"), COCO_BAD_BOX, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5,5]," SQUARE "}"), COCO_BAD_BOX, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,null]," SQUARE "}"), COCO_BAD_BOX, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,1e999]," SQUARE "}"), COCO_BAD_BOX, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,[1]]," SQUARE "}"), COCO_BAD_BOX, 1, 0},
        {DOCUMENT("{" A SQUARE "}"), COCO_BAD_BOX, 1, 0},
        {DOCUMENT("{" A "\"bbox\":null," SQUARE "}"), COCO_BAD_BOX, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[41,0,5,5]," SQUARE "}"), COCO_BOX_OUTSIDE, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[-9,0,5,5]," SQUARE "}"), COCO_BOX_OUTSIDE, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[30,0,15,5]," SQUARE "}"), COCO_BOX_CLIPPED, 1, 1},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":[[1,1,2,2]]}"), COCO_BAD_POLYGON, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":[[]]}"), COCO_BAD_POLYGON, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":[[1,1,2,2,3,3,4]]}"), COCO_BAD_POLYGON, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":[[1,1,2,2,1e9,3]]}"), COCO_BAD_POLYGON, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":[[1,1,2,2,null,3]]}"), COCO_BAD_POLYGON, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":[[[1,1],[2,2],[3,4]]]}"), COCO_BAD_POLYGON, 1,
         0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":[[1,1],[1,1,9,1,9,9]]}"), COCO_BAD_PART, 1, 1},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":[1,1,9,1,9,9]}"), COCO_FLAT_POLYGON, 1, 1},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":{\"counts\":[1],\"size\":[1,1]}}"), COCO_BAD_RLE,
         1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":{\"counts\":[1000,201],\"size\":[30,40]}}"),
         COCO_BAD_RLE, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":{\"counts\":[1000,200],\"size\":[40,30]}}"),
         COCO_BAD_RLE, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":{\"counts\":[-1,1201],\"size\":[30,40]}}"),
         COCO_BAD_RLE, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":{\"counts\":[1000,200]}}"), COCO_BAD_RLE, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":{\"counts\":\"a b\",\"size\":[30,40]}}"),
         COCO_BAD_RLE, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":{\"counts\":[1,{}],\"size\":[30,40]}}"),
         COCO_BAD_RLE, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":{\"counts\":5,\"size\":[30,40]}}"), COCO_BAD_RLE,
         1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":{\"counts\":[1200],\"size\":[30,40]}}"),
         COCO_EMPTY_RLE, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"segmentation\":\"\"}"), COCO_WRONG_TYPE, 1, 0},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"iscrowd\":\"no\"," SQUARE "}"), COCO_WRONG_TYPE, 1, 1},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5],\"area\":[1]," SQUARE "}"), COCO_WRONG_TYPE, 1, 1},
        {DOCUMENT("5,{" A "\"bbox\":[0,0,5,5]," SQUARE "}"), COCO_WRONG_TYPE, 1, 1},
        {DOCUMENT("{\"id\":1,\"image_id\":6,\"category_id\":2,\"bbox\":[0,0,5,5]," SQUARE "}"),
         COCO_UNKNOWN_IMAGE, 0, 0},
        {DOCUMENT("{\"id\":1,\"category_id\":2,\"bbox\":[0,0,5,5]," SQUARE "}"), COCO_UNKNOWN_IMAGE, 0, 0},
        {DOCUMENT("{\"id\":1,\"image_id\":7,\"category_id\":3,\"bbox\":[0,0,5,5]," SQUARE "}"),
         COCO_UNKNOWN_CATEGORY, 0, 0},
        {DOCUMENT("{\"image_id\":7,\"category_id\":2,\"bbox\":[0,0,5,5]," SQUARE "}"), COCO_NO_ANNOTATION_ID,
         1, 1},
        {DOCUMENT("{" A "\"bbox\":[0,0,5,5]," SQUARE "},{" A "\"bbox\":[0,0,5,5]," SQUARE "}"),
         COCO_DUPLICATE_ANNOTATION, 2, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        coco_index *index = open_text(cases[i].document, NULL);
        if (count_of(index, cases[i].issue) != 1 || count_all(index) != 1)
            print_message("case %zu: %s\n", i, cases[i].document);
        assert_int_equal(count_of(index, cases[i].issue), 1);
        assert_int_equal(count_all(index), 1);
        assert_int_equal(coco_index_annotation_count(index), cases[i].kept);
        assert_int_equal(coco_index_summarize(index).usable, cases[i].usable);
        assert_true(coco_index_finding(index, cases[i].issue)->examples[0][0] != '\0');
        coco_index_free(index);
    }
}

static void test_images_and_categories(void **state) {
    (void)state;
    coco_index *index = open_text("{\"images\":[{\"id\":1,\"file_name\":\"a\",\"width\":4,\"height\":4},{"
                                  "\"id\":1,\"file_name\":\"b\",\"width\":4,\"height\":4},"
                                  "{\"id\":2,\"file_name\":\"a\",\"width\":4,\"height\":4},{\"id\":3,\"file_"
                                  "name\":\"a\",\"width\":4,\"height\":4},"
                                  "{\"id\":4,\"file_name\":\"c\",\"width\":0,\"height\":4},{\"id\":5,"
                                  "\"width\":4,\"height\":4},{\"file_name\":\"d\",\"width\":4,\"height\":4},"
                                  "{\"id\":6,\"file_name\":\"e\",\"width\":70000,\"height\":4},{\"id\":-8,"
                                  "\"file_name\":\"f\",\"width\":4,\"height\":4}],"
                                  "\"categories\":[{\"id\":3,\"name\":\"x\"},{\"id\":1,\"name\":\"x\"},{"
                                  "\"id\":3,\"name\":\"y\"},{\"name\":\"z\"}],\"annotations\":[]}",
                                  NULL);
    assert_int_equal(coco_index_image_count(index), 4);
    assert_int_equal(count_of(index, COCO_DUPLICATE_IMAGE), 1);
    assert_int_equal(count_of(index, COCO_SAME_FILE), 1);
    assert_int_equal(count_of(index, COCO_BAD_IMAGE), 4);
    assert_int_equal(count_of(index, COCO_DUPLICATE_CATEGORY), 1);
    assert_int_equal(count_of(index, COCO_SAME_NAME), 1);
    assert_int_equal(count_of(index, COCO_BAD_CATEGORY), 1);
    assert_int_equal(count_all(index), 9);
    assert_int_equal(coco_index_category_count(index), 2);
    assert_string_equal(coco_index_file_name(index, 0), "a"); /* the first of an id is kept */
    assert_int_equal(coco_index_find_image(index, -8), 3);
    assert_int_equal(coco_index_summarize(index).images_without_annotations, 4);
    assert_int_equal(coco_index_check_usable(index), STATUS_DATA);
    coco_index_free(index);
}

static void test_rle(void **state) {
    (void)state;
    /* 40x30, pixels of columns 2 and 3, rows 5..9; and the same compressed: 65 5 25 5 1100 */
    coco_index *index =
        open_text(DOCUMENT("{\"id\":1,\"image_id\":7,\"category_id\":2,\"bbox\":[2,5,2,5],\"iscrowd\":1,"
                           "\"segmentation\":{\"size\":[30,40],\"counts\":[65,5,25,5,1100]}},"
                           "{\"id\":2,\"image_id\":7,\"category_id\":2,\"bbox\":[2,5,2,5],\"iscrowd\":0,"
                           "\"segmentation\":{\"counts\":\"Q25i00cQ1\",\"size\":[30,40]}}"),
                  NULL);
    assert_int_equal(count_all(index), 0);
    assert_int_equal(coco_index_summarize(index).crowd, 1);
    assert_int_equal(coco_index_summarize(index).usable, 1);
    static const uint32_t expected[] = {65, 5, 25, 5, 1100};
    for (uint32_t i = 0; i < 2; i++) {
        const coco_annotation *a = coco_index_annotation(index, i);
        assert_int_equal(a->mask_kind, COCO_MASK_RLE);
        assert_int_equal(a->count, 5);
        assert_memory_equal(coco_index_runs(index, a), expected, sizeof expected);
        assert_true(a->mask_box[0] == 2 && a->mask_box[1] == 5 && a->mask_box[2] == 2 && a->mask_box[3] == 5);
    }
    coco_index_free(index);
}

static void test_options(void **state) {
    (void)state;
    const char *crowd =
        DOCUMENT("{\"id\":1,\"image_id\":7,\"category_id\":2,\"bbox\":[0,0,5,5],\"iscrowd\":1," SQUARE "}");
    coco_index *index = open_text(crowd, NULL);
    assert_int_equal(coco_index_check_usable(index), STATUS_DATA);
    assert_non_null(strstr(error_remedy(), "DATASETS.CROWD_AS_INSTANCES"));
    coco_index_free(index);
    coco_options options = coco_options_default();
    options.crowd_as_instances = true;
    index = open_text(crowd, &options);
    assert_int_equal(coco_index_check_usable(index), STATUS_OK);
    coco_index_free(index);

    static const char *const boxes[] = {"", ",\"segmentation\":[]", ",\"segmentation\":null"};
    for (int i = 0; i < 3; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 DOCUMENT("{\"id\":1,\"image_id\":7,\"category_id\":2,\"bbox\":[0,0,5,5]%s}"), boxes[i]);
        index = open_text(text, NULL);
        assert_int_equal(count_all(index), 0);
        assert_int_equal(coco_index_check_usable(index), STATUS_DATA);
        assert_non_null(strstr(error_remedy(), "MODEL.MASK_ON"));
        coco_index_free(index);
        options = coco_options_default();
        options.need_masks = false;
        index = open_text(text, &options);
        assert_int_equal(coco_index_check_usable(index), STATUS_OK);
        coco_index_free(index);
    }
}

static status try_text(const char *text, size_t size) {
    coco_index *index = NULL;
    status s = coco_index_open(&index, write_bytes("bad.json", text, size), NULL);
    assert_true((s == STATUS_OK) == (index != NULL));
    coco_index_free(index);
    return s;
}

static void test_broken_files(void **state) {
    (void)state;
    const char *whole = DOCUMENT(PLAIN_ANNOTATIONS);
    for (size_t size = 0; size < strlen(whole); size++) {
        assert_int_equal(try_text(whole, size), STATUS_DATA);
        char place[32];
        snprintf(place, sizeof place, "byte %zu", size);
        assert_non_null(strstr(error_cause(), place));
        assert_non_null(strstr(error_cause(), "bad.json"));
    }
    assert_int_equal(try_text(whole, strlen(whole)), STATUS_OK);
    const char *wrong = "{\n\"images\": [\n{\"id\": x}]}";
    assert_int_equal(try_text(wrong, strlen(wrong)), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "line 3"));
    assert_non_null(strstr(error_cause(), "byte 22"));
    static const char *const texts[] = {"[]",
                                        "5",
                                        "null",
                                        "{}",
                                        "{\"images\":[],\"annotations\":[]}",
                                        "{\"images\":{},\"annotations\":[],\"categories\":[]}",
                                        "{\"images\":[NaN]}",
                                        DOCUMENT("") " {}",
                                        "\x1f\x8b\x08",
                                        "{\"a\":\"\xff\xfe\"}",
                                        "// x\n{}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(try_text(texts[i], strlen(texts[i])), STATUS_DATA);
        assert_true(error_cause()[0] != '\0');
    }
    char *deep = malloc(1 << 20);
    memset(deep, '[', 1 << 20);
    memcpy(deep, "{\"x\":", 5);
    assert_int_equal(try_text(deep, 1 << 20), STATUS_DATA);
    assert_non_null(strstr(error_cause(), "deeper than 64"));
    free(deep);
    coco_index *index = NULL;
    assert_int_equal(coco_index_open(&index, in_folder("absent.json"), NULL), STATUS_NO_INPUT);
    assert_int_equal(coco_index_open(&index, test_folder, NULL), STATUS_NO_INPUT);
}

/* A file longer than the parser's 1 MB pieces: tokens are cut at every kind of place. */
static void test_long_file(void **state) {
    (void)state;
    size_t room = 4 << 20, at;
    char *text = malloc(room);
    at = (size_t)snprintf(text, room, "{" IMAGES "," CATEGORIES ",\"annotations\":[");
    for (int i = 0; i < 20000; i++)
        at += (size_t)snprintf(text + at, room - at,
                               "%s{\"id\":%lld,\"image_id\":%d,\"category_id\":2,\"bbox\":[0.25,0,5,5],"
                               "\"note\":\"%d\\u00e9\xC3\xA9\"," SQUARE "}\n",
                               i ? "," : "", 9007199254740993LL + i, i % 2 ? 5 : 7, i);
    at += (size_t)snprintf(text + at, room - at, "]}");
    assert_true(at > 2 << 20);
    coco_index *index = NULL;
    assert_int_equal(coco_index_open(&index, write_bytes("long.json", text, at), NULL), STATUS_OK);
    assert_int_equal(coco_index_annotation_count(index), 20000);
    assert_int_equal(count_all(index), 0);
    for (uint32_t i = 0; i < 20000; i++) {
        const coco_annotation *a = coco_index_annotation(index, i);
        assert_true(a->id == 9007199254740993LL + (i < 10000 ? 2 * i : 2 * (i - 10000) + 1));
        assert_true(a->box[0] == 0.25 && a->count == 1);
    }
    coco_index_free(index);
    text[at / 2] = '\x01';
    assert_int_equal(try_text(text, at), STATUS_DATA);
    free(text);
}

static void flip_byte(const char *path, long at) {
    FILE *file = fopen(path, "r+be");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    int c = fgetc(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    fputc(c ^ 1, file);
    assert_int_equal(fclose(file), 0);
}

static void test_kept_index(void **state) {
    (void)state;
    coco_options options = coco_options_default();
    options.keep_from_bytes = 0;
    const char *path = write_text("kept.json", DOCUMENT(PLAIN_ANNOTATIONS));
    char kept[PATH_MAX];
    bool reused;
    coco_index *index = NULL;
    assert_int_equal(coco_index_open(&index, path, &options), STATUS_OK);
    snprintf(kept, sizeof kept, "%s", coco_index_kept_at(index, &reused));
    assert_false(reused);
    assert_string_equal(kept, in_folder(".kept.json.index"));
    check_plain(index);
    coco_index_free(index);
    assert_int_equal(coco_index_open(&index, path, &options), STATUS_OK);
    coco_index_kept_at(index, &reused);
    assert_true(reused);
    check_plain(index);
    coco_index_free(index);

    /* damaged anywhere, too short, too long, empty: made anew, never used */
    struct stat info;
    assert_int_equal(stat(kept, &info), 0);
    for (long at = 0; at < info.st_size; at += at < 400 ? 1 : 37) {
        flip_byte(kept, at);
        assert_int_equal(coco_index_open(&index, path, &options), STATUS_OK);
        coco_index_kept_at(index, &reused);
        if (reused) print_message("byte %ld\n", at);
        assert_false(reused);
        check_plain(index);
        coco_index_free(index);
    }
    static const long lengths[] = {0, 1, 100, -1, 8};
    for (int i = 0; i < 5; i++) {
        long length = lengths[i] > 0 && lengths[i] < 100 ? info.st_size + lengths[i]
                      : lengths[i] < 0                   ? info.st_size - 1
                                                         : lengths[i];
        assert_int_equal(truncate(kept, length), 0);
        assert_int_equal(coco_index_open(&index, path, &options), STATUS_OK);
        coco_index_kept_at(index, &reused);
        assert_false(reused);
        check_plain(index);
        coco_index_free(index);
    }

    /* another content of the same size and time: stale */
    assert_int_equal(stat(path, &info), 0);
    char *other = strdup(DOCUMENT(PLAIN_ANNOTATIONS));
    *strchr(other, '7') = '8'; /* the first image's id */
    write_text("kept.json", other);
    free(other);
    struct timespec times[2] = {info.st_atim, info.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(coco_index_open(&index, path, &options), STATUS_OK);
    coco_index_kept_at(index, &reused);
    assert_false(reused);
    assert_int_equal(coco_index_find_image(index, 8), 0);
    coco_index_free(index);
    unlink(kept);
}

static void test_places_of_the_index(void **state) {
    (void)state;
    coco_options options = coco_options_default();
    options.keep_from_bytes = 0;
    options.index_dir = in_folder("cache");
    assert_int_equal(mkdir(options.index_dir, 0755), 0);
    const char *path = write_text("placed.json", DOCUMENT(PLAIN_ANNOTATIONS));
    coco_index *index = NULL;
    assert_int_equal(coco_index_open(&index, path, &options), STATUS_OK);
    assert_non_null(strstr(coco_index_kept_at(index, NULL), "/cache/.placed.json."));
    coco_index_free(index);
    options.index_dir = in_folder("no/such/folder");
    assert_int_equal(coco_index_open(&index, path, &options), STATUS_OK);
    assert_string_equal(coco_index_kept_at(index, NULL), "");
    check_plain(index);
    coco_index_free(index);
}

static void test_real_files(void **state) {
    (void)state;
    static const struct {
        const char *folder, *file;
        uint64_t images, annotations, categories, crowd, polygons, rle;
    } cases[] = {{"coco_subset_val80", "instances_val2017.json", 80, 815, 80, 11, 804, 11},
                 {"fruits_nuts", "trainval.json", 18, 165, 3, 0, 165, 0},
                 {"terrain_jpeg_png", "combined_coco.json", 2, 12, 3, 0, 12, 0},
                 {"eval_val2014_100", "instances_val2014_100.json", 100, 839, 80, 9, 830, 9}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *folder = shared_data(cases[i].folder);
        if (!folder) continue;
        char path[2 * PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", folder, cases[i].file);
        coco_index *index = NULL;
        assert_int_equal(coco_index_open(&index, path, NULL), STATUS_OK);
        coco_summary sum = coco_index_summarize(index);
        assert_int_equal(sum.images, cases[i].images);
        assert_int_equal(sum.annotations, cases[i].annotations);
        assert_int_equal(coco_index_category_count(index), cases[i].categories);
        assert_int_equal(sum.crowd, cases[i].crowd);
        uint64_t kinds[3] = {0};
        for (uint32_t k = 0; k < coco_index_annotation_count(index); k++)
            kinds[coco_index_annotation(index, k)->mask_kind]++;
        assert_int_equal(kinds[COCO_MASK_POLYGONS], cases[i].polygons);
        assert_int_equal(kinds[COCO_MASK_RLE], cases[i].rle);
        coco_index_report(index);
        coco_index_free(index);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_any_order_of_keys),
        cmocka_unit_test(test_exact_and_text_ids),
        cmocka_unit_test(test_duplicate_keys),
        cmocka_unit_test(test_findings_one_by_one),
        cmocka_unit_test(test_images_and_categories),
        cmocka_unit_test(test_rle),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_long_file),
        cmocka_unit_test(test_kept_index),
        cmocka_unit_test(test_places_of_the_index),
        cmocka_unit_test(test_real_files),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
