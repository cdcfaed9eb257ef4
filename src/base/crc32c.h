/* CRC-32C (Castagnoli, polynomial 0x1EDC6F41 reflected): digests of checkpoint tensors, framing of
 * TensorBoard events. crc32c(0, "123456789", 9) == 0xE3069283. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC of what `crc` covered (0 at the start) followed by `size` bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

#endif
