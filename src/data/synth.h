/* A generated dataset in COCO format: OUT/annotations.json and OUT/images/NNNNNN.jpg or .png. Disks, boxes, triangles and
 * rings on textured ground, one to four objects a picture, most of them 20 to 60 % of its shorter side. Polygons of one
 * and two parts; compressed and uncompressed RLE for holes and occluded objects; crowds; pictures without objects.
 * OUT/synth.json says how it was made; a folder with that file is one that may be overwritten. */
#ifndef DATA_SYNTH_H
#define DATA_SYNTH_H

#include <stdint.h>
#include "base/status.h"

enum { SYNTH_MIN_SIDE = 64, SYNTH_MAX_SIDE = 4096, SYNTH_MAX_IMAGES = 999999 };

typedef struct synth_options {
    int height, width; /* of every picture; 0: several sizes from 160x128 to 192x192, both orientations */
} synth_options;

/* The same arguments give the same pictures and annotations. `options` may be NULL. Errors: STATUS_CANT_CREATE where
 * OUT is a folder that holds something else, and those of writing files. */
status synth_dataset(const char *out_dir, int images, uint64_t seed, const synth_options *options);

#endif
