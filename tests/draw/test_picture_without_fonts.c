/* A machine without a single font: pictures are drawn all the same, with the font that cairo brings along. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/image_read.h"
#include "draw/picture.h"

static const char no_fonts[] =
    "<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"fonts.dtd\"><fontconfig></fontconfig>";

static void a_plate_has_text(void **state) {
    (void)state;
    static uint8_t pixels[100 * 200 * 3];
    memset(pixels, 90, sizeof pixels);
    picture *p;
    picture_instance item = {.box = {40, 40, 160, 90}, .name = "n\xc3\xbcsse", .score = 0.5, .label = 0};
    assert_int_equal(picture_new(&p, pixels, 100, 200, 2), STATUS_OK);
    assert_int_equal(picture_draw(p, &item, 1), STATUS_OK);
    assert_int_equal(picture_write(p, "p.png"), STATUS_OK);
    picture_free(p);
    image_buffer got = {0};
    assert_int_equal(image_read(&got, "p.png", NULL), STATUS_OK);
    int dark = 0;
    for (size_t i = 0; i < 200 * 400 * 3; i += 3)
        dark += got.pixels[i] < 60 && got.pixels[i + 1] < 60 && got.pixels[i + 2] < 60;
    assert_in_range(dark, 20, 1000);
    image_buffer_release(&got);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_plate_has_text)};
    char folder[] = "/tmp/test_without_fonts_XXXXXX", path[64];
    if (!picture_built_in()) {
        puts("skipped: built without cairo");
        return 77;
    }
    if (!mkdtemp(folder) || chdir(folder) != 0) return 1;
    snprintf(path, sizeof path, "%s/fonts.conf", folder);
    FILE *f = fopen(path, "we");
    if (!f || fputs(no_fonts, f) < 0 || fclose(f) != 0 || setenv("FONTCONFIG_FILE", path, 1) != 0) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink("fonts.conf");
    unlink("p.png");
    return chdir("/") == 0 && rmdir(folder) == 0 ? failed : 1;
}
