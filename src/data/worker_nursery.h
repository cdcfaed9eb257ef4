/* A small process that forks others on request. It is forked itself while the program is still
 * single-threaded and holds no MPI or device handle; so a worker that dies hours later can be replaced,
 * although the program itself must not fork any more.
 *
 * Every process of it: is killed by the kernel when its parent dies (PR_SET_PDEATHSIG), ignores SIGINT,
 * SIGTERM, SIGHUP, SIGPIPE, SIGUSR1 and SIGUSR2 (the rank decides when to stop), and has closed every
 * inherited descriptor but stdout, stderr and its socket. */
#ifndef DATA_WORKER_NURSERY_H
#define DATA_WORKER_NURSERY_H

#include <sys/types.h>
#include "base/status.h"

/* What a worker does with its end of the socket, until the other end is closed; then it returns and the
 * process ends with _exit(0). */
typedef void (*nursery_body)(int socket, void *context);

typedef struct nursery {
    int control; /* socket to the process; -1 when it is not running */
    pid_t pid;
} nursery;

/* Forks the nursery. Call it from the thread that lives as long as the process (PR_SET_PDEATHSIG follows the
 * forking thread), before any other thread exists. `context` is what the process's memory holds now. */
status nursery_start(nursery *n, nursery_body body, void *context);

/* Forks a worker. *fd is this end of its SOCK_SEQPACKET socket (close-on-exec, non-blocking); its end-of-file
 * says that the worker is gone and writes nothing any more. STATUS_OS when the nursery is gone or cannot
 * fork. */
status nursery_spawn(nursery *n, int *fd, pid_t *pid);

/* Sends SIGKILL to a worker, if it still lives. */
void nursery_kill(nursery *n, pid_t pid);

/* Ends all workers and the nursery, and waits until they are gone. */
void nursery_stop(nursery *n);

#endif
