/* The training steps of one rank, queued one behind the other: batch, forward, backward, sums over the ranks, optimizer. On a GPU the
 * host waits for none of them: what a step found out is copied to page-locked memory and read a few steps later. Where the host
 * computes itself, a step's report is there at once. */
#ifndef TRAIN_STEP_QUEUE_H
#define TRAIN_STEP_QUEUE_H

#include "autograd/tape_times.h"
#include "comm/comm.h"
#include "comm/grad_buckets.h"
#include "config/config.h"
#include "setup/graph_cache.h"
#include "setup/train_data.h"
#include "train/op_table.h"
#include "train/optimizer.h"
#include "train/schedule.h"

typedef struct step_queue step_queue;

/* Everything is borrowed. */
typedef struct step_queue_spec {
    const config *cfg;
    device *dev;
    comm *c;
    mask_rcnn *model;
    train_data *data;
    const schedule *rates;
    int images;              /* of this rank's share of a batch */
    int64_t first_iteration; /* of this process */
    bool
        same_canvas; /* the canvas is chosen from the global batch, so ranks do not change the padding; always so on GPUs, where
                          batches are grouped by their aspect ratio */
    bool trace_shapes; /* print the first step's tensors in order */
    bool measure;      /* see step_queue_measure */
} step_queue_spec;

/* What a step is made of, one after another. */
enum step_stage {
    STEP_DATA,    /* waiting for the batch, of the slowest rank */
    STEP_COPY,    /* the batch into the step's inputs */
    STEP_FORWARD, /* with the sums over the ranks that it needs */
    STEP_BACKWARD,
    STEP_ALLREDUCE, /* of the gradients' sums over the ranks what backward did not hide; and the losses' */
    STEP_OPTIMIZER,
    STEP_STAGES
};
extern const char *const step_stage_names[STEP_STAGES]; /* "data", "copy", "forward", ... */

/* What one iteration found out. */
typedef struct step_report {
    int64_t iteration;
    double losses[LOSS_COUNT], total; /* of all ranks */
    double lr;
    gradient_report gradients;
    double start;                       /* as clock_seconds has it */
    double seconds, wait, slowest_wait; /* of the iteration; for data: this rank's and the slowest one's */
    int64_t skipped_images;             /* by all ranks since this process began */
    const int64_t *image_ids;           /* [images] of this rank; until the next step_queue_run */
    /* The step's graph, until the next step_queue_run: its inputs and what it keeps are still there. NULL: they are not. */
    train_graph *graph;
    int64_t height, width; /* canvas */
    /* This rank's seconds; they add up to `seconds`. All 0 where the device works behind the host and steps are not measured. */
    double stages[STEP_STAGES];
} step_report;

/* Makes the memory of all steps and the graph of the largest canvas. CONFIG, OS. */
status step_queue_new(step_queue **out, const step_queue_spec *spec);
void step_queue_free(step_queue *q); /* NULL may be freed */

/* Takes the batch of this iteration (one more than before) and queues its step. Collective. A failure to get the batch is every
 * rank's; after STATUS_OS on one rank alone *is_mine_alone is set. */
status step_queue_run(step_queue *q, int64_t iteration, bool *is_mine_alone);

/* The oldest report that was not taken, if it is due; with `all`, if there is one: the host waits for it. */
bool step_queue_take(step_queue *q, step_report *out, bool all);

/* When all reports are taken: from now on each op and each sum over the ranks is timed. Where the device works behind the host, steps
 * are then queued one by one and none as a recording; and the host waits for each. */
void step_queue_measure(step_queue *q);

/* What the last step of a measured queue ran, whose report was taken: its ops, then those of the optimizer. */
void step_queue_take_runs(step_queue *q, const step_report *report, tape_run_hook hook, void *context);

/* The same into a table, as a step, with a row for each stage that has no ops and one for the time between ops, so that all rows
 * together are the step. `hook` may be NULL. */
void step_queue_tabulate(step_queue *q, const step_report *report, op_table *table, tape_run_hook hook,
                         void *context);

/* When the sums of its gradients ran, in the order they began. */
typedef void (*step_sum_hook)(void *context, const grad_bucket_span *span);
void step_queue_take_sums(step_queue *q, step_sum_hook hook, void *context);

const step_memory *step_queue_memory(const step_queue *q);
const graph_cache *step_queue_graphs(const step_queue *q);
optimizer *step_queue_optimizer(const step_queue *q);
int step_queue_buckets(const step_queue *q);

#endif
