/* Sums of GPU memory over the ranks by NCCL, on the device's comm stream, while the compute stream goes on. */
#ifndef CUDA_COMM_NCCL_H
#define CUDA_COMM_NCCL_H

#include "comm/comm_backend.h"
#include "cuda/nccl_api.h"

/* Collective. `card` names this rank's GPU on its node ("0000:17:00.0"); `api` is borrowed, NULL where this rank has none (the
 * thread's error says why). On success *out owns `host`; else it stays the caller's.
 *
 * NO_DEVICE, on all ranks alike: a rank lacks NCCL, or two ranks share a card, which NCCL refuses. OS: no memory.
 * INTERNAL: NCCL cannot connect the ranks. */
status comm_nccl_open(comm **out, comm *host, device *d, const char *card, const nccl_api *api);

#endif
