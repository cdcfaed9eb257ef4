/* The box head of a C4 model: a ResNet's res5 over each pooled region (stride 2 in its first block), the mean over what comes out,
 * and the box predictor. Masks are read from the same res5. Names are those of the ResNet, `backbone.body.layer4.`, so that one
 * name stands for res5 in models with FPN, without, and in weights of a ResNet alone; on the tape it is `roi_heads.res5.`. */
#ifndef MODEL_RES5_HEAD_H
#define MODEL_RES5_HEAD_H

#include "layers/box_predictor.h"
#include "model/resnet.h"

typedef struct res5_head {
    resnet_stage res5;
    box_predictor predictor;
} res5_head;

/* `spec` is the backbone's; res5 is trained whatever its freeze_at says, as in detectron2. */
void res5_head_init(res5_head *head, param_store *store, const resnet_spec *spec, int classes,
                    bool pytorch_init);

/* pooled [R,P,P,C] -> features [R,Q,Q,2C], Q = ceil(P / 2). */
tensor *res5_head_features(const res5_head *head, graph *g, tensor *pooled);

/* features -> *scores [R,K+1], *deltas [R,4(K+1)]. */
void res5_head_predict(const res5_head *head, graph *g, tensor *features, tensor **scores, tensor **deltas);

#endif
