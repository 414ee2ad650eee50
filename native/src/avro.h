#ifndef TILLSTREAM_AVRO_H
#define TILLSTREAM_AVRO_H

#include "native.h"

enum { BOOLEAN = 1, LONG, FLOAT, DOUBLE, TEXT, BYTES, TEXT_MAP, TEXT_ARRAY };

/* Arrow's view of a string of up to 12 bytes, which it holds, or of a longer one in a buffer. */
typedef struct {
    int32_t size;
    union {
        uint8_t held[12];
        struct {
            uint8_t prefix[4];
            int32_t buffer;
            int32_t offset;
        } kept;
    } u;
} view;

#endif
