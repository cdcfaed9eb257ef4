#include "data/worker_nursery.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/check.h"

enum { MAX_CHILDREN = 1024, SOCKET_FD = 3 };

typedef enum nursery_verb { NURSERY_SPAWN, NURSERY_KILL } nursery_verb;

typedef struct nursery_message {
    nursery_verb verb;
    pid_t pid; /* KILL: whom; reply to SPAWN: the child or -errno */
} nursery_message;

/* The nursery process's own state. */
typedef struct keeper {
    int control;
    nursery_body body;
    void *context;
    pid_t children[MAX_CHILDREN];
    int count;
} keeper;

static const int ignored_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2};
enum { IGNORED_SIGNALS = sizeof ignored_signals / sizeof *ignored_signals };

/* Forks a process that ignores those signals from its first moment on; its children inherit that. */
static pid_t fork_deaf(void) {
    sigset_t blocked, before;
    sigemptyset(&blocked);
    for (int i = 0; i < IGNORED_SIGNALS; i++) sigaddset(&blocked, ignored_signals[i]);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    pid_t pid = fork();
    int failure = errno;
    for (int i = 0; pid == 0 && i < IGNORED_SIGNALS; i++) signal(ignored_signals[i], SIG_IGN);
    sigprocmask(SIG_SETMASK, &before, NULL);
    errno = failure;
    return pid;
}

/* Settings of every process here. `parent` is who has to be alive. `fd` becomes descriptor 3, all above are
 * closed. */
static void become_child(pid_t parent, int fd, const char *name) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0); /* it died before the line above */
    prctl(PR_SET_NAME, name);
    if (fd != SOCKET_FD && dup2(fd, SOCKET_FD) < 0) _exit(1);
    fcntl(SOCKET_FD, F_SETFD, FD_CLOEXEC);
    if (close_range(SOCKET_FD + 1, ~0u, 0) != 0) /* kernels before 5.9, some sandboxes */
        for (int i = SOCKET_FD + 1; i < 65536; i++) close(i);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null > SOCKET_FD) {
        dup2(null, STDIN_FILENO);
        close(null);
    }
}

static void forget_dead(keeper *k) {
    for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) > 0;)
        for (int i = 0; i < k->count; i++)
            if (k->children[i] == pid) k->children[i--] = k->children[--k->count];
}

static pid_t fork_child(keeper *k, int fd) {
    if (fd < 0 || k->count == MAX_CHILDREN) return -EAGAIN;
    pid_t self = getpid(), pid = fork();
    if (pid < 0) return -errno;
    if (pid == 0) {
        become_child(self, fd, "maskrcnn-loader");
        k->body(SOCKET_FD, k->context);
        _exit(0);
    }
    k->children[k->count++] = pid;
    return pid;
}

/* Receives a message and the descriptor that may come with it (-1: none). False at the end. */
static bool receive(int control, nursery_message *message, int *fd) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } extra;
    struct iovec body = {message, sizeof *message};
    struct msghdr header = {
        .msg_iov = &body, .msg_iovlen = 1, .msg_control = &extra, .msg_controllen = sizeof extra};
    ssize_t got;
    do got = recvmsg(control, &header, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    *fd = -1;
    struct cmsghdr *first = got > 0 ? CMSG_FIRSTHDR(&header) : NULL;
    if (first && first->cmsg_type == SCM_RIGHTS) memcpy(fd, CMSG_DATA(first), sizeof *fd);
    return got == (ssize_t)sizeof *message;
}

static _Noreturn void keeper_run(keeper *k) {
    nursery_message message;
    int fd;
    while (receive(k->control, &message, &fd)) {
        forget_dead(k);
        if (message.verb == NURSERY_KILL) {
            for (int i = 0; i < k->count; i++)
                if (k->children[i] == message.pid) kill(message.pid, SIGKILL);
        } else {
            message.pid = fork_child(k, fd);
            if (send(k->control, &message, sizeof message, MSG_NOSIGNAL) < 0) break;
        }
        if (fd >= 0) close(fd);
    }
    forget_dead(k);
    for (int i = 0; i < k->count; i++) kill(k->children[i], SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
    }
    _exit(0);
}

status nursery_start(nursery *n, nursery_body body, void *context) {
    int pair[2];
    *n = (nursery){.control = -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return error_set(STATUS_OS, "raise the limit of open files", "no socket for the loader: %s",
                         strerror(errno));
    fflush(NULL); /* nothing buffered may be written twice */
    pid_t self = getpid(), pid = fork_deaf();
    if (pid == 0) {
        become_child(self, pair[1], "maskrcnn-nursery");
        keeper k = {.control = SOCKET_FD, .body = body, .context = context};
        keeper_run(&k);
    }
    int failure = errno;
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return error_set(STATUS_OS, "raise the limit of processes", "cannot fork loader workers: %s",
                         strerror(failure));
    }
    n->control = pair[0];
    n->pid = pid;
    return STATUS_OK;
}

static bool send_with_fd(int control, nursery_message message, int fd) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } extra;
    memset(&extra, 0, sizeof extra);
    struct iovec body = {&message, sizeof message};
    struct msghdr header = {
        .msg_iov = &body, .msg_iovlen = 1, .msg_control = &extra, .msg_controllen = sizeof extra};
    struct cmsghdr *first = CMSG_FIRSTHDR(&header);
    first->cmsg_level = SOL_SOCKET;
    first->cmsg_type = SCM_RIGHTS;
    first->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(first), &fd, sizeof fd);
    ssize_t sent;
    do sent = sendmsg(control, &header, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof message;
}

status nursery_spawn(nursery *n, int *fd, pid_t *pid) {
    static const char remedy[] =
        "the run goes on with fewer workers; see the messages above for what ended them";
    if (n->control < 0) return error_set(STATUS_OS, remedy, "the loader's nursery process is gone");
    int pair[2], none;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return error_set(STATUS_OS, "raise the limit of open files", "no socket for a loader worker: %s",
                         strerror(errno));
    nursery_message reply = {.verb = NURSERY_SPAWN};
    bool good = send_with_fd(n->control, reply, pair[1]);
    close(pair[1]);
    good = good && receive(n->control, &reply, &none);
    if (good && reply.pid > 0) {
        fcntl(pair[0], F_SETFL, O_NONBLOCK);
        *fd = pair[0];
        *pid = reply.pid;
        return STATUS_OK;
    }
    close(pair[0]);
    if (good)
        return error_set(STATUS_OS, "raise the limit of processes", "cannot fork a loader worker: %s",
                         strerror(-reply.pid));
    close(n->control);
    n->control = -1;
    return error_set(STATUS_OS, remedy, "the loader's nursery process is gone");
}

void nursery_kill(nursery *n, pid_t pid) {
    nursery_message message = {.verb = NURSERY_KILL, .pid = pid};
    if (n->control >= 0) (void)!send(n->control, &message, sizeof message, MSG_NOSIGNAL);
}

void nursery_stop(nursery *n) {
    if (n->control >= 0) close(n->control);
    n->control = -1;
    if (n->pid > 0)
        while (waitpid(n->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    n->pid = 0;
}
