/* From Arrow columns to Avro's binary encoding, each value behind a header of its own. */
#include "avro.h"

/* One field and its column. `values` holds int32 or int64 by `width`, float, double, views or a boolean bitmap;
 * `buffers` are those that views point into. A map or array has `offsets` (int32) into `keys` and `items`, which
 * point into `key_buffers` and `item_buffers`. `bit` is where the bitmaps begin. */
typedef struct {
    int32_t kind;
    int32_t null_branch;
    int32_t width;
    int32_t _pad;
    const void *values;
    const uint8_t *valid;
    int64_t bit;
    int64_t valid_bit;
    const uint8_t *const *buffers;
    const int32_t *offsets;
    const view *keys;
    const view *items;
    const uint8_t *const *key_buffers;
    const uint8_t *const *item_buffers;
} given;

static inline uint8_t *put_long(uint8_t *to, int64_t value) {
    uint64_t n = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
    while (n >= 0x80) {
        *to++ = (uint8_t)(n | 0x80);
        n >>= 7;
    }
    *to++ = (uint8_t)n;
    return to;
}

static inline const uint8_t *bytes_of(const view *v, const uint8_t *const *buffers) {
    return v->size <= 12 ? v->u.held : buffers[v->u.kept.buffer] + v->u.kept.offset;
}

static inline uint8_t *put_view(uint8_t *to, const view *v, const uint8_t *const *buffers) {
    to = put_long(to, v->size);
    memcpy(to, bytes_of(v, buffers), (size_t)v->size);
    return to + v->size;
}

static uint8_t *put_children(uint8_t *to, const given *g, int64_t row) {
    int64_t from = g->offsets[row], end = g->offsets[row + 1];
    if (end > from) {
        to = put_long(to, end - from);
        for (int64_t i = from; i < end; i++) {
            if (g->kind == TEXT_MAP)
                to = put_view(to, &g->keys[i], g->key_buffers);
            to = put_view(to, &g->items[i], g->item_buffers);
        }
    }
    *to++ = 0;
    return to;
}

static inline uint8_t *put_value(uint8_t *to, const given *g, int64_t row) {
    switch (g->kind) {
    case BOOLEAN: {
        int64_t at = g->bit + row;
        *to++ = ((const uint8_t *)g->values)[at >> 3] >> (at & 7) & 1;
        return to;
    }
    case LONG:
        return put_long(to, g->width == 4 ? ((const int32_t *)g->values)[row] : ((const int64_t *)g->values)[row]);
    case FLOAT:
        memcpy(to, (const float *)g->values + row, 4);
        return to + 4;
    case DOUBLE:
        memcpy(to, (const double *)g->values + row, 8);
        return to + 8;
    case TEXT:
    case BYTES:
        return put_view(to, (const view *)g->values + row, g->buffers);
    default:
        return put_children(to, g, row);
    }
}

static int64_t view_room(const view *v) { return v->size + 5; }

/* An upper bound of what a field of `count` rows takes. */
static int64_t room_of(const given *g, int64_t count) {
    int64_t room = count * 11; /* a union's branch and a long */
    if (g->kind == TEXT || g->kind == BYTES)
        for (int64_t i = 0; i < count; i++)
            room += ((const view *)g->values)[i].size;
    if (g->kind == TEXT_MAP || g->kind == TEXT_ARRAY) {
        room += count * 6;
        for (int64_t i = g->offsets[0]; i < g->offsets[count]; i++)
            room += view_room(&g->items[i]) + (g->kind == TEXT_MAP ? view_room(&g->keys[i]) : 0);
    }
    return room;
}

EXPORT int64_t ts_avro_room(const given *fields, int field_count, int64_t count, int64_t header_size) {
    int64_t room = count * header_size;
    for (int f = 0; f < field_count; f++)
        room += room_of(&fields[f], count);
    return room;
}

/* Encode `count` rows into `out`, which has the room said; returns its size. */
EXPORT int64_t ts_avro_encode(const given *fields, int field_count, int64_t count, const uint8_t *header,
                              int64_t header_size, int64_t *offsets, uint8_t *out) {
    uint8_t *to = out;
    for (int64_t row = 0; row < count; row++) {
        offsets[row] = to - out;
        memcpy(to, header, (size_t)header_size);
        to += header_size;
        for (int f = 0; f < field_count; f++) {
            const given *g = &fields[f];
            int64_t at = g->valid_bit + row;
            int null = g->valid && !(g->valid[at >> 3] >> (at & 7) & 1);
            if (g->null_branch >= 0) {
                *to++ = (uint8_t)(2 * (null ? g->null_branch : 1 - g->null_branch));
                if (null)
                    continue;
            }
            to = put_value(to, g, row);
        }
    }
    offsets[count] = to - out;
    return to - out;
}
