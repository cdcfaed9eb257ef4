/* Names in a script that the machine's sans-serif font lacks are written in an installed font that has it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fontconfig/fontconfig.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "draw/plate.h"

/* Without the distribution's preferences the first sans-serif font of all installed ones is an odd one. */
static const char no_preferences[] =
    "<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"fonts.dtd\"><fontconfig>"
    "<dir>/usr/share/fonts</dir></fontconfig>";
static const char hebrew[] = "\xd7\x90\xd7\x92\xd7\x95\xd7\x96";

static cairo_t *cr;

/* Characters of `text` that the context's font has no glyph for. */
static int missing_glyphs(const char *text) {
    cairo_glyph_t *glyphs = NULL;
    int count = 0, missing = 0;
    assert_int_equal(cairo_scaled_font_text_to_glyphs(cairo_get_scaled_font(cr), 0, 0, text, -1, &glyphs,
                                                      &count, NULL, NULL, NULL),
                     CAIRO_STATUS_SUCCESS);
    for (int i = 0; i < count; i++) missing += glyphs[i].index == 0;
    cairo_glyph_free(glyphs);
    return missing;
}

static void a_font_that_has_the_characters(void **state) {
    (void)state;
    text_set_font(cr, "fig", 15);
    assert_int_equal(missing_glyphs("fig"), 0);
    text_set_font(cr, hebrew, 15);
    assert_int_equal(missing_glyphs(hebrew), 0);
    text_set_font(cr, "\xf4\x8f\xbf\xbd", 15); /* nobody has this one */
    assert_int_equal(missing_glyphs("fig"), 0);
    assert_int_equal(cairo_status(cr), CAIRO_STATUS_SUCCESS);
}

/* Whether there is something to choose: a font has Hebrew, but not the one for other text. */
static bool can_choose(void) {
    FcPattern *pattern = FcNameParse((const FcChar8 *)":charset=05d0");
    FcObjectSet *family = FcObjectSetBuild(FC_FAMILY, (char *)NULL);
    FcFontSet *fonts = FcFontList(NULL, pattern, family);
    bool installed = fonts && fonts->nfont > 0;
    if (fonts) FcFontSetDestroy(fonts);
    FcObjectSetDestroy(family);
    FcPatternDestroy(pattern);
    text_set_font(cr, "fig", 15);
    return installed && missing_glyphs(hebrew) > 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_font_that_has_the_characters)};
    char folder[] = "/tmp/test_plate_fonts_XXXXXX", path[64];
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/fonts.conf", folder);
    FILE *f = fopen(path, "we");
    if (!f || fputs(no_preferences, f) < 0 || fclose(f) != 0 || setenv("FONTCONFIG_FILE", path, 1) != 0)
        return 1;
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, 64, 64);
    cr = cairo_create(surface);
    bool can = can_choose();
    if (!can) puts("skipped: no font for Hebrew besides the one for everything");
    int failed = can ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
    cairo_destroy(cr);
    cairo_surface_destroy(surface);
    unlink(path);
    return rmdir(folder) == 0 ? failed : 1;
}
