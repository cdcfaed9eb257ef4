#include "evaluate/test_pictures.h"

#include "base/file_util.h"
#include "draw/picture.h"

#include <stdio.h>
#include <string.h>

/* Annotation files come from many systems, so '\\' ends a folder's name, too. */
static void name_picture(char name[160], int number, const char *file_name) {
    const char *base = file_name;
    for (const char *at = file_name; *at; at++)
        if (*at == '/' || *at == '\\') base = at + 1;
    const char *dot = strrchr(base, '.');
    int stem = dot && dot > base ? (int)(dot - base) : (int)strlen(base);
    snprintf(name, 160, "%04d_%.*s.png", number, stem < 100 ? stem : 100, base);
}

status test_pictures_draw(test_pictures *p, const loader_sample *sample, const detection_list *found) {
    char name[160], path[PATH_MAX];
    name_picture(name, p->drawn + 1, sample->file_name);
    RETURN_IF_ERROR(path_join(path, p->folder, name));
    RETURN_IF_ERROR(truth_of_image(&p->truth, p->set->set, sample->image, p->masks));
    picture_image image = {.rgb = sample->pixels,
                           .height = sample->height,
                           .width = sample->width,
                           .caption = sample->file_name};
    picture_classes classes = {
        .names = p->set->map.names, .count = p->set->map.labels, .colours = p->set->map.categories};
    RETURN_IF_ERROR(picture_ground_truth_beside(path, &image, p->truth.items, p->truth.count, found, &classes,
                                                p->least_score));
    p->drawn++;
    return STATUS_OK;
}

void test_pictures_release(test_pictures *p) {
    truth_release(&p->truth);
    *p = (test_pictures){0};
}

bool test_pictures_is_name(const char *name) {
    size_t digits = strspn(name, "0123456789"), length = strlen(name);
    return digits >= 4 && name[digits] == '_' && length > digits + 4 &&
           strcmp(name + length - 4, ".png") == 0;
}
