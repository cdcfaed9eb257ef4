#include "draw/plate.h"

#include <cairo-ft.h>
#include <fontconfig/fontconfig.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "draw/palette.h"

#define ELLIPSIS "\xe2\x80\xa6"
#define REPLACEMENT "\xef\xbf\xbd"

static bool add_characters(FcCharSet *set, const char *text) {
    bool beyond_ascii = false;
    for (size_t length; *text; text += length) {
        FcChar32 character;
        length = text_utf8_length(text, SIZE_MAX);
        if (length == 0) break;
        if (FcUtf8ToUcs4((const FcChar8 *)text, &character, (int)length) > 0)
            FcCharSetAddChar(set, character);
        beyond_ascii |= length > 1;
    }
    return beyond_ascii;
}

/* The installed font that has most of the characters; of equals the first sans-serif one. NULL without any. */
static FcPattern *match_font(FcCharSet *characters) {
    FcPattern *pattern = FcPatternCreate(), *match = NULL;
    if (!pattern) return NULL;
    FcResult result;
    FcPatternAddString(pattern, FC_FAMILY, (const FcChar8 *)"sans-serif");
    FcPatternAddCharSet(pattern, FC_CHARSET, characters);
    if (FcConfigSubstitute(NULL, pattern, FcMatchPattern)) {
        FcDefaultSubstitute(pattern);
        match = FcFontMatch(NULL, pattern, &result);
    }
    FcPatternDestroy(pattern);
    return match;
}

void text_set_font(cairo_t *cr, const char *text, double pixels) {
    cairo_set_font_size(cr, pixels);
    cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    FcCharSet *characters = FcCharSetCreate();
    FcPattern *match = characters && add_characters(characters, text) ? match_font(characters) : NULL;
    if (match) {
        cairo_font_face_t *face = cairo_ft_font_face_create_for_pattern(match);
        if (cairo_font_face_status(face) == CAIRO_STATUS_SUCCESS) cairo_set_font_face(cr, face);
        cairo_font_face_destroy(face);
        FcPatternDestroy(match);
    }
    if (characters) FcCharSetDestroy(characters);
}

/* The next character of `text` as it may be shown, and how many bytes of `text` it stands for. */
static const char *next_character(size_t *shown, size_t *taken, const char *text) {
    size_t length = text_utf8_length(text, SIZE_MAX);
    bool control = length == 1 && ((unsigned char)*text < ' ' || *text == 127);
    const char *piece = length == 0 ? REPLACEMENT : control ? " " : text;
    *taken = length == 0 ? 1 : length;
    *shown = length == 0 ? strlen(REPLACEMENT) : length;
    return piece;
}

void text_clean(char *out, size_t size, const char *text) {
    size_t used = 0, shown, taken;
    for (; *text; text += taken) {
        const char *piece = next_character(&shown, &taken, text);
        if (used + shown >= size) break;
        memcpy(out + used, piece, shown);
        used += shown;
    }
    out[used] = '\0';
}

double text_width(cairo_t *cr, const char *text) {
    cairo_text_extents_t extents;
    cairo_text_extents(cr, text, &extents);
    return extents.x_advance;
}

void text_line(double *height, double *ascent, cairo_t *cr) {
    cairo_font_extents_t extents;
    cairo_font_extents(cr, &extents);
    *height = ceil(extents.ascent) + ceil(extents.descent);
    *ascent = ceil(extents.ascent);
}

void text_draw(cairo_t *cr, const char *text, double x, double baseline) {
    cairo_move_to(cr, x, baseline);
    cairo_show_text(cr, text);
    cairo_new_path(cr); /* showing text leaves a current point */
}

/* Start of the last character of the first `length` bytes. */
static size_t before_last(const char *text, size_t length) {
    if (length > 0) length--;
    while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80) length--;
    return length;
}

void text_fit(char out[PLATE_TEXT], cairo_t *cr, const char *name, const char *tail, double width) {
    char clean[PLATE_TEXT - 64];
    text_clean(clean, sizeof clean, name);
    snprintf(out, PLATE_TEXT, "%s%.48s", clean, tail);
    for (size_t length = strlen(clean); length > 0 && text_width(cr, out) > width;) {
        length = before_last(clean, length);
        snprintf(out, PLATE_TEXT, "%.*s" ELLIPSIS "%.48s", (int)length, clean, tail);
    }
}

static double overlap(double a1, double a2, double b1, double b2) {
    return fmax(0, fmin(a2, b2) - fmax(a1, b1));
}

static double covered(int x, int y, const plate *p, const double box[4]) {
    return overlap(x, x + p->width, box[0], box[2]) * overlap(y, y + p->height, box[1], box[3]);
}

/* Pixels of other plates that would be covered, and a little for the object itself where it is small. */
static double cost_at(int x, int y, const plate *p, const double box[4], const plate *placed, int count) {
    double cost = 0, area = (box[2] - box[0]) * (box[3] - box[1]);
    for (int i = 0; i < count; i++) {
        const plate *o = &placed[i];
        cost += covered(x, y, p, (const double[]){o->x, o->y, o->x + o->width, o->y + o->height});
    }
    double own = covered(x, y, p, box);
    return cost + (area < 8.0 * p->width * p->height ? 0.25 * own : 0);
}

static int keep_within(double at, int size, int limit) {
    double last = limit > size ? limit - size : 0;
    return (int)lround(fmax(0, fmin(at, last)));
}

void plate_place(plate *p, const double around[4], const plate *placed, int count, int picture_width,
                 int picture_height) {
    const double box[4] = {floor(around[0]), floor(around[1]), ceil(around[2]), ceil(around[3])};
    double w = p->width, h = p->height, right = box[2] - w, middle = (box[1] + box[3] - h) / 2;
    const double places[][2] = {
        {box[0], box[1] - h},     {box[0], box[1]},     {box[0], box[3]},     {right, box[1] - h},
        {right, box[1]},          {right, box[3]},      {box[0], box[3] - h}, {right, box[3] - h},
        {box[2], box[1]},         {box[0] - w, box[1]}, {box[0], box[1] + h}, {box[0], box[1] - 2 * h},
        {box[0], box[1] + 2 * h}, {box[0], box[3] + h}, {box[0], middle},     {right, middle},
        {box[0], box[1] + 3 * h}, {box[2], middle},     {box[0] - w, middle}, {(box[0] + right) / 2, middle}};
    double best = INFINITY;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int x = keep_within(places[i][0], p->width, picture_width);
        int y = keep_within(places[i][1], p->height, picture_height);
        double cost = cost_at(x, y, p, box, placed, count) + 0.001 * (double)i;
        if (cost >= best) continue;
        best = cost;
        p->x = x;
        p->y = y;
    }
}

void plate_draw(cairo_t *cr, const plate *p) {
    text_set_font(cr, p->text, p->font_pixels);
    double height, ascent, ink = colour_wants_black(p->colour) ? 0 : 1;
    cairo_set_source_rgb(cr, p->colour[0] / 255.0, p->colour[1] / 255.0, p->colour[2] / 255.0);
    cairo_rectangle(cr, p->x, p->y, p->width, p->height);
    cairo_fill(cr);
    cairo_set_source_rgba(cr, 0, 0, 0, 0.45); /* a plate over a mask of its own colour needs an edge */
    cairo_set_line_width(cr, 1);
    cairo_rectangle(cr, p->x + 0.5, p->y + 0.5, p->width - 1, p->height - 1);
    cairo_stroke(cr);
    text_line(&height, &ascent, cr);
    cairo_set_source_rgb(cr, ink, ink, ink);
    text_draw(cr, p->text, p->x + 3, p->y + floor((p->height - height) / 2) + ascent);
}
