/* A colour for every class, the same in every picture: a function of the class's number alone. */
#ifndef DRAW_PALETTE_H
#define DRAW_PALETTE_H

#include <stdbool.h>
#include <stdint.h>

/* Red, green and blue of class 0, 1, ... Hues go round by the golden angle, so neighbours are far apart; saturation and
 * brightness take turns, so that hues which come close are told apart. Negative numbers are gray. */
void class_colour(uint8_t rgb[3], int32_t label);

/* Whether black text reads better on this colour than white (contrast of WCAG 2). */
bool colour_wants_black(const uint8_t rgb[3]);

#endif
