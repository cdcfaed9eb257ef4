/* Pictures of simple shapes with exact masks, for the synthetic dataset. Everything drawn is a function of the seed and
 * the picture's number. */
#ifndef DATA_SYNTH_SCENE_H
#define DATA_SYNTH_SCENE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "data/mask_rle.h"

typedef enum synth_class { SYNTH_DISK, SYNTH_BOX, SYNTH_TRIANGLE, SYNTH_RING, SYNTH_CLASS_COUNT } synth_class;

extern const char *const synth_class_names[SYNTH_CLASS_COUNT];

enum { SYNTH_MAX_OBJECTS = 6, SYNTH_MAX_PARTS = 2, SYNTH_MAX_POINTS = 48 };

typedef struct synth_outline {
    int parts;
    int32_t part_points[SYNTH_MAX_PARTS];
    double xy[SYNTH_MAX_PARTS * SYNTH_MAX_POINTS * 2]; /* the parts' points one after another, two decimals */
} synth_outline;

typedef struct synth_object {
    synth_class class;
    bool crowd;
    bool exact; /* the outline is the whole visible mask: no hole, not occluded */
    synth_outline outline;
    uint8_t *visible; /* u8 0/1 [height,width]: pixels that no later object covers; owned */
    int64_t area;     /* of visible */
} synth_object;

typedef struct synth_scene {
    int height, width;
    uint8_t *pixels; /* RGB8, owned */
    int objects;     /* may be 0 */
    synth_object object[SYNTH_MAX_OBJECTS];
} synth_scene;

/* Draws picture `image` (0, 1, ...). Some pictures have no objects, some a crowd. */
status synth_scene_draw(synth_scene *out, uint64_t seed, uint32_t image, int height, int width);
void synth_scene_release(synth_scene *scene);

#endif
