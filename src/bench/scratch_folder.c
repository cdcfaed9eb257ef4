#include "bench/scratch_folder.h"

#include "base/file_util.h"

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

static void remove_all(const char *folder) {
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A session of its own, since what ends a job ends all processes of its group; this one stays to clear up. */
static _Noreturn void remove_at_end(const char *folder, int end) {
    char byte;
    setsid();
    while (read(end, &byte, 1) < 0 && errno == EINTR) continue;
    remove_all(folder);
    _exit(0);
}

static status start_remover(scratch_folder *f) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_set(STATUS_OS, "raise the limit of open files", "no pipe for %s: %s", f->path,
                         strerror(errno));
    f->remover = fork();
    int failed = errno;
    if (f->remover == 0) {
        close(ends[1]);
        remove_at_end(f->path, ends[0]);
    }
    close(ends[0]);
    f->alive = ends[1];
    if (f->remover > 0) return STATUS_OK;
    close(ends[1]);
    return error_set(STATUS_OS, "raise the limit of processes", "no process for %s: %s", f->path,
                     strerror(failed));
}

status scratch_folder_make(scratch_folder *f) {
    const char *place = getenv("TMPDIR");
    *f = (scratch_folder){.remover = 0};
    RETURN_IF_ERROR(path_join(f->path, place && place[0] ? place : "/tmp", "maskrcnn-bench-XXXXXX"));
    if (mkdtemp(f->path)) return start_remover(f);
    status s = error_from_output(errno, "make", f->path);
    error_set_remedy("set TMPDIR to a folder that can be written");
    f->path[0] = '\0';
    return s;
}

void scratch_folder_remove(scratch_folder *f) {
    if (!f->path[0]) return;
    if (f->remover > 0) {
        close(f->alive);
        waitpid(f->remover, NULL, 0);
    } else {
        remove_all(f->path);
    }
    *f = (scratch_folder){.remover = 0};
}
