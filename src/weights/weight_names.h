/* Names of weights in files: torchvision's maskrcnn_resnet50_fpn().state_dict() since 0.13 is what the
 * program uses and writes; torchvision's older names and a bare ImageNet resnet (torchvision's or timm's) are
 * read too. */
#ifndef WEIGHTS_WEIGHT_NAMES_H
#define WEIGHTS_WEIGHT_NAMES_H

#include <stdbool.h>
#include <stddef.h>

/* Writes today's name of `name` to `out` [size]:
 *
 *   backbone.fpn.inner_blocks.N.weight    -> backbone.fpn.inner_blocks.N.0.weight    (layer_blocks, bias alike)
 *   rpn.head.conv.weight                  -> rpn.head.conv.0.0.weight
 *   roi_heads.mask_head.mask_fcnN.weight  -> roi_heads.mask_head.(N-1).0.weight
 *   conv1. bn1. layer1. ... layer4.       -> backbone.body. in front
 *
 * Other names are copied. False if it does not fit. */
bool weight_name_today(char *out, size_t size, const char *name);

/* A count of batches that PyTorch keeps beside batch norm: never used, never written. */
bool weight_name_is_counter(const char *name);

#endif
