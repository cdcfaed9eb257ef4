/* draw/picture.h in a program without cairo. */
#include "draw/picture.h"

bool picture_built_in(void) {
    return false;
}

const char *picture_backend(void) {
    return "not built in: no pictures";
}

status picture_check_built_in(void) {
    return error_set(STATUS_NO_DEVICE, "install libcairo2-dev (scripts/install_deps.sh) and build again",
                     "this program is built without cairo: it draws no pictures");
}

double picture_scale_for(int height, int width) {
    (void)height, (void)width;
    return 1;
}

status picture_new(picture **out, const uint8_t *rgb, int height, int width, double scale) {
    (void)rgb, (void)height, (void)width, (void)scale;
    *out = NULL;
    return picture_check_built_in();
}

void picture_free(picture *p) {
    (void)p;
}

status picture_draw(picture *p, const picture_instance *items, int count) {
    (void)p, (void)items, (void)count;
    return picture_check_built_in();
}

void picture_mark_area(picture *p, int height, int width) {
    (void)p, (void)height, (void)width;
}

status picture_grid(picture **out, picture *const *cells, const char *const *captions, int count,
                    int columns) {
    (void)cells, (void)captions, (void)count, (void)columns;
    *out = NULL;
    return picture_check_built_in();
}

status picture_write(const picture *p, const char *path) {
    (void)p, (void)path;
    return picture_check_built_in();
}

int picture_height(const picture *p) {
    (void)p;
    return 0;
}

int picture_width(const picture *p) {
    (void)p;
    return 0;
}
