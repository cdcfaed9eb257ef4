#include "data/coco_index.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/check.h"
#include "data/coco_index_file.h"
#include "base/content_hash.h"

enum { MAX_PLACES = 3 };

struct coco_index {
    coco_tables tables; /* into the mapping */
    void *base;
    size_t size;
    coco_options options;
    char *path, kept_at[PATH_MAX];
    bool reused;
};

/* Where an index file may be kept, best place first. */
typedef struct index_places {
    char paths[MAX_PLACES][PATH_MAX];
    int count;
} index_places;

coco_options coco_options_default(void) {
    return (coco_options){.need_masks = true, .keep_from_bytes = (int64_t)8 << 20};
}

static void add_place(index_places *places, const char *folder, const char *json_path, bool with_hash) {
    if (!folder || !*folder) return;
    const char *slash = strrchr(json_path, '/'), *base = slash ? slash + 1 : json_path;
    char tag[24] = "", real[PATH_MAX];
    if (with_hash) { /* one folder for the indexes of many datasets: the full path tells them apart */
        const char *full = realpath(json_path, real) ? real : json_path;
        snprintf(tag, sizeof tag, ".%016llx", (unsigned long long)content_hash_of(full, strlen(full)));
    }
    char *out = places->paths[places->count];
    int length = snprintf(out, PATH_MAX, "%s/.%s%s.index", folder, base, tag);
    if (length > 0 && length < PATH_MAX) places->count++;
}

static index_places find_places(const char *json_path, const char *index_dir) {
    index_places places = {.count = 0};
    if (index_dir) {
        add_place(&places, index_dir, json_path, true);
        return places;
    }
    char beside[PATH_MAX];
    const char *slash = strrchr(json_path, '/');
    int length = slash ? snprintf(beside, sizeof beside, "%.*s", (int)(slash - json_path), json_path)
                       : snprintf(beside, sizeof beside, ".");
    if (length == 0)
        add_place(&places, "/", json_path, false);
    else if (length < PATH_MAX)
        add_place(&places, beside, json_path, false);
    add_place(&places, getenv("XDG_CACHE_HOME"), json_path, true);
    add_place(&places, getenv("TMPDIR"), json_path, true);
    return places;
}

static status hash_file(uint64_t *digest, int fd, const char *path) {
    enum { BLOCK = 1 << 20 };
    uint8_t *block = malloc(BLOCK);
    if (!block) return error_set(STATUS_OS, "free memory", "%s: no memory to read it", path);
    content_hash hash;
    content_hash_init(&hash);
    status s = STATUS_OK;
    for (off_t at = 0;;) {
        ssize_t got = pread(fd, block, BLOCK, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            s = error_set(STATUS_IO, "check the disk or the network mount", "%s: read error at byte %lld: %s",
                          path, (long long)at, strerror(errno));
        if (got <= 0) break;
        content_hash_update(&hash, block, (size_t)got);
        at += got;
    }
    free(block);
    *digest = content_hash_digest(&hash);
    return s;
}

/* Opens an index file that this user, root or the owner of the JSON has made; -1 when there is none. */
static int open_kept(const char *path, const struct stat *json) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat info;
    if (fd < 0) return -1;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
        (info.st_uid == geteuid() || info.st_uid == 0 || info.st_uid == json->st_uid))
        return fd;
    close(fd);
    return -1;
}

/* True when one of the places holds a whole index of exactly this source. */
static bool reuse_kept(coco_index *index, const index_places *places, const coco_source *source,
                       const struct stat *json) {
    for (int i = 0; i < places->count; i++) {
        int fd = open_kept(places->paths[i], json);
        if (fd < 0) continue;
        status s = coco_index_map(&index->tables, &index->base, &index->size, fd, source);
        close(fd);
        if (s != STATUS_OK) continue; /* stale, damaged or of another version: made anew */
        snprintf(index->kept_at, sizeof index->kept_at, "%s", places->paths[i]);
        index->reused = true;
        return true;
    }
    error_clear();
    return false;
}

/* Writes beside, maps what was written, renames. A place that cannot be written is no error: the next one is
 * tried. */
static bool keep_at(coco_index *index, const coco_tables *built, const coco_source *source,
                    const char *place) {
    char part[PATH_MAX + 32];
    snprintf(part, sizeof part, "%s.%ld.part", place, (long)getpid());
    int fd = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) return false;
    bool good = coco_index_write(fd, built, source, place) == STATUS_OK &&
                coco_index_map(&index->tables, &index->base, &index->size, fd, source) == STATUS_OK;
    close(fd);
    if (good && rename(part, place) == 0) {
        snprintf(index->kept_at, sizeof index->kept_at, "%s", place);
        return true;
    }
    if (good) munmap(index->base, index->size);
    index->base = NULL;
    unlink(part);
    return false;
}

static status keep_in_memory(coco_index *index, const coco_tables *built, const coco_source *source) {
    int fd = memfd_create("coco-index", MFD_CLOEXEC);
    if (fd < 0)
        return error_set(STATUS_OS, "raise the limit of open files", "%s: memfd_create: %s", index->path,
                         strerror(errno));
    status s = coco_index_write(fd, built, source, index->path);
    if (s == STATUS_OK) s = coco_index_map(&index->tables, &index->base, &index->size, fd, source);
    close(fd);
    return s == STATUS_IO ? STATUS_OS : s;
}

static status parse_and_keep(coco_index *index, int fd, int64_t mtime_ns, const index_places *places) {
    raw_coco raw;
    coco_tables built;
    status s = coco_parse_file(&raw, fd, index->path);
    coco_source source = {raw.bytes, raw.digest, mtime_ns};
    if (s == STATUS_OK) s = coco_build(&built, &raw, index->path);
    raw_coco_release(&raw);
    RETURN_IF_ERROR(s);
    bool kept = false;
    for (int i = 0; i < places->count && !kept; i++) kept = keep_at(index, &built, &source, places->paths[i]);
    error_clear();
    if (!kept) s = keep_in_memory(index, &built, &source);
    coco_tables_release(&built);
    return s;
}

static status open_json(int *fd, struct stat *info, const char *path) {
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return error_set(errno == EACCES ? STATUS_NO_PERMISSION : STATUS_NO_INPUT,
                         "check the path; a dataset is written ANNOTATIONS.json:IMAGE_DIR",
                         "cannot open annotations %s: %s", path, strerror(errno));
    if (fstat(*fd, info) == 0 && S_ISREG(info->st_mode)) return STATUS_OK;
    close(*fd);
    return error_set(STATUS_NO_INPUT, "name the JSON file itself", "annotations %s: not a regular file",
                     path);
}

status coco_index_open(coco_index **out, const char *json_path, const coco_options *options) {
    coco_options chosen = options ? *options : coco_options_default();
    struct stat info;
    int fd;
    RETURN_IF_ERROR(open_json(&fd, &info, json_path));
    coco_index *index = calloc(1, sizeof *index);
    if (!index || !(index->path = strdup(json_path))) {
        free(index);
        close(fd);
        return error_set(STATUS_OS, "free memory", "%s: no memory to index it", json_path);
    }
    index->options = chosen;
    index->options.index_dir = NULL; /* the caller's text need not live on */
    index_places places = {.count = 0};
    coco_source source = {(uint64_t)info.st_size, 0, info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec};
    status s = STATUS_OK;
    if (info.st_size >= chosen.keep_from_bytes) {
        places = find_places(json_path, chosen.index_dir);
        s = hash_file(&source.digest, fd, json_path);
        if (s == STATUS_OK && !reuse_kept(index, &places, &source, &info)) {
            /* One of the node's ranks parses, the others wait here and then find its file. */
            bool locked = flock(fd, LOCK_EX) == 0;
            if (!locked || !reuse_kept(index, &places, &source, &info))
                s = parse_and_keep(index, fd, source.mtime_ns, &places);
        }
    } else {
        s = parse_and_keep(index, fd, source.mtime_ns, &places);
    }
    close(fd); /* also ends the lock */
    if (s != STATUS_OK) {
        coco_index_free(index);
        return s;
    }
    *out = index;
    return STATUS_OK;
}

void coco_index_free(coco_index *index) {
    if (!index) return;
    if (index->base) munmap(index->base, index->size);
    free(index->path);
    free(index);
}

const char *coco_index_path(const coco_index *index) {
    return index->path;
}

const char *coco_index_kept_at(const coco_index *index, bool *reused) {
    if (reused) *reused = index->reused;
    return index->kept_at;
}

uint32_t coco_index_image_count(const coco_index *index) {
    return (uint32_t)index->tables.images_count;
}

const coco_image *coco_index_image(const coco_index *index, uint32_t image) {
    CHECK(image < index->tables.images_count, "image %u of %zu", image, index->tables.images_count);
    return &index->tables.images[image];
}

const char *coco_index_file_name(const coco_index *index, uint32_t image) {
    return index->tables.strings + coco_index_image(index, image)->file_name;
}

int64_t coco_index_find_image(const coco_index *index, int64_t id) {
    const coco_tables *t = &index->tables;
    size_t low = 0, high = t->images_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->images[t->images_by_id[middle]].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < t->images_count && t->images[t->images_by_id[low]].id == id ? (int64_t)t->images_by_id[low]
                                                                             : -1;
}

uint32_t coco_index_category_count(const coco_index *index) {
    return (uint32_t)index->tables.categories_count;
}

const coco_category *coco_index_category(const coco_index *index, uint32_t category) {
    CHECK(category < index->tables.categories_count, "category %u of %zu", category,
          index->tables.categories_count);
    return &index->tables.categories[category];
}

const char *coco_index_category_name(const coco_index *index, uint32_t category) {
    return index->tables.strings + coco_index_category(index, category)->name;
}

uint32_t coco_index_annotation_count(const coco_index *index) {
    return (uint32_t)index->tables.annotations_count;
}

uint64_t coco_index_annotations_in_file(const coco_index *index) {
    return index->tables.annotations_in_file;
}

const coco_annotation *coco_index_annotation(const coco_index *index, uint32_t annotation) {
    CHECK(annotation < index->tables.annotations_count, "annotation %u of %zu", annotation,
          index->tables.annotations_count);
    return &index->tables.annotations[annotation];
}

bool coco_index_uses_crowd(const coco_index *index) {
    return index->options.crowd_as_instances;
}

bool coco_index_usable(const coco_index *index, const coco_annotation *annotation) {
    return !annotation->dropped && (!annotation->crowd || index->options.crowd_as_instances) &&
           (annotation->mask_kind != COCO_MASK_NONE || !index->options.need_masks);
}

const double *coco_index_polygon(const coco_index *index, const coco_annotation *annotation,
                                 const uint32_t **sizes) {
    CHECK(annotation->mask_kind == COCO_MASK_POLYGONS, "annotation %lld has no polygons",
          (long long)annotation->id);
    *sizes = index->tables.parts + annotation->part;
    return index->tables.coordinates + annotation->data;
}

const uint32_t *coco_index_runs(const coco_index *index, const coco_annotation *annotation) {
    CHECK(annotation->mask_kind == COCO_MASK_RLE, "annotation %lld has no RLE", (long long)annotation->id);
    return index->tables.runs + annotation->data;
}

const coco_finding *coco_index_finding(const coco_index *index, coco_issue issue) {
    return &index->tables.findings[issue];
}

coco_summary coco_index_summarize(const coco_index *index) {
    const coco_tables *t = &index->tables;
    coco_summary sum = {.images = t->images_count, .annotations = t->annotations_in_file};
    for (size_t i = 0; i < t->images_count; i++) {
        const coco_annotation *first = t->annotations + t->images[i].first_annotation;
        uint32_t count = t->images[i].annotation_count, usable = 0;
        for (uint32_t k = 0; k < count; k++) {
            usable += coco_index_usable(index, &first[k]);
            sum.crowd += first[k].crowd;
            sum.without_mask += first[k].mask_kind == COCO_MASK_NONE;
        }
        sum.usable += usable;
        sum.images_without_annotations += count == 0;
        sum.images_without_usable_annotations += usable == 0;
    }
    return sum;
}
