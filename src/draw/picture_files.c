/* The all-in-one functions of draw/picture.h. */
#include "draw/picture.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAME_SIZE = 32 };

/* Instances of detections; names that have to be made up lie in `made`. */
typedef struct shown_list {
    picture_instance *items;
    char (*made)[NAME_SIZE];
    int count;
} shown_list;

static void shown_release(shown_list *list) {
    free(list->items);
    free(list->made);
}

static status shown_init(shown_list *out, const detection_list *found, const picture_classes *classes,
                         double least_score) {
    size_t room = (size_t)found->count + 1;
    *out = (shown_list){.items = calloc(room, sizeof *out->items), .made = calloc(room, sizeof *out->made)};
    if (!out->items || !out->made)
        return error_set(STATUS_OS, "free some memory", "no memory to draw %d detections", found->count);
    for (int i = 0; i < found->count; i++) {
        const detection *d = &found->items[i];
        if (!(d->score >= least_score)) continue;
        bool known = classes && d->label >= 0 && d->label < classes->count;
        const char *name = known ? classes->names[d->label] : NULL;
        int32_t colour = known && classes->colours ? classes->colours[d->label] : d->label;
        if (!name || !*name) {
            snprintf(out->made[out->count], NAME_SIZE, "class %lld", (long long)d->label + 1);
            name = out->made[out->count];
        }
        out->items[out->count++] = (picture_instance){.box = {d->box[0], d->box[1], d->box[2], d->box[3]},
                                                      .mask = d->mask.height > 0 ? &d->mask : NULL,
                                                      .name = name,
                                                      .score = d->score,
                                                      .label = colour};
    }
    return STATUS_OK;
}

static status draw_one(picture **out, const picture_image *image, const picture_instance *items, int count) {
    RETURN_IF_ERROR(picture_new(out, image->rgb, image->height, image->width,
                                picture_scale_for(image->height, image->width)));
    status s = picture_draw(*out, items, count);
    if (s == STATUS_OK) return s;
    picture_free(*out);
    *out = NULL;
    return s;
}

status picture_draw_detections(const char *path, const picture_image *image, const detection_list *found,
                               const picture_classes *classes, double least_score) {
    shown_list shown;
    picture *p = NULL;
    status s = shown_init(&shown, found, classes, least_score);
    if (s == STATUS_OK) s = draw_one(&p, image, shown.items, shown.count);
    if (s == STATUS_OK) s = picture_write(p, path);
    picture_free(p);
    shown_release(&shown);
    return s;
}

/* The two pictures under their captions, as a third one. */
static status join(picture **out, picture *const pair[2], const char *caption) {
    char left[256], right[256];
    snprintf(left, sizeof left, "ground truth%s%.200s", caption ? ": " : "", caption ? caption : "");
    snprintf(right, sizeof right, "prediction");
    return picture_grid(out, pair, (const char *const[]){left, right}, 2, 2);
}

status picture_ground_truth_beside(const char *path, const picture_image *image,
                                   const picture_instance *truth, int truth_count,
                                   const detection_list *found, const picture_classes *classes,
                                   double least_score) {
    shown_list shown;
    picture *pair[2] = {NULL, NULL}, *both = NULL;
    status s = shown_init(&shown, found, classes, least_score);
    if (s == STATUS_OK) s = draw_one(&pair[0], image, truth, truth_count);
    if (s == STATUS_OK) s = draw_one(&pair[1], image, shown.items, shown.count);
    if (s == STATUS_OK) s = join(&both, pair, image->caption);
    if (s == STATUS_OK) s = picture_write(both, path);
    picture_free(pair[0]);
    picture_free(pair[1]);
    picture_free(both);
    shown_release(&shown);
    return s;
}
