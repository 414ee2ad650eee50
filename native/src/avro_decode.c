/* From Avro's binary encoding to Arrow columns, for records of plain fields: schemas/native_avro.py says which.
 * Texts are not copied: they become views into the bytes of the records. Hostile bytes cost their own record. */
#include "avro.h"

/* One field and where its column goes. `null_branch` is the place of null in its union, -1 where it is no union.
 * `values` holds int64, float, double or views, or a bitmap of zeros for booleans; a map or array has `children` of
 * `room` keys and items, and offsets of one more than there are rows. `valid` is a bitmap of zeros. */
typedef struct {
    int32_t kind;
    int32_t null_branch;
    void *values;
    uint8_t *valid;
    int32_t *offsets;
    view *keys;
    view *items;
    int64_t room;
    int64_t children;
    int64_t nulls;
} field;

enum { GOOD, CUT_SHORT, BAD_VARINT, BAD_UNION, BAD_BOOLEAN, BAD_UTF8, BAD_BLOCK, LEFT_OVER, NO_ROOM };

typedef struct {
    const uint8_t *at, *end;
} cursor;

static inline int read_long(cursor *c, int64_t *out) {
    uint64_t n = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (unlikely(c->at == c->end))
            return CUT_SHORT;
        uint8_t byte = *c->at++;
        if (shift == 63 && byte > 1)
            return BAD_VARINT;
        n |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *out = (int64_t)(n >> 1) ^ -(int64_t)(n & 1);
            return GOOD;
        }
    }
    return BAD_VARINT;
}

/* Well-formed UTF-8 (Unicode, table 3-7): no surrogates, nothing overlong, nothing above U+10FFFF. */
static int is_utf8(const uint8_t *p, int64_t size) {
    const uint8_t *end = p + size;
    while (p < end) {
        if (end - p >= 8) {
            uint64_t word;
            memcpy(&word, p, 8);
            if (!(word & 0x8080808080808080ull)) {
                p += 8;
                continue;
            }
        }
        uint8_t first = *p++;
        if (first < 0x80)
            continue;
        int more = first >= 0xc2 && first <= 0xdf ? 1 : (first & 0xf0) == 0xe0 ? 2 : first >= 0xf0 && first <= 0xf4 ? 3 : 0;
        if (!more || end - p < more)
            return 0;
        if ((first == 0xe0 && p[0] < 0xa0) || (first == 0xed && p[0] > 0x9f) || (first == 0xf0 && p[0] < 0x90) ||
            (first == 0xf4 && p[0] > 0x8f))
            return 0;
        while (more--)
            if ((*p++ & 0xc0) != 0x80)
                return 0;
    }
    return 1;
}

static inline int read_view(cursor *c, const uint8_t *base, int text, view *out) {
    int64_t size;
    int verdict = read_long(c, &size);
    if (unlikely(verdict))
        return verdict;
    if (unlikely(size < 0 || size > c->end - c->at))
        return CUT_SHORT;
    if (unlikely(text && !is_utf8(c->at, size)))
        return BAD_UTF8;
    memset(out, 0, sizeof *out);
    out->size = (int32_t)size;
    if (size <= 12) {
        memcpy(out->u.held, c->at, (size_t)size);
    } else {
        memcpy(out->u.kept.prefix, c->at, 4);
        out->u.kept.offset = (int32_t)(c->at - base);
    }
    c->at += size;
    return GOOD;
}

static int read_blocks(cursor *c, const uint8_t *base, field *f, int64_t *children) {
    for (;;) {
        int64_t count, size;
        int verdict = read_long(c, &count);
        if (verdict)
            return verdict;
        if (count == 0)
            return GOOD;
        if (count < 0) {
            if (count == INT64_MIN || (verdict = read_long(c, &size)))
                return verdict ? verdict : BAD_BLOCK;
            count = -count;
        }
        if (count > c->end - c->at) /* an item takes a byte at least */
            return CUT_SHORT;
        if (*children + count > f->room)
            return NO_ROOM;
        for (; count > 0; count--, ++*children) {
            if (f->kind == TEXT_MAP && (verdict = read_view(c, base, 1, &f->keys[*children])))
                return verdict;
            if ((verdict = read_view(c, base, 1, &f->items[*children])))
                return verdict;
        }
    }
}

static inline void set_bit(uint8_t *bitmap, int64_t at, int to) {
    uint8_t bit = (uint8_t)(1u << (at & 7));
    bitmap[at >> 3] = (uint8_t)(to ? bitmap[at >> 3] | bit : bitmap[at >> 3] & ~bit);
}

static inline int read_value(cursor *c, const uint8_t *base, field *f, int64_t row) {
    switch (f->kind) {
    case BOOLEAN:
        if (c->at == c->end)
            return CUT_SHORT;
        if (*c->at > 1)
            return BAD_BOOLEAN;
        set_bit(f->values, row, *c->at++);
        return GOOD;
    case LONG:
        return read_long(c, (int64_t *)f->values + row);
    case FLOAT:
    case DOUBLE: {
        int64_t size = f->kind == FLOAT ? 4 : 8;
        if (c->end - c->at < size)
            return CUT_SHORT;
        memcpy((uint8_t *)f->values + row * size, c->at, (size_t)size);
        c->at += size;
        return GOOD;
    }
    case TEXT:
    case BYTES:
        return read_view(c, base, f->kind == TEXT, (view *)f->values + row);
    default: {
        int64_t children = f->offsets[row];
        int verdict = read_blocks(c, base, f, &children);
        f->offsets[row + 1] = (int32_t)children;
        return verdict;
    }
    }
}

static void put_null(field *f, int64_t row) {
    switch (f->kind) {
    case BOOLEAN:
        set_bit(f->values, row, 0);
        break;
    case FLOAT:
        ((float *)f->values)[row] = 0;
        break;
    case LONG:
    case DOUBLE:
        ((int64_t *)f->values)[row] = 0;
        break;
    case TEXT:
    case BYTES:
        memset((view *)f->values + row, 0, sizeof(view));
        break;
    default:
        f->offsets[row + 1] = f->offsets[row];
    }
    set_bit(f->valid, row, 0);
}

static int read_record(cursor *c, const uint8_t *base, field *fields, int count, int64_t row, int *failed) {
    for (int i = 0; i < count; i++) {
        field *f = &fields[i];
        int verdict;
        *failed = i;
        if (f->null_branch >= 0) {
            int64_t branch;
            if ((verdict = read_long(c, &branch)))
                return verdict;
            if (unlikely(branch != 0 && branch != 1))
                return BAD_UNION;
            if (branch == f->null_branch) {
                put_null(f, row);
                continue;
            }
        }
        if (unlikely((verdict = read_value(c, base, f, row))))
            return verdict;
        set_bit(f->valid, row, 1);
    }
    return GOOD;
}

/* Decode `count` values of a column (rows[i], or i where that is NULL), `skip` bytes from their beginnings. Good ones
 * fill the columns without gaps, and `kept` holds their i; the others' i go to `bad`, their verdict and field to
 * `verdicts` as verdict * 65536 + field. Returns the number of good ones; -1 where a map or array has too little room. */
EXPORT int64_t ts_avro_decode(const column *values, const int64_t *rows, int64_t count, int64_t skip, field *fields,
                              int field_count, int64_t *kept, int64_t *bad, int32_t *verdicts) {
    int64_t row = 0, failures = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t from = rows ? rows[i] : i;
        int failed = 0;
        cursor c = {values->data + values->offsets[from] + skip, values->data + values->offsets[from + 1]};
        int verdict = c.at > c.end ? CUT_SHORT : read_record(&c, values->data, fields, field_count, row, &failed);
        if (verdict == GOOD && c.at != c.end)
            verdict = LEFT_OVER;
        if (unlikely(verdict == NO_ROOM))
            return -1;
        if (likely(verdict == GOOD)) {
            kept[row++] = i;
        } else {
            bad[failures] = i;
            verdicts[failures++] = verdict * 65536 + failed;
        }
    }
    for (int f = 0; f < field_count; f++) {
        fields[f].children = fields[f].offsets ? fields[f].offsets[row] : 0;
        int64_t nulls = 0;
        for (int64_t i = 0; i < row; i++)
            nulls += !(fields[f].valid[i >> 3] >> (i & 7) & 1);
        fields[f].nulls = nulls;
    }
    return row;
}

/* The schema id in Confluent's framing of each value; -1 where there is none or the value is over `limit` bytes. */
EXPORT void ts_avro_ids(const column *values, int64_t count, int64_t limit, int64_t *ids) {
    for (int64_t i = 0; i < count; i++) {
        const uint8_t *p = values->data + values->offsets[i];
        int64_t size = values->offsets[i + 1] - values->offsets[i];
        if (column_is_null(values, i) || size < 5 || size > limit || p[0] != 0)
            ids[i] = -1;
        else
            ids[i] = (int64_t)((uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4]);
    }
}
