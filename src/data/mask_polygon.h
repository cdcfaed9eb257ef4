/* Polygons as masks, with exactly the pixels pycocotools' mask API (frPyObjects, merge, decode) gives.
 *
 * The rule: vertices are rounded to a grid five times as fine as the pixels, int(5*x + 0.5); edges are walked
 * on that grid along their longer side, the other coordinate rounded the same way. Wherever a walk steps
 * between fine columns 5c+2 and 5c+3 (the centre line of pixel column c) it crosses at the smaller fine row v
 * of the two, that is at pixel row ceil((v + 0.5)/5 - 0.5), clamped to 0..height; and from there downward in
 * column-major order inside and outside change places. So a polygon is filled by parity, an object is the
 * union of its parts. Coordinates are clamped to +-10^8 pixels; the work is bounded by points * width,
 * whatever they are. */
#ifndef DATA_MASK_POLYGON_H
#define DATA_MASK_POLYGON_H

#include <stdint.h>
#include "base/status.h"
#include "data/gt_masks.h"
#include "data/mask_rle.h"

/* Where a polygon's points land: x' = x * scale_x + shift_x, y' likewise, in double. */
typedef struct mask_affine {
    double scale_x, shift_x, scale_y, shift_y;
} mask_affine;

/* One part. xy: f64 [points,2]. STATUS_DATA when a coordinate is not finite. Less than one point is an empty
 * mask. */
status mask_rle_from_polygon(mask_rle *out, const double *xy, int points, int height, int width);

/* Union of parts given one after another; part_points [parts]. */
status mask_rle_from_polygons(mask_rle *out, const double *xy, const int32_t *part_points, int parts,
                              int height, int width);

/* Takes the crossings of an outline with the centre lines of an image's columns: below pixel row `row` (0..height) of
 * `column` inside and outside change places. Every column is crossed an even number of times. */
typedef struct mask_crossings mask_crossings;
struct mask_crossings {
    void (*cross)(mask_crossings *sink, int column, int row);
    int height, width;
};

/* Walks one closed outline xy f32 [points,2], moved by `place`. */
void mask_polygon_walk(mask_crossings *sink, const float *xy, int points, const mask_affine *place);

/* Union of a packed polygon's parts, moved by `place`, as u8 0/1 [height,width] row-major. `scratch` holds
 * mask_polygon_scratch_bytes(height, width). Allocates nothing; thread-safe. */
size_t mask_polygon_scratch_bytes(int height, int width);
void mask_polygon_rasterize(uint8_t *bitmap, uint8_t *scratch, const gt_mask_view *polygon,
                            const mask_affine *place, int height, int width);

/* Mask target: the polygon seen from a box (x1 y1 x2 y2), drawn on size x size, as detectron2's
 * rasterize_polygons_within_box: moved by the box's corner, scaled by size / max(side, 0.1).
 * `to_box_frame` takes the polygon's original pixels to the coordinates the box is given in (resize, flip);
 * NULL: the same. scratch: mask_polygon_scratch_bytes(size, size). */
void mask_polygon_rasterize_in_box(uint8_t *bitmap, uint8_t *scratch, const gt_mask_view *polygon,
                                   const mask_affine *to_box_frame, const float box[4], int size);

#endif
