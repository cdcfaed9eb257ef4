/* EXIF orientation: TIFF 6.0 directory 0, tag 0x0112 (Exif 2.3, 4.6.4). Nothing else of the block is looked
 * at. */
#include "data/image_codec.h"

#include <string.h>

static uint32_t get16(const uint8_t *p, bool big) {
    return big ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t get32(const uint8_t *p, bool big) {
    return big ? get16(p, big) << 16 | get16(p + 2, big) : get16(p + 2, big) << 16 | get16(p, big);
}

int image_exif_orientation(const uint8_t *tiff, size_t size) {
    enum { ENTRY_BYTES = 12, TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, TYPE_LONG = 4 };
    if (size < 8) return 1;
    bool big = tiff[0] == 'M';
    if (memcmp(tiff, big ? "MM" : "II", 2) != 0 || get16(tiff + 2, big) != 42) return 1;
    size_t directory = get32(tiff + 4, big);
    if (directory > size - 2) return 1;
    size_t entries = get16(tiff + directory, big), room = (size - directory - 2) / ENTRY_BYTES;
    if (entries > room) entries = room;
    for (size_t i = 0; i < entries; i++) {
        const uint8_t *entry = tiff + directory + 2 + i * ENTRY_BYTES;
        if (get16(entry, big) != TAG_ORIENTATION) continue;
        uint32_t type = get16(entry + 2, big), count = get32(entry + 4, big), value = 0;
        if (type == TYPE_SHORT) value = get16(entry + 8, big);
        if (type == TYPE_LONG) value = get32(entry + 8, big);
        return count == 1 && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

/* In stored pixels, the upright picture starts at one of the corners and walks along x or y, up or down. */
void image_turn_upright(uint8_t *upright, const uint8_t *stored, int height, int width, int orientation) {
    enum { TILE = 32 };
    bool exchange = orientation >= 5;
    bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    ptrdiff_t along_x = from_right ? -3 : 3, along_y = (from_bottom ? -3 : 3) * (ptrdiff_t)width;
    const uint8_t *corner = stored;
    if (from_right) corner += (ptrdiff_t)(width - 1) * 3;
    if (from_bottom) corner += (ptrdiff_t)(height - 1) * width * 3;
    ptrdiff_t step_x = exchange ? along_y : along_x, step_y = exchange ? along_x : along_y;
    int out_height = exchange ? width : height, out_width = exchange ? height : width;
    for (int y0 = 0; y0 < out_height; y0 += TILE)
        for (int x0 = 0; x0 < out_width; x0 += TILE)
            for (int y = y0; y < out_height && y < y0 + TILE; y++) {
                uint8_t *to = upright + ((size_t)y * (size_t)out_width + (size_t)x0) * 3;
                const uint8_t *from = corner + y * step_y + x0 * step_x;
                for (int x = x0; x < out_width && x < x0 + TILE; x++, to += 3, from += step_x) {
                    to[0] = from[0];
                    to[1] = from[1];
                    to[2] = from[2];
                }
            }
}
