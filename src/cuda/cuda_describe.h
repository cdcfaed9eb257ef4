/* What the plug-in finds here, for `maskrcnn env` and for the reasons why a card cannot be used. */
#ifndef CUDA_CUDA_DESCRIBE_H
#define CUDA_CUDA_DESCRIBE_H

#include "device/device_backend.h"

#include <stdint.h>

/* "13.0" from 13000. */
const char *cuda_version_text(char text[16], int version);

/* How many cards there are. NO_DEVICE with the reason where none can be used: no driver, one too old, no card. */
status cuda_count_cards(int *out);

/* Whether this build has code for a card of this compute capability: that of the same major version and no later minor one, or PTX
 * that the driver compiles. NO_DEVICE: it has not. */
status cuda_check_capability(const char *card, int major, int minor);

status cuda_describe(device_describe_row row, void *context);

#endif
