#include "bench/synthetic_data.h"

#include "base/file_util.h"
#include "data/synth.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

/* A session of its own, since what ends a job ends all processes of its group; this one stays to clear up. */
static _Noreturn void remove_at_end(const char *folder, int end) {
    char byte;
    setsid();
    while (read(end, &byte, 1) < 0 && errno == EINTR) continue;
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    _exit(0);
}

static status start_remover(synthetic_data *data) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_set(STATUS_OS, "raise the limit of open files", "no pipe for generated data: %s",
                         strerror(errno));
    data->remover = fork();
    if (data->remover == 0) {
        close(ends[1]);
        remove_at_end(data->folder, ends[0]);
    }
    close(ends[0]);
    data->alive = ends[1];
    if (data->remover > 0) return STATUS_OK;
    return error_set(STATUS_OS, "raise the limit of processes", "no process for generated data: %s",
                     strerror(errno));
}

static int within(int side) {
    return side < SYNTH_MIN_SIDE ? SYNTH_MIN_SIDE : side > SYNTH_MAX_SIDE ? SYNTH_MAX_SIDE : side;
}

status synthetic_data_make(synthetic_data *data, int images, int height, int width, uint64_t seed) {
    const char *place = getenv("TMPDIR");
    *data = (synthetic_data){.alive = -1};
    RETURN_IF_ERROR(path_join(data->folder, place && place[0] ? place : "/tmp", "maskrcnn-synthetic-XXXXXX"));
    if (!mkdtemp(data->folder)) {
        status s = error_from_output(errno, "make", data->folder);
        data->folder[0] = '\0';
        return s;
    }
    RETURN_IF_ERROR(start_remover(data));
    synth_options size = {.height = within(height), .width = within(width)};
    return synth_dataset(data->folder, images, seed, &size);
}

void synthetic_data_remove(synthetic_data *data) {
    if (!data->folder[0]) return;
    if (data->alive >= 0) close(data->alive);
    if (data->remover > 0) waitpid(data->remover, NULL, 0);
    *data = (synthetic_data){.alive = -1};
}

void synthetic_data_spec(char spec[SYNTHETIC_SPEC], const synthetic_data *data) {
    snprintf(spec, SYNTHETIC_SPEC, "%s/annotations.json:%s/images", data->folder, data->folder);
}
