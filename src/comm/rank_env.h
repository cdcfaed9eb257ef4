/* Who this process is in the job, from the launcher's environment alone; so it is known before MPI starts,
 * when the loader's workers are forked and the first errors happen. */
#ifndef COMM_RANK_ENV_H
#define COMM_RANK_ENV_H

#include "base/status.h"

typedef struct rank_env {
    int rank, size;             /* in the whole job */
    int local_rank, local_size; /* on this node; local_size is `size` where the launcher does not tell */
    const char *launcher;       /* "Open MPI", "PMI", "SLURM", or NULL for one rank without a launcher */
    char job[64];               /* tells jobs on one node apart; "" without a launcher */
} rank_env;

/* Reads OMPI_COMM_WORLD_{RANK,SIZE,LOCAL_RANK,LOCAL_SIZE}; else PMIX_RANK or PMI_RANK with PMI_SIZE or
 * SLURM_NTASKS; else SLURM_{PROCID,NTASKS,LOCALID}; else one rank. USAGE: a variable is not a number, or they
 * contradict each other. */
status rank_env_read(rank_env *out);

/* Prints the calling thread's error to stderr, `maskrcnn: error: <cause>` and `maskrcnn: remedy: <remedy>`, a
 * line each: once per node, when several ranks of the job fail with the same cause. Prints nothing without a
 * cause. Afterwards the caller ends the process; in a job of several ranks this returns when all ranks of the node
 * have reported the same, two seconds later at most. */
void rank_env_report_error(const rank_env *env);

#endif
