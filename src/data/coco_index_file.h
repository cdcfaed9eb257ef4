/* The packed index on disk and in memory: one header, then sections of fixed-size records, little-endian as
 * the machine writes them. Made by coco_build, mapped read-only, checked completely before use. */
#ifndef DATA_COCO_INDEX_FILE_H
#define DATA_COCO_INDEX_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "data/coco_index.h"
#include "data/coco_parse.h"

/* Section, type of its elements. Each starts at a multiple of 8. Order and types are part of the version. */
#define COCO_SECTIONS(SECTION)                                                                               \
    SECTION(images, coco_image)                                                                              \
    SECTION(annotations, coco_annotation)                                                                    \
    SECTION(categories, coco_category)                                                                       \
    SECTION(findings, coco_finding)                                                                          \
    SECTION(coordinates, double)                                                                             \
    SECTION(images_by_id, uint32_t)                                                                          \
    SECTION(parts, uint32_t)                                                                                 \
    SECTION(runs, uint32_t)                                                                                  \
    SECTION(strings, char)

enum {
#define SECTION(name, type) COCO_SECTION_##name,
    COCO_SECTIONS(SECTION)
#undef SECTION
        COCO_SECTION_COUNT
};

/* What an index was made from. */
typedef struct coco_source {
    uint64_t bytes, digest;
    int64_t mtime_ns;
} coco_source;

typedef struct coco_index_header {
    char magic[8];
    uint32_t version, byte_order;
    uint64_t file_bytes;
    uint64_t checksum; /* XXH64 of everything behind the header, xor that of the header with this field 0 */
    coco_source source;
    uint64_t annotations_in_file;
    struct {
        uint64_t offset, count; /* offset in bytes from the start, count in elements */
    } sections[COCO_SECTION_COUNT];
} coco_index_header;

/* Pointers into a mapping (or, while building, to separate arrays). */
typedef struct coco_tables {
#define SECTION(name, type)                                                                                  \
    type *name;                                                                                              \
    size_t name##_count;
    COCO_SECTIONS(SECTION)
#undef SECTION
    uint64_t annotations_in_file;
} coco_tables;

/* Resolves ids, checks every annotation and takes what it needs out of `raw`. The tables are owned by the
 * caller. */
status coco_build(coco_tables *out, raw_coco *raw, const char *path);
void coco_tables_release(coco_tables *tables);

/* Writes an index at the start of `fd`. */
status coco_index_write(int fd, const coco_tables *tables, const coco_source *source, const char *path);

/* Maps the index in `fd` and checks magic, version, size, checksum and every offset in it; when `source` is
 * not NULL it must also have been made from it. STATUS_DATA says what is wrong (a stale index is not worth a
 * warning; the caller makes a new one). munmap(*base, *size) ends the use of *out. */
status coco_index_map(coco_tables *out, void **base, size_t *size, int fd, const coco_source *source);

#endif
