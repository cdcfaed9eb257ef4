/* Text on cairo contexts, and name plates that keep clear of each other. */
#ifndef DRAW_PLATE_H
#define DRAW_PLATE_H

#include <cairo.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

enum { PLATE_TEXT = 512 };

/* Chooses a font, `pixels` high, that has the characters of `text` where one is installed; a sans-serif one for ASCII. */
void text_set_font(cairo_t *cr, const char *text, double pixels);

/* `text` as cairo takes it: UTF-8, control characters as spaces, other bytes as U+FFFD; what does not fit `size` is cut off
 * between characters. */
void text_clean(char *out, size_t size, const char *text);

/* `name` and behind it `tail` ("" for none), at most `width` wide: the name is shortened to end in an ellipsis. */
void text_fit(char out[PLATE_TEXT], cairo_t *cr, const char *name, const char *tail, double width);

/* Height of a line of text, and how far its baseline lies below its top. */
void text_line(double *height, double *ascent, cairo_t *cr);
void text_draw(cairo_t *cr, const char *text, double x, double baseline);
double text_width(cairo_t *cr, const char *text);

typedef struct plate {
    int x, y, width, height; /* in pixels of the picture */
    double font_pixels;
    uint8_t colour[3];
    char text[PLATE_TEXT];
} plate;

/* Places a plate of p->width x p->height at one of the corners of a box (x1 y1 x2 y2, in pixels of the picture): inside the
 * picture if it fits at all, where it covers the `count` plates placed before least, and little of a small box. */
void plate_place(plate *p, const double around[4], const plate *placed, int count, int picture_width,
                 int picture_height);

void plate_draw(cairo_t *cr, const plate *p);

#endif
