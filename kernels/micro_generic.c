/* Vectors of 4: SSE2 on x86-64, NEON on AArch64, whatever the compiler makes of them elsewhere. */
#define MICRO_SET micro_generic
#define MICRO_NAME "vectors of 4"
#define MICRO_LANES 4
#ifdef __aarch64__
#define MICRO_ROWS 8
#else
#define MICRO_ROWS 4
#endif

extern const struct micro_kernels MICRO_SET;
#include "micro_body.h"
