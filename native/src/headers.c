/* Record headers, packed. Names and values are bytes: what is no UTF-8 passes as it came. (A name that holds a NUL is
 * cut there: librdkafka hands names over as C strings.) */
#include "native.h"

static uint32_t load32(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static void store32(uint8_t *p, uint32_t x) { memcpy(p, &x, sizeof x); }

int64_t headers_packed_size(const rd_kafka_message_t *message) {
    rd_kafka_headers_t *headers;
    if (rd.message_headers(message, &headers))
        return 4; /* none */
    int64_t size = 4;
    const char *name;
    const void *value;
    size_t length;
    for (size_t i = 0; !rd.header_get_all(headers, i, &name, &value, &length); i++)
        size += 8 + (int64_t)strlen(name) + (value ? (int64_t)length : 0);
    return size;
}

uint8_t *headers_pack(const rd_kafka_message_t *message, uint8_t *out) {
    uint8_t *count = out;
    out += 4;
    uint32_t n = 0;
    rd_kafka_headers_t *headers;
    if (!rd.message_headers(message, &headers)) {
        const char *name;
        const void *value;
        size_t length;
        for (; !rd.header_get_all(headers, n, &name, &value, &length); n++) {
            size_t name_length = strlen(name), value_length = value ? length : 0;
            store32(out, (uint32_t)name_length);
            store32(out + 4, value ? (uint32_t)length : (uint32_t)-1);
            memcpy(out + 8, name, name_length);
            memcpy(out + 8 + name_length, value ? value : "", value_length);
            out += 8 + name_length + value_length;
        }
    }
    store32(count, n);
    return out;
}

typedef struct {
    const uint8_t *name, *value;
    int64_t name_length, value_length; /* -1: null */
} header;

/* Read one header at *at and move on; 0 where the bytes end before it does. */
static int next_header(const uint8_t **at, const uint8_t *end, header *h) {
    if (end - *at < 8)
        return 0;
    h->name_length = load32(*at);
    h->value_length = (int32_t)load32(*at + 4);
    int64_t value = h->value_length < 0 ? 0 : h->value_length;
    if (h->value_length < -1 || end - *at - 8 < h->name_length + value)
        return 0;
    h->name = *at + 8;
    h->value = h->name + h->name_length;
    *at = h->value + value;
    return 1;
}

rd_kafka_headers_t *headers_unpack(const uint8_t *data, int64_t size, int *bad) {
    if (size < 4) {
        *bad = size != 0;
        return NULL;
    }
    const uint8_t *at = data + 4, *end = data + size;
    uint32_t count = load32(data);
    if (count == 0)
        return NULL;
    if ((int64_t)count > size / 8) { /* a header takes 8 bytes at least */
        *bad = 1;
        return NULL;
    }
    rd_kafka_headers_t *headers = rd.headers_new(count);
    header h;
    for (uint32_t i = 0; i < count; i++)
        if (!next_header(&at, end, &h) || rd.header_add(headers, (const char *)h.name, h.name_length,
                                                        h.value_length < 0 ? NULL : h.value, h.value_length)) {
            rd.headers_destroy(headers);
            *bad = 1;
            return NULL;
        }
    return headers;
}

/* For each of `count` rows (row rows[i] of the column, i where `rows` is NULL): where in the data the value of its
 * first header of that name begins, and its length; -1 where it is missing or null. Returns the sum of the lengths,
 * or -1 - i where row i is no packed headers. */
EXPORT int64_t ts_header_find(const column *headers, const int64_t *rows, int64_t count, const char *name,
                              int64_t name_length, int64_t *start, int64_t *length) {
    int64_t sum = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t row = rows ? rows[i] : i;
        const uint8_t *at = headers->data + headers->offsets[row], *end = headers->data + headers->offsets[row + 1];
        start[i] = 0;
        length[i] = -1;
        if (end - at < 4)
            return -1 - i;
        uint32_t left = load32(at);
        at += 4;
        header h;
        while (left--) {
            if (!next_header(&at, end, &h))
                return -1 - i;
            if (h.name_length == name_length && memcmp(h.name, name, (size_t)name_length) == 0) {
                start[i] = h.value - headers->data;
                length[i] = h.value_length;
                sum += h.value_length > 0 ? h.value_length : 0;
                break;
            }
        }
    }
    return sum;
}

/* Copy slices (length -1: null) into a column; `valid` is a bitmap of zeros. Returns the nulls. */
EXPORT int64_t ts_slices(const uint8_t *data, const int64_t *start, const int64_t *length, int64_t count,
                         int64_t *offsets, uint8_t *out, uint8_t *valid) {
    uint8_t *to = out;
    int64_t nulls = 0;
    for (int64_t i = 0; i < count; i++) {
        offsets[i] = to - out;
        if (length[i] < 0) {
            nulls++;
            continue;
        }
        memcpy(to, data + start[i], (size_t)length[i]);
        to += length[i];
        valid[i >> 3] |= (uint8_t)(1u << (i & 7));
    }
    offsets[count] = to - out;
    return nulls;
}

/* Values of 1 to 15 digits as integers; `otherwise[i]` for what is none or lies at or above `limit`. */
EXPORT void ts_slices_as_integers(const uint8_t *data, const int64_t *start, const int64_t *length, int64_t count,
                                  int64_t limit, const int64_t *otherwise, int64_t *out) {
    for (int64_t i = 0; i < count; i++) {
        int64_t n = 0;
        int good = length[i] > 0 && length[i] <= 15;
        for (int64_t k = 0; good && k < length[i]; k++) {
            unsigned digit = data[start[i] + k] - (unsigned)'0';
            good = digit < 10;
            n = n * 10 + digit;
        }
        out[i] = good && n < limit ? n : otherwise[i];
    }
}
