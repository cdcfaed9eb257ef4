#include "evaluate/validation_loss.h"

#include "setup/step_batch.h"

status validation_loss_init(validation_loss *v, mask_rcnn *model, device *dev, const loader *l) {
    *v = (validation_loss){0};
    step_shape largest;
    RETURN_IF_ERROR(step_batch_largest(&largest, l, 1));
    RETURN_IF_ERROR(train_graph_check(&model->spec, &largest));
    RETURN_IF_ERROR(step_memory_init(&v->memory, dev, &largest));
    return graph_cache_init(&v->graphs, model, NULL, &v->memory, 1);
}

void validation_loss_release(validation_loss *v) {
    graph_cache_release(&v->graphs);
    step_memory_release(&v->memory);
}

status validation_loss_add(validation_loss *v, const loader_batch *batch, const dataset *data) {
    int64_t height, width;
    train_graph *step;
    step_batch_canvas(&height, &width, batch);
    RETURN_IF_ERROR(graph_cache_get(&step, &v->graphs, height, width));
    step_batch_fill(&v->memory, batch, data);
    tape_forward(step->t);
    for (int i = 0; i < LOSS_COUNT; i++) {
        float loss = 0.0f;
        if (step->losses[i]) device_copy(v->memory.dev, NULL, &loss, step->losses[i]->data, sizeof loss);
        v->sums[i] += (double)loss;
    }
    v->sums[LOSS_COUNT] += 1;
    return STATUS_OK;
}
