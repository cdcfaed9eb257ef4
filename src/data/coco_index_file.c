#include "data/coco_index_file.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/content_hash.h"
#include "base/round_up.h"

static const char index_magic[8] = {'M', 'R', 'C', 'N', 'C', 'O', 'C', 'O'};
enum { INDEX_VERSION = 1, INDEX_BYTE_ORDER = 0x01020304, SECTION_ALIGNMENT = 8 };

static const size_t element_bytes[COCO_SECTION_COUNT] = {
#define SECTION(name, type) sizeof(type),
    COCO_SECTIONS(SECTION)
#undef SECTION
};

static status write_at(int fd, const void *bytes, size_t size, uint64_t offset, const char *path) {
    const char *at = bytes;
    while (size > 0) {
        ssize_t done = pwrite(fd, at, size, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0)
            return error_set(STATUS_IO, "make room on the disk", "%s: cannot write the index: %s", path,
                             done == 0 ? "nothing written" : strerror(errno));
        at += done;
        size -= (size_t)done;
        offset += (uint64_t)done;
    }
    return STATUS_OK;
}

static uint64_t header_checksum(const coco_index_header *header) {
    coco_index_header copy = *header;
    copy.checksum = 0;
    return content_hash_of(&copy, sizeof copy);
}

status coco_index_write(int fd, const coco_tables *tables, const coco_source *source, const char *path) {
    const struct {
        const void *data;
        size_t count;
    } sections[COCO_SECTION_COUNT] = {
#define SECTION(name, type) {tables->name, tables->name##_count},
        COCO_SECTIONS(SECTION)
#undef SECTION
    };
    coco_index_header header;
    memset(&header, 0, sizeof header);
    memcpy(header.magic, index_magic, sizeof index_magic);
    header.version = INDEX_VERSION;
    header.byte_order = INDEX_BYTE_ORDER;
    header.source = *source;
    header.annotations_in_file = tables->annotations_in_file;
    uint64_t at = round_up(sizeof header, SECTION_ALIGNMENT);
    content_hash hash;
    content_hash_init(&hash);
    for (int i = 0; i < COCO_SECTION_COUNT; i++) {
        static const char zeros[8];
        size_t bytes = sections[i].count * element_bytes[i],
               gap = (size_t)(round_up(bytes, SECTION_ALIGNMENT) - bytes);
        header.sections[i].offset = at;
        header.sections[i].count = sections[i].count;
        if (bytes) {
            RETURN_IF_ERROR(write_at(fd, sections[i].data, bytes, at, path));
            content_hash_update(&hash, sections[i].data, bytes);
        }
        RETURN_IF_ERROR(write_at(fd, zeros, gap, at + bytes, path));
        content_hash_update(&hash, zeros, gap);
        at += bytes + gap;
    }
    header.file_bytes = at;
    header.checksum = content_hash_digest(&hash) ^ header_checksum(&header);
    return write_at(fd, &header, sizeof header, 0, path);
}

static status damaged(const char *what) {
    return error_set(STATUS_DATA, "delete the index file", "damaged annotation index: %s", what);
}

static bool range_inside(uint64_t first, uint64_t count, uint64_t total) {
    return first <= total && count <= total - first;
}

static bool text_inside(const coco_tables *t, uint64_t offset) {
    return offset < t->strings_count && memchr(t->strings + offset, 0, t->strings_count - offset);
}

static bool annotation_inside(const coco_tables *t, const coco_annotation *a) {
    if (a->image >= t->images_count || a->category >= t->categories_count) return false;
    const coco_image *image = &t->images[a->image];
    const int32_t *box = a->mask_box;
    if (box[0] < 0 || box[1] < 0 || box[2] < 0 || box[3] < 0 || box[2] > image->width - box[0] ||
        box[3] > image->height - box[1])
        return false;
    if (a->mask_kind == COCO_MASK_NONE) return true;
    if (a->mask_kind == COCO_MASK_RLE) {
        if (!range_inside(a->data, a->count, t->runs_count)) return false;
        uint64_t pixels = 0;
        for (uint32_t i = 0; i < a->count; i++) pixels += t->runs[a->data + i];
        return pixels == (uint64_t)image->width * (uint64_t)image->height;
    }
    if (a->mask_kind != COCO_MASK_POLYGONS || a->count == 0 ||
        !range_inside(a->part, a->count, t->parts_count))
        return false;
    uint64_t numbers = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        uint32_t n = t->parts[a->part + i];
        if (n < 6 || n % 2) return false;
        numbers += n;
    }
    return range_inside(a->data, numbers, t->coordinates_count);
}

static status check_tables(const coco_tables *t) {
    if (t->strings_count == 0 || t->strings[t->strings_count - 1] != '\0')
        return damaged("unterminated strings");
    if (t->findings_count != COCO_ISSUE_COUNT) return damaged("findings");
    if (t->images_by_id_count != t->images_count) return damaged("order of the images");
    for (size_t i = 0; i < t->findings_count; i++)
        for (int k = 0; k < COCO_ISSUE_EXAMPLES; k++)
            if (!memchr(t->findings[i].examples[k], 0, COCO_EXAMPLE_SIZE)) return damaged("findings");
    uint64_t next = 0;
    for (size_t i = 0; i < t->images_count; i++) {
        const coco_image *image = &t->images[i];
        if (t->images_by_id[i] >= t->images_count) return damaged("order of the images");
        if (image->width < 1 || image->width > 65535 || image->height < 1 || image->height > 65535 ||
            !text_inside(t, image->file_name) || image->first_annotation != next ||
            !range_inside(next, image->annotation_count, t->annotations_count))
            return damaged("an image");
        for (uint32_t k = 0; k < image->annotation_count; k++)
            if (t->annotations[next + k].image != i) return damaged("an annotation's image");
        next += image->annotation_count;
    }
    if (next != t->annotations_count) return damaged("number of annotations");
    for (size_t i = 0; i < t->categories_count; i++)
        if (!text_inside(t, t->categories[i].name)) return damaged("a category");
    for (size_t i = 0; i < t->annotations_count; i++)
        if (!annotation_inside(t, &t->annotations[i])) return damaged("an annotation");
    return STATUS_OK;
}

static status check_header(const coco_index_header *h, size_t bytes, const coco_source *source) {
    if (memcmp(h->magic, index_magic, sizeof index_magic)) return damaged("not an index");
    if (h->version != INDEX_VERSION || h->byte_order != INDEX_BYTE_ORDER)
        return damaged("another version's index");
    if (h->file_bytes != bytes) return damaged("not its full size");
    if (source && memcmp(source, &h->source, sizeof *source))
        return error_set(STATUS_DATA, "delete the index file",
                         "the annotation file has changed since its index was made");
    uint64_t at = round_up(sizeof *h, SECTION_ALIGNMENT);
    for (int i = 0; i < COCO_SECTION_COUNT; i++) {
        if (h->sections[i].offset != at || h->sections[i].count > (bytes - at) / element_bytes[i])
            return damaged("a section lies outside");
        at += round_up(h->sections[i].count * element_bytes[i], SECTION_ALIGNMENT);
        if (at > bytes) return damaged("a section lies outside");
    }
    if (at != bytes) return damaged("bytes behind its sections");
    uint64_t sum = content_hash_of((const char *)h + round_up(sizeof *h, SECTION_ALIGNMENT),
                                   bytes - round_up(sizeof *h, SECTION_ALIGNMENT));
    if ((sum ^ header_checksum(h)) != h->checksum) return damaged("wrong checksum");
    return STATUS_OK;
}

status coco_index_map(coco_tables *out, void **base, size_t *size, int fd, const coco_source *source) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        return error_set(STATUS_IO, "check the disk", "cannot stat the index: %s", strerror(errno));
    if (info.st_size < (off_t)round_up(sizeof(coco_index_header), SECTION_ALIGNMENT))
        return damaged("shorter than its header");
    size_t bytes = (size_t)info.st_size;
    char *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return error_set(STATUS_OS, "free memory", "cannot map %zu bytes of annotation index: %s", bytes,
                         strerror(errno));
    const coco_index_header *header = (const coco_index_header *)(const void *)map;
    status s = check_header(header, bytes, source);
    if (s == STATUS_OK) {
#define SECTION(section, type)                                                                               \
    out->section = (type *)(void *)(map + header->sections[COCO_SECTION_##section].offset);                  \
    out->section##_count = (size_t)header->sections[COCO_SECTION_##section].count;
        COCO_SECTIONS(SECTION)
#undef SECTION
        out->annotations_in_file = header->annotations_in_file;
        s = check_tables(out);
    }
    if (s != STATUS_OK) {
        munmap(map, bytes);
        return s;
    }
    *base = map;
    *size = bytes;
    return STATUS_OK;
}
