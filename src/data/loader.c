#include "data/loader.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "data/loader_worker.h"
#include "data/worker_nursery.h"

enum {
    DEFAULT_PREFETCH = 2,
    MAX_QUEUE = 64,         /* requests given to one worker ahead: they must fit its socket */
    MAX_DEATHS = 3,         /* of workers on one sample */
    MAX_REPLACEMENTS = 256, /* bad images in a row */
    NAMED_BAD_IMAGES = 3
};

typedef enum place_state {
    PLACE_FREE,
    PLACE_WAITING, /* for a worker */
    PLACE_GIVEN,   /* to a worker */
    PLACE_READY,
    PLACE_FAILED /* the whole run ends when this sample's turn comes */
} place_state;

/* A sample on its way. Sample number t lies in place and slot t % slots. */
typedef struct place {
    place_state state;
    uint32_t first_image, image, epoch; /* wanted, and now tried */
    uint32_t attempt;                   /* replacements tried: `image` is the stand-in number attempt-1 */
    int32_t worker, deaths;
    status failure;
    char cause[512];
} place;

typedef struct worker {
    int fd; /* -1: not running */
    pid_t pid;
    int64_t queue[MAX_QUEUE]; /* tickets, oldest first */
    int count;
    double since; /* when it began with the oldest */
} worker;

/* What is known of an image. */
enum { IMAGE_KNOWN_BAD = 1, IMAGE_TRIED = 2, IMAGE_COUNTED_BAD = 4 };

struct loader {
    const dataset *data;
    loader_options options;
    sampler *sampler;
    sample_limits limits; /* the largest of each, over all images */
    sample_builder builder;
    shared_ring ring;
    worker_context context;
    nursery nursery;
    worker workers[LOADER_MAX_WORKERS];
    place *places;       /* [ring.slots] */
    sampler_item *items; /* [global_batch] of items_iteration */
    int64_t items_iteration;
    loader_sample *samples; /* [batch] of the batch in use */
    int32_t batch;          /* per rank */
    int64_t delivered;      /* tickets below are done with */
    int64_t issued;         /* next ticket to set up */
    bool in_use;
    uint8_t *known; /* [images] */
    uint32_t bad_named[NAMED_BAD_IMAGES];
    loader_stats stats;
};

static place *place_of(loader *l, int64_t ticket) {
    return &l->places[ticket % l->ring.slots];
}

static sample_request request_of(const loader *l, const place *p) {
    const coco_image *record = dataset_image(l->data, p->image);
    return (sample_request){p->image,
                            sampler_view_of(l->sampler, p->image, p->epoch, record->height, record->width)};
}

static void fail_place(place *p, status failure, const char *cause) {
    p->state = PLACE_FAILED;
    p->failure = failure;
    snprintf(p->cause, sizeof p->cause, "%s", cause);
}

/* Goes to the next stand-in that is not known to be bad. */
static void replace_image(loader *l, place *p) {
    while (l->known[p->image] & IMAGE_KNOWN_BAD) {
        if (p->attempt == MAX_REPLACEMENTS) {
            char cause[256];
            snprintf(cause, sizeof cause,
                     "%d images in a row that should stand for \"%.120s\" cannot be read either",
                     MAX_REPLACEMENTS, dataset_file_name(l->data, p->first_image));
            fail_place(p, STATUS_DATA, cause);
            return;
        }
        p->image = sampler_replacement(l->sampler, p->first_image, p->epoch, p->attempt++);
    }
    p->state = PLACE_WAITING;
}

/* A sample has been made, or its image has turned out to be bad. */
static void finish_place(loader *l, int64_t ticket) {
    place *p = place_of(l, ticket);
    const sample_header *header =
        (const sample_header *)(const void *)shared_ring_slot(&l->ring, (int)(ticket % l->ring.slots));
    if (header->outcome == STATUS_OK) {
        p->state = PLACE_READY;
        return;
    }
    if (header->outcome == STATUS_OS || header->outcome == STATUS_INTERNAL) {
        fail_place(p, header->outcome, header->cause);
        return;
    }
    if (l->options.keep_bad) {
        p->state = PLACE_READY;
        return;
    }
    l->known[p->image] |= IMAGE_KNOWN_BAD;
    log_warn("data", "bad image, another one takes its place: %s", header->cause);
    replace_image(l, p);
}

/* Sets up the place of the next ticket. */
static void issue_ticket(loader *l) {
    int64_t iteration = l->issued / l->batch;
    if (iteration != l->items_iteration) {
        sampler_batch(l->items, l->sampler, iteration);
        l->items_iteration = iteration;
    }
    const sampler_item *item = &l->items[l->options.rank * l->batch + l->issued % l->batch];
    place *p = place_of(l, l->issued++);
    CHECK(p->state == PLACE_FREE, "place of sample %lld is in use", (long long)l->issued - 1);
    *p = (place){.first_image = item->image, .image = item->image, .epoch = item->epoch};
    replace_image(l, p);
}

static int running_workers(const loader *l) {
    int count = 0;
    for (int w = 0; w < l->options.workers; w++) count += l->workers[w].fd >= 0;
    return count;
}

static void start_worker(loader *l, int w) {
    worker *k = &l->workers[w];
    k->fd = -1;
    k->count = 0;
    if (nursery_spawn(&l->nursery, &k->fd, &k->pid) != STATUS_OK)
        log_warn("data", "a loader worker cannot be started: %s", error_cause());
}

/* The worker is gone: its first sample may have killed it, the others were only waiting. */
static void bury_worker(loader *l, int w) {
    worker *k = &l->workers[w];
    close(k->fd);
    for (int i = 0; i < k->count; i++) {
        place *p = place_of(l, k->queue[i]);
        p->state = PLACE_WAITING;
        if (i > 0 || ++p->deaths < MAX_DEATHS) continue;
        char cause[512];
        snprintf(cause, sizeof cause, "%d loader workers died reading \"%.300s\" (image %" PRId64 ")",
                 MAX_DEATHS, dataset_file_name(l->data, p->image), dataset_image(l->data, p->image)->id);
        fail_place(p, STATUS_DATA, cause);
    }
    log_warn("data", "loader worker %d (process %ld) died%s%s; its samples are made again", w, (long)k->pid,
             k->count ? " while reading " : "",
             k->count ? dataset_file_name(l->data, place_of(l, k->queue[0])->image) : "");
    l->stats.restarted_workers++;
    start_worker(l, w);
}

/* Takes all replies of a worker; buries it at its end-of-file. */
static void read_replies(loader *l, int w) {
    worker *k = &l->workers[w];
    for (;;) {
        worker_reply reply;
        ssize_t got = recv(k->fd, &reply, sizeof reply, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        /* ECONNRESET: it died with requests unread; replies sent before are still there. */
        if (got < 0 && (errno == EINTR || errno == ECONNRESET)) continue;
        if (got != (ssize_t)sizeof reply || k->count == 0 || reply.ticket != k->queue[0]) {
            bury_worker(l, w);
            return;
        }
        memmove(k->queue, k->queue + 1, (size_t)--k->count * sizeof *k->queue);
        k->since = clock_seconds();
        finish_place(l, reply.ticket);
    }
}

/* Gives a waiting sample to the worker that has least to do; false when none takes it now. */
static bool give(loader *l, int64_t ticket) {
    place *p = place_of(l, ticket);
    int best = -1;
    for (int w = 0; w < l->options.workers; w++)
        if (l->workers[w].fd >= 0 && l->workers[w].count < MAX_QUEUE &&
            (best < 0 || l->workers[w].count < l->workers[best].count))
            best = w;
    if (best < 0) return false;
    worker *k = &l->workers[best];
    worker_request request = {
        .ticket = ticket, .slot = (int32_t)(ticket % l->ring.slots), .sample = request_of(l, p)};
    if (send(k->fd, &request, sizeof request, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof request)
        return false; /* full or dead: poll will tell */
    if (k->count == 0) k->since = clock_seconds();
    k->queue[k->count++] = ticket;
    p->state = PLACE_GIVEN;
    p->worker = best;
    return true;
}

/* Sets up tickets while there are free places, and gives out what waits. */
static void pump(loader *l) {
    while (l->issued < l->delivered + l->ring.slots) issue_ticket(l);
    for (int64_t t = l->delivered; t < l->issued; t++)
        if (place_of(l, t)->state == PLACE_WAITING && !give(l, t)) return;
}

static void kill_stalled(loader *l) {
    double time = clock_seconds();
    for (int w = 0; w < l->options.workers; w++) {
        worker *k = &l->workers[w];
        if (k->fd < 0 || k->count == 0 || time - k->since < l->options.stall_seconds) continue;
        log_warn("data", "loader worker %d (process %ld) has been reading %s for %.1f s: it is replaced", w,
                 (long)k->pid, dataset_file_name(l->data, place_of(l, k->queue[0])->image), time - k->since);
        nursery_kill(&l->nursery, k->pid);
        k->since = time;
    }
}

/* Waits until a worker says something, at most until the next look at the clock. */
static status wait_for_workers(loader *l) {
    struct pollfd fds[LOADER_MAX_WORKERS];
    int owner[LOADER_MAX_WORKERS], count = 0;
    for (int w = 0; w < l->options.workers; w++) {
        if (l->workers[w].fd < 0) continue;
        owner[count] = w;
        fds[count++] = (struct pollfd){.fd = l->workers[w].fd, .events = POLLIN};
    }
    double patience = l->options.stall_seconds / 4;
    int got = poll(fds, (nfds_t)count, (int)(1000 * (patience < 1 ? patience : 1)) + 1);
    if (got < 0 && errno != EINTR)
        return error_set(STATUS_OS, NULL, "poll of the loader workers: %s", strerror(errno));
    for (int i = 0; got > 0 && i < count; i++)
        if (fds[i].revents) read_replies(l, owner[i]);
    kill_stalled(l);
    return STATUS_OK;
}

/* Makes a sample on this thread. */
static void make_here(loader *l, int64_t ticket) {
    place *p = place_of(l, ticket);
    while (p->state == PLACE_WAITING) {
        sample_request request = request_of(l, p);
        sample_build(shared_ring_slot(&l->ring, (int)(ticket % l->ring.slots)), l->ring.slot_bytes,
                     &l->builder, &request);
        finish_place(l, ticket);
    }
}

/* Waits until the sample is ready or the run has to end. */
static status await_ticket(loader *l, int64_t ticket) {
    place *p = place_of(l, ticket);
    for (;;) {
        pump(l);
        if (p->state == PLACE_READY) return STATUS_OK;
        if (p->state == PLACE_FAILED)
            return error_set(p->failure,
                             p->failure == STATUS_OS ? "free memory or use fewer workers"
                                                     : "repair or remove the file",
                             "%s", p->cause);
        if (running_workers(l) == 0) {
            if (l->options.workers > 0)
                log_warn("data", "no loader worker is left: samples are made by the training process itself");
            make_here(l, ticket);
        } else {
            RETURN_IF_ERROR(wait_for_workers(l));
        }
    }
}

/* Keeps account of the images a delivered sample went through; they are counted here, in the order of the
 * samples, so that the verdict does not depend on which worker was faster. */
static void count_images(loader *l, const place *p) {
    uint32_t image = p->first_image;
    l->stats.skipped_images += p->attempt > 0;
    for (uint32_t attempt = 0;; attempt++) {
        bool bad = attempt < p->attempt;
        l->stats.tried_images += !(l->known[image] & IMAGE_TRIED);
        l->known[image] |= IMAGE_TRIED;
        if (bad && !(l->known[image] & IMAGE_COUNTED_BAD)) {
            l->known[image] |= IMAGE_COUNTED_BAD;
            if (l->stats.bad_images < NAMED_BAD_IMAGES) l->bad_named[l->stats.bad_images] = image;
            l->stats.bad_images++;
        }
        if (!bad) return;
        image = sampler_replacement(l->sampler, p->first_image, p->epoch, attempt);
    }
}

static status check_share(const loader *l) {
    const loader_stats *s = &l->stats;
    if (s->bad_images <= 2 || s->bad_images <= l->options.bad_share * s->tried_images) return STATUS_OK;
    char names[512] = "";
    size_t at = 0;
    for (int i = 0; i < NAMED_BAD_IMAGES; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%.120s", i ? ", " : "",
                               dataset_file_name(l->data, l->bad_named[i]));
    return error_set(
        STATUS_DATA, "repair them (the log names each), or allow a larger DATALOADER.MAX_BAD_IMAGE_SHARE",
        "%" PRIu32 " of %" PRIu32 " different images cannot be used, more than %g %%: %s%s", s->bad_images,
        s->tried_images, 100 * l->options.bad_share, names, s->bad_images > NAMED_BAD_IMAGES ? ", ..." : "");
}

static loader_sample sample_of(loader *l, int64_t ticket) {
    const place *p = place_of(l, ticket);
    const uint8_t *slot = shared_ring_slot(&l->ring, (int)(ticket % l->ring.slots));
    const sample_header *h = (const sample_header *)(const void *)slot;
    const coco_image *record = dataset_image(l->data, p->image);
    if (h->outcome != STATUS_OK) /* the header holds the cause alone */
        return (loader_sample){.image_id = record->id,
                               .image = p->image,
                               .part = dataset_image_part(l->data, p->image),
                               .epoch = p->epoch,
                               .file_name = dataset_file_name(l->data, p->image),
                               .height = record->height,
                               .width = record->width,
                               .cause = h->cause};
    return (loader_sample){.image_id = record->id,
                           .image = p->image,
                           .part = dataset_image_part(l->data, p->image),
                           .epoch = p->epoch,
                           .file_name = dataset_file_name(l->data, p->image),
                           .height = h->height,
                           .width = h->width,
                           .pixels = slot + h->pixels,
                           .resized_height = h->view.resized_height,
                           .resized_width = h->view.resized_width,
                           .flip = h->view.flip,
                           .replaced = p->attempt > 0,
                           .objects = h->objects,
                           .boxes = (const float *)(const void *)(slot + h->boxes),
                           .labels = (const int32_t *)(const void *)(slot + h->labels),
                           .annotation_ids = (const int64_t *)(const void *)(slot + h->ids),
                           .masks = (const gt_mask_record *)(const void *)(slot + h->masks),
                           .mask_blob = slot + h->blob,
                           .mask_blob_bytes = (size_t)h->blob_bytes,
                           .seconds = h->seconds};
}

status loader_next(loader *l, loader_batch *out) {
    CHECK(!l->in_use, "the last batch was not released");
    double start = clock_seconds();
    for (int32_t i = 0; i < l->batch; i++) {
        RETURN_IF_ERROR(await_ticket(l, l->delivered + i));
        count_images(l, place_of(l, l->delivered + i));
        RETURN_IF_ERROR(check_share(l));
        l->samples[i] = sample_of(l, l->delivered + i);
    }
    l->in_use = true;
    *out = (loader_batch){.iteration = l->delivered / l->batch,
                          .samples = l->samples,
                          .count = l->batch,
                          .wait_seconds = clock_seconds() - start};
    return STATUS_OK;
}

void loader_release_batch(loader *l) {
    CHECK(l->in_use, "no batch is in use");
    for (int32_t i = 0; i < l->batch; i++) place_of(l, l->delivered + i)->state = PLACE_FREE;
    l->delivered += l->batch;
    l->in_use = false;
    if (l->options.workers > 0) pump(l);
}

status loader_start_at(loader *l, int64_t iteration) {
    CHECK(!l->in_use && iteration >= 0, "iteration %lld", (long long)iteration);
    for (int64_t t = l->delivered; t < l->issued; t++) {
        while (place_of(l, t)->state == PLACE_GIVEN) RETURN_IF_ERROR(wait_for_workers(l));
        place_of(l, t)->state = PLACE_FREE;
    }
    l->delivered = l->issued = iteration * l->batch;
    if (l->options.workers > 0) pump(l);
    return STATUS_OK;
}

static status check_options(loader_options *o) {
    if (o->world < 1 || o->rank < 0 || o->rank >= o->world)
        return error_set(STATUS_CONFIG, "check how mpirun was called", "rank %d of %d", o->rank, o->world);
    if (o->sampler.global_batch % o->world)
        return error_set(STATUS_CONFIG, "choose SOLVER.IMS_PER_BATCH as a multiple of the number of ranks",
                         "SOLVER.IMS_PER_BATCH %d is not divisible by %d ranks", o->sampler.global_batch,
                         o->world);
    if (o->workers < 0 || o->workers > LOADER_MAX_WORKERS)
        return error_set(STATUS_CONFIG, "set DATALOADER.NUM_WORKERS between 0 and 256",
                         "DATALOADER.NUM_WORKERS is %d", o->workers);
    if (o->prefetch_batches <= 0) o->prefetch_batches = DEFAULT_PREFETCH;
    if (o->prefetch_batches > 64) o->prefetch_batches = 64;
    if (!(o->stall_seconds > 0)) o->stall_seconds = 60;
    return STATUS_OK;
}

/* Slots that hold the largest image: the batch in use and those made ahead. */
static status make_ring(loader *l) {
    uint32_t largest = 0, count = sampler_image_count(l->sampler);
    sample_limits *most = &l->limits;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t image = sampler_image(l->sampler, i);
        sample_limits one = sample_limits_of(&l->builder, image);
        if (one.bytes > most->bytes) largest = image;
        if (one.bytes > most->bytes) most->bytes = one.bytes;
        if (one.pixel_bytes > most->pixel_bytes) most->pixel_bytes = one.pixel_bytes;
        if (one.mask_bytes > most->mask_bytes) most->mask_bytes = one.mask_bytes;
        if (one.objects > most->objects) most->objects = one.objects;
    }
    int64_t slots = (int64_t)l->batch * (l->options.workers > 0 ? l->options.prefetch_batches + 1 : 1);
    if (slots > INT32_MAX)
        return error_set(STATUS_CONFIG, "choose a smaller SOLVER.IMS_PER_BATCH",
                         "%" PRId64 " samples at a time", slots);
    status s = shared_ring_init(&l->ring, (int)slots, most->bytes);
    return s == STATUS_OK ? s
                          : error_prefix(s, "largest image \"%.200s\"", dataset_file_name(l->data, largest));
}

static status loader_init(loader *l, const loader_options *options) {
    RETURN_IF_ERROR(check_options(&l->options));
    RETURN_IF_ERROR(sampler_new(&l->sampler, l->data, &options->sampler));
    l->batch = options->sampler.global_batch / options->world;
    RETURN_IF_ERROR(make_ring(l));
    l->places = calloc((size_t)l->ring.slots, sizeof *l->places);
    l->items = calloc((size_t)options->sampler.global_batch, sizeof *l->items);
    l->samples = calloc((size_t)l->batch, sizeof *l->samples);
    l->known = calloc((size_t)dataset_image_count(l->data) + 1, 1);
    if (!l->places || !l->items || !l->samples || !l->known)
        return error_set(STATUS_OS, "free memory", "no memory for the loader");
    if (l->options.workers == 0) return STATUS_OK;
    l->context = (worker_context){&l->ring, &l->builder};
    RETURN_IF_ERROR(nursery_start(&l->nursery, loader_worker_run, &l->context));
    for (int w = 0; w < l->options.workers; w++)
        RETURN_IF_ERROR(nursery_spawn(&l->nursery, &l->workers[w].fd, &l->workers[w].pid));
    return STATUS_OK;
}

status loader_new(loader **out, const dataset *data, const loader_options *options) {
    loader *l = calloc(1, sizeof *l);
    if (!l) return error_set(STATUS_OS, "free memory", "no memory for the loader");
    l->data = data;
    l->options = *options;
    l->items_iteration = -1;
    l->nursery.control = -1;
    for (int w = 0; w < LOADER_MAX_WORKERS; w++) l->workers[w].fd = -1;
    sample_builder_init(&l->builder, data, options->masks, options->bitmap_masks);
    status s = loader_init(l, options);
    if (s != STATUS_OK) {
        loader_free(l);
        return s;
    }
    *out = l;
    return STATUS_OK;
}

void loader_free(loader *l) {
    if (!l) return;
    for (int w = 0; w < LOADER_MAX_WORKERS; w++)
        if (l->workers[w].fd >= 0) close(l->workers[w].fd);
    nursery_stop(&l->nursery);
    shared_ring_release(&l->ring);
    sample_builder_release(&l->builder);
    sampler_free(l->sampler);
    free(l->places);
    free(l->items);
    free(l->samples);
    free(l->known);
    free(l);
}

loader_limits loader_get_limits(const loader *l) {
    return (loader_limits){.pixel_bytes = l->limits.pixel_bytes,
                           .mask_bytes = l->limits.mask_bytes,
                           .objects = l->limits.objects};
}

const sampler *loader_sampler(const loader *l) {
    return l->sampler;
}

loader_stats loader_get_stats(const loader *l) {
    return l->stats;
}

pid_t loader_worker_pid(const loader *l, int w) {
    return w >= 0 && w < l->options.workers && l->workers[w].fd >= 0 ? l->workers[w].pid : 0;
}

pid_t loader_nursery_pid(const loader *l) {
    return l->nursery.control >= 0 ? l->nursery.pid : 0;
}
