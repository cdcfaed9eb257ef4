/* What a weights file is, read from the names and shapes of its tensors: for messages, `info` and `convert`. */
#ifndef WEIGHTS_WEIGHTS_KIND_H
#define WEIGHTS_WEIGHTS_KIND_H

#include <stdbool.h>

#include "data/safetensors.h"

typedef enum weights_names {
    WEIGHTS_NAMES_TODAY,   /* torchvision's since 0.13: this program's */
    WEIGHTS_NAMES_OLD,     /* torchvision's before 0.13, as in its published files */
    WEIGHTS_NAMES_BARE,    /* a ResNet alone, torchvision's or timm's: conv1.weight, layer1.0.conv1.weight */
    WEIGHTS_NAMES_FOREIGN, /* detectron2's or Detectron's: scripts/convert_weights.py renames them */
    WEIGHTS_NAMES_UNKNOWN
} weights_names;

typedef struct weights_kind {
    weights_names names;
    int depth;           /* of the ResNet: 18, 34, 50, 101, 152; 0 where there is none of these */
    bool has_bottleneck; /* DEPTH 50 and more: the stride's place matters */
    bool has_fpn, has_rpn, has_box_head, has_mask_head;
    bool has_statistics; /* running means: batch norm, frozen or not */
    bool has_norm;       /* any norm in the ResNet */
    int classes;         /* foreground: rows of cls_score less the background; -1 without cls_score */
    bool is_momentum;    /* a checkpoint's momentum.safetensors */
} weights_kind;

weights_kind weights_kind_of(const safetensors *file);

/* "Mask R-CNN, ResNet-50 with FPN, batch norm"; returns `text`. */
enum { WEIGHTS_KIND_TEXT = 96 };
const char *weights_kind_text(char text[WEIGHTS_KIND_TEXT], const weights_kind *kind);

/* "torchvision's since 0.13" and so on. */
const char *weights_names_text(weights_names names);

#endif
