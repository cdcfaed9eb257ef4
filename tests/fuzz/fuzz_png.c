/* The PNG reader on arbitrary bytes: as they are, and with the checksums of the chunks put right, without which hardly
 * any mutation would get past the first one. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/check.h"
#include "data/image_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void repair_checksums(uint8_t *png, size_t size) {
    size_t at = 8;
    while (size >= at && size - at >= 12) {
        size_t length =
            (size_t)png[at] << 24 | (size_t)png[at + 1] << 16 | (size_t)png[at + 2] << 8 | png[at + 3];
        if (length > size - at - 12) return;
        uLong crc = crc32(0, png + at + 4, (uInt)length + 4);
        for (int i = 0; i < 4; i++) png[at + 8 + length + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += length + 12;
    }
}

static void decode(const uint8_t *data, size_t size) {
    static const image_limits limits = {
        .max_pixels = 1 << 18, .max_jpeg_scans = 20, .max_file_bytes = 1 << 20};
    static image_buffer image;
    image_header header;
    status s = image_decode_header(&header, data, size, &limits);
    if (image_decode(&image, data, size, &limits) != STATUS_OK) {
        CHECK(error_cause()[0], "a refusal says why");
        return;
    }
    CHECK(s == STATUS_OK && image.height == header.height && image.width == header.width, "sizes agree");
    CHECK(image.capacity >= (size_t)image.height * (size_t)image.width * 3, "room for every pixel");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (image_format_of(data, size) != IMAGE_PNG) return -1; /* not worth keeping */
    decode(data, size);
    uint8_t *repaired = malloc(size);
    if (!repaired) return 0;
    memcpy(repaired, data, size);
    repair_checksums(repaired, size);
    decode(repaired, size);
    free(repaired);
    return 0;
}
