#include "evaluate/validation_loss.h"

#include "setup/step_batch.h"

status validation_loss_init(validation_loss *v, mask_rcnn *model, device *dev, const loader *l) {
    *v = (validation_loss){0};
    step_shape largest;
    RETURN_IF_ERROR(step_batch_largest(&largest, l, 1));
    RETURN_IF_ERROR(train_graph_check(&model->spec, &largest));
    RETURN_IF_ERROR(step_memory_init(&v->memory, dev, &largest));
    void *losses;
    RETURN_IF_ERROR(device_alloc(dev, &losses, LOSS_COUNT * sizeof *v->losses, "losses"));
    v->losses = v->memory.inputs.losses = losses;
    return graph_cache_init(&v->graphs, model, NULL, &v->memory, 1);
}

void validation_loss_release(validation_loss *v) {
    graph_cache_release(&v->graphs);
    if (v->losses) device_free(v->memory.dev, v->losses, LOSS_COUNT * sizeof *v->losses);
    step_memory_release(&v->memory);
}

status validation_loss_add(validation_loss *v, const loader_batch *batch, const dataset *data) {
    int64_t height, width;
    train_graph *step;
    step_batch_canvas(&height, &width, batch);
    RETURN_IF_ERROR(graph_cache_get(&step, &v->graphs, height, width));
    step_inputs *host;
    step_used used = step_batch_fill(&host, &v->memory, batch, data);
    *host->step = 0;
    step_memory_bring(&v->memory, &used);
    tape_forward(step->t);
    float losses[LOSS_COUNT];
    device_copy(v->memory.dev, NULL, losses, v->losses, sizeof losses); /* the one wait: pageable memory */
    for (int i = 0; i < LOSS_COUNT; i++) v->sums[i] += (double)losses[i];
    v->sums[LOSS_COUNT] += 1;
    return STATUS_OK;
}
