/* From columns to librdkafka's queue. */
#include "client.h"

/* A pointer of NULL would say that the value is null, not empty. */
static void give(rd_kafka_vu_t *to, const column *c, int64_t i) {
    int null = column_is_null(c, i);
    to->u.mem.ptr = null ? NULL : (void *)(c->data ? c->data + c->offsets[i] : (const uint8_t *)"");
    to->u.mem.size = null ? 0 : (size_t)(c->offsets[i + 1] - c->offsets[i]);
}

/* Produce rows [from, count) of a batch in order. `headers` NULL: none; else its column `headers`, of which row i
 * takes row header_row[i] (i where that is NULL). `partition` NULL: by the key. Returns the rows handed over so far:
 * `count`, or fewer with `*code` set: ERR_QUEUE_FULL where the queue had no room until the deadline. */
EXPORT int64_t ts_produce(rd_kafka_t *rk, rd_kafka_topic_t *topic, int64_t from, int64_t count, const column *value,
                          const column *key, const column *headers, const int64_t *header_row,
                          const int32_t *partition, report *opaque, int64_t timeout_us, int *code) {
    rd_kafka_vu_t given[7];
    memset(given, 0, sizeof given);
    int64_t deadline = now_us() + timeout_us;
    given[0].vtype = VTYPE_RKT;
    given[0].u.rkt = topic;
    given[1].vtype = VTYPE_MSGFLAGS;
    given[1].u.i = MSG_F_COPY;
    given[2].vtype = VTYPE_OPAQUE;
    given[2].u.ptr = opaque;
    given[3].vtype = VTYPE_PARTITION;
    given[4].vtype = VTYPE_VALUE;
    given[5].vtype = VTYPE_KEY;
    given[6].vtype = VTYPE_HEADERS;
    *code = 0;
    for (int64_t i = from; i < count; i++) {
        given[3].u.i32 = partition ? partition[i] : -1;
        give(&given[4], value, i);
        give(&given[5], key, i);
        rd_kafka_headers_t *own = NULL;
        if (headers) {
            int64_t row = header_row ? header_row[i] : i;
            int bad = 0;
            own = headers_unpack(headers->data + headers->offsets[row], headers->offsets[row + 1] - headers->offsets[row],
                                 &bad);
            if (unlikely(bad)) {
                *code = ERR_NO_MEMORY;
                return i;
            }
            given[6].u.headers = own;
        }
        for (;;) {
            rd_kafka_error_t *error = rd.produceva(rk, given, own ? 7 : 6);
            if (likely(!error))
                break; /* the headers are librdkafka's now */
            *code = rd.error_code(error);
            rd.error_destroy(error);
            if (*code == ERR_QUEUE_FULL && now_us() < deadline) {
                *code = 0;
                rd.poll(rk, 50);
                continue;
            }
            if (own)
                rd.headers_destroy(own);
            return i;
        }
    }
    return count;
}
