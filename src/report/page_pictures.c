#include "report/page_pictures.h"

#include "base/file_util.h"
#include "data/image_read.h"
#include "data/image_write.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PLAIN_BYTES = 256 << 10, MAX_SIDE = 1280, JPEG_QUALITY = 88 };

static int is_picture(const struct dirent *entry) {
    size_t size = strlen(entry->d_name);
    return entry->d_name[0] != '.' && size > 4 && strcmp(entry->d_name + size - 4, ".png") == 0;
}

/* Means of the pixels that fall into each of the smaller picture. */
static void shrink(uint8_t *to, const image_buffer *from, int height, int width) {
    for (int y = 0; y < height; y++) {
        int top = (int)((int64_t)y * from->height / height);
        int bottom = (int)((int64_t)(y + 1) * from->height / height);
        for (int x = 0; x < width; x++) {
            int left = (int)((int64_t)x * from->width / width);
            int right = (int)((int64_t)(x + 1) * from->width / width);
            uint64_t sums[3] = {0}, count = (uint64_t)(bottom - top) * (uint64_t)(right - left);
            for (int v = top; v < bottom; v++)
                for (int u = left; u < right; u++)
                    for (int k = 0; k < 3; k++)
                        sums[k] +=
                            from->pixels[((size_t)v * (size_t)from->width + (size_t)u) * 3 + (size_t)k];
            for (int k = 0; k < 3; k++) *to++ = (uint8_t)((sums[k] + count / 2) / count);
        }
    }
}

/* A JPEG of the picture, made smaller where a side is above MAX_SIDE. */
static status make_smaller(uint8_t **out, size_t *size, const image_buffer *picture) {
    int side = picture->height > picture->width ? picture->height : picture->width;
    int height = picture->height, width = picture->width;
    if (side <= MAX_SIDE) return image_encode_jpeg(out, size, picture->pixels, height, width, JPEG_QUALITY);
    height = (int)((int64_t)height * MAX_SIDE / side);
    width = (int)((int64_t)width * MAX_SIDE / side);
    if (height < 1) height = 1;
    if (width < 1) width = 1;
    uint8_t *pixels = malloc((size_t)height * (size_t)width * 3);
    if (!pixels) return error_set(STATUS_OS, "free some memory", "no memory for a smaller picture");
    shrink(pixels, picture, height, width);
    status s = image_encode_jpeg(out, size, pixels, height, width, JPEG_QUALITY);
    free(pixels);
    return s;
}

static void draw_image(markup *page, const char *name, const char *type, const void *bytes, size_t size) {
    markup_put(page, "<figure><img alt=\"");
    markup_text(page, name);
    markup_format(page, "\" src=\"data:image/%s;base64,", type);
    markup_base64(page, bytes, size);
    markup_put(page, "\"/><figcaption>");
    markup_text(page, name);
    markup_put(page, "</figcaption></figure>\n");
}

static status draw_picture(markup *page, const char *folder, const char *name, image_buffer *picture) {
    char path[PATH_MAX];
    char *file = NULL;
    uint8_t *smaller = NULL;
    size_t size, smaller_size;
    image_limits limits = image_limits_default();
    limits.max_pixels = 64 << 20;
    status s = path_join(path, folder, name);
    if (s == STATUS_OK) s = read_file(&file, &size, path, limits.max_file_bytes);
    if (s == STATUS_OK) {
        s = image_decode(picture, (const uint8_t *)file, size, &limits);
        if (s != STATUS_OK) s = error_prefix(s, "%s", name);
    }
    if (s == STATUS_OK && size <= MAX_PLAIN_BYTES &&
        image_format_of((const uint8_t *)file, size) == IMAGE_PNG)
        draw_image(page, name, "png", file, size);
    else if (s == STATUS_OK) {
        s = make_smaller(&smaller, &smaller_size, picture);
        if (s == STATUS_OK) draw_image(page, name, "jpeg", smaller, smaller_size);
    }
    free(file);
    free(smaller);
    return s;
}

status page_pictures_draw(markup *page, const char *folder) {
    struct dirent **entries;
    int count = scandir(folder, &entries, is_picture, alphasort);
    if (count < 0 && errno == ENOMEM)
        return error_set(STATUS_OS, "free some memory", "no memory to list %s", folder);
    if (count < 0) return STATUS_OK;
    if (count > 0) markup_put(page, "<section><h2>Pictures</h2>\n<div class=\"pictures\">\n");
    image_buffer picture = {0};
    status s = STATUS_OK;
    markup left_out = {0};
    for (int i = 0; i < count; i++) {
        if (i < PAGE_MAX_PICTURES && s == STATUS_OK)
            s = draw_picture(page, folder, entries[i]->d_name, &picture);
        if (s != STATUS_OK && s != STATUS_OS) {
            markup_put(&left_out, "<p class=\"note\">Left out: ");
            markup_text(&left_out, error_cause());
            markup_put(&left_out, "</p>\n");
            error_clear();
            s = STATUS_OK;
        }
        free(entries[i]);
    }
    free(entries);
    image_buffer_release(&picture);
    if (count > 0) markup_put(page, "</div>\n");
    if (left_out.text) markup_put(page, left_out.text);
    if (count > PAGE_MAX_PICTURES)
        markup_format(page, "<p class=\"note\">The first %d of %d pictures.</p>\n", PAGE_MAX_PICTURES, count);
    if (count > 0) markup_put(page, "</section>\n");
    if (s == STATUS_OK) s = markup_finish(&left_out);
    markup_release(&left_out);
    return s;
}
