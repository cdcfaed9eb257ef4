/* The COCO reader and index builder on arbitrary bytes: every index that comes out passes its own checks, and what it
 * points to can be read. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "data/coco_index_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Builds the index as coco_index_open does, in memory. */
static void check_index(raw_coco *raw) {
    coco_tables built, mapped;
    coco_source source = {raw->bytes, raw->digest, 0};
    uint64_t annotations = raw->annotation_count;
    CHECK(coco_build(&built, raw, "input") == STATUS_OK, "%s", error_cause());
    CHECK(built.annotations_count <= annotations, "annotations come from the file");
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && coco_index_write(fd, &built, &source, "input") == STATUS_OK, "%s", error_cause());
    void *base;
    size_t bytes;
    CHECK(coco_index_map(&mapped, &base, &bytes, fd, &source) == STATUS_OK, "%s", error_cause());
    CHECK(mapped.annotations_count == built.annotations_count, "the same index");
    for (size_t i = 0; i < mapped.annotations_count; i++) {
        const coco_annotation *a = &mapped.annotations[i];
        double sum = 0;
        for (uint32_t k = 0, at = 0; a->mask_kind == COCO_MASK_POLYGONS && k < a->count;
             at += mapped.parts[a->part + k++])
            for (uint32_t n = 0; n < mapped.parts[a->part + k]; n++)
                sum += mapped.coordinates[a->data + at + n];
        CHECK(sum == sum, "finite coordinates");
    }
    munmap(base, bytes);
    close(fd);
    coco_tables_release(&built);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    raw_coco raw;
    error_clear();
    status s = coco_parse_bytes(&raw, data, size, "input");
    if (s == STATUS_OK)
        check_index(&raw);
    else
        CHECK(error_cause()[0], "a refusal says why");
    raw_coco_release(&raw);
    return 0;
}
