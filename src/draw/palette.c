#include "draw/palette.h"

#include <math.h>
#include <string.h>

#define FIRST_HUE 80.0
#define GOLDEN_ANGLE 137.50776405003785

/* Found by trying: of the first 20 classes no two colours are closer than 32 in CIELAB. */
static const struct { double saturation, value; } turns[] = {{1.0, 1.0}, {1.0, 0.6}, {0.5, 1.0}};

static uint8_t hsv_channel(double offset, double hue, double saturation, double value) {
    double k = fmod(offset + hue / 60, 6), ramp = fmax(0, fmin(fmin(k, 4 - k), 1));
    return (uint8_t)lround(255 * value * (1 - saturation * ramp));
}

void class_colour(uint8_t rgb[3], int32_t label) {
    if (label < 0) {
        memset(rgb, 160, 3);
        return;
    }
    double hue = fmod(FIRST_HUE + label * GOLDEN_ANGLE, 360);
    int turn = label % (int)(sizeof turns / sizeof *turns);
    for (int c = 0; c < 3; c++)
        rgb[c] = hsv_channel(5 - 2 * c, hue, turns[turn].saturation, turns[turn].value);
}

static double linear_light(uint8_t v) {
    double x = v / 255.0;
    return x <= 0.04045 ? x / 12.92 : pow((x + 0.055) / 1.055, 2.4);
}

bool colour_wants_black(const uint8_t rgb[3]) {
    double luminance =
        0.2126 * linear_light(rgb[0]) + 0.7152 * linear_light(rgb[1]) + 0.0722 * linear_light(rgb[2]);
    return (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05);
}
