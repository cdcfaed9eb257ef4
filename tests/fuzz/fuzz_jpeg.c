/* The JPEG reader (and the EXIF parser in it) on arbitrary bytes. */
#include "base/check.h"
#include "data/image_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const image_limits limits = {
        .max_pixels = 1 << 18, .max_jpeg_scans = 20, .max_file_bytes = 1 << 20};
    static image_buffer image;
    image_header header;
    if (image_format_of(data, size) != IMAGE_JPEG) return -1; /* not worth keeping */
    status s = image_decode_header(&header, data, size, &limits);
    if (s == STATUS_OK) CHECK((int64_t)header.height * header.width <= limits.max_pixels, "limit kept");
    if (image_decode(&image, data, size, &limits) != STATUS_OK) {
        CHECK(error_cause()[0], "a refusal says why");
        return 0;
    }
    CHECK(s == STATUS_OK && image.height == header.height && image.width == header.width, "sizes agree");
    CHECK(image.capacity >= (size_t)image.height * (size_t)image.width * 3, "room for every pixel");
    return 0;
}
