/* ResNet backbone (He et al.): stem, res2..res5. Depth 18 and 34 have basic blocks, 50 and 101 bottlenecks. Parameter
 * names are torchvision's under `backbone.body.`, wherever a stage is used. */
#ifndef MODEL_RESNET_H
#define MODEL_RESNET_H

#include "layers/conv_layer.h"

enum { RESNET_STAGES = 4, RESNET_C4 = 2, RESNET_MAX_BLOCKS = 23 };

typedef struct resnet_spec {
    int depth;            /* 18, 34, 50, 101 */
    int stem_channels;    /* 64 */
    int res2_channels;    /* 256 (bottlenecks), 64 (basic); doubled per stage */
    int bottleneck_width; /* 64: width of res2's 1x1 and 3x3; doubled per stage */
    bool stride_in_1x1;   /* where a bottleneck's stride is: the first 1x1 (MSRA) or the 3x3 (torchvision) */
    int freeze_at;        /* 0 nothing, 1 stem, 2 stem and res2, ... */
    bool ends_with_res4;  /* there is no res5 (it may be a head's stage of its own) */
    norm_spec norm;
} resnet_spec;

typedef struct resnet_block {
    conv_layer convs[3]; /* the last one adds the shortcut and has the block's ReLU */
    int n_convs;
    bool projects; /* has a downsample convolution in its shortcut */
    conv_layer shortcut;
} resnet_block;

typedef struct resnet_stage {
    resnet_block blocks[RESNET_MAX_BLOCKS];
    int n_blocks;
    int64_t channels; /* of its result */
} resnet_stage;

typedef struct resnet {
    conv_layer stem;
    resnet_stage stages[RESNET_STAGES]; /* res2.. */
    int n_stages;
} resnet;

/* Channel counts of every norm follow from the spec; NORM_GROUP groups must divide them (the caller checks). */
void resnet_init(resnet *net, param_store *store, const resnet_spec *spec);

/* A stage by itself, 0 for res2 to 3 for res5, of the spec's widths, whatever its ends_with_res4 and freeze_at say. */
void resnet_stage_init(resnet_stage *stage, param_store *store, const resnet_spec *spec, int number,
                       bool frozen);
tensor *resnet_stage_apply(const resnet_stage *stage, graph *g, tensor *x);

/* images [N,H,W,3] -> features[i] = C(i+2) [N, H/4.., W/4.., channels]; NULL for a stage that is not there. */
void resnet_apply(const resnet *net, graph *g, tensor *images, tensor *features[RESNET_STAGES]);

#endif
