/* From librdkafka's messages to columns. */
#include "client.h"

enum { SLICE_MS = 1 };

static int32_t topic_index(client *c, const rd_kafka_topic_t *handle) {
    for (int i = 0; i < c->topics; i++)
        if (c->topic[i].handle == handle)
            return c->topic[i].same_as;
    if (c->topics == c->topic_room) {
        int room = c->topic_room ? 2 * c->topic_room : 8;
        topic_entry *bigger = realloc(c->topic, (size_t)room * sizeof *bigger);
        if (!bigger)
            abort();
        c->topic = bigger;
        c->topic_room = room;
    }
    topic_entry *entry = &c->topic[c->topics];
    entry->handle = handle;
    entry->name = strdup(rd.topic_name(handle));
    if (!entry->name)
        abort();
    entry->same_as = c->topics;
    for (int i = 0; i < c->topics; i++)
        if (strcmp(c->topic[i].name, entry->name) == 0) {
            entry->same_as = c->topic[i].same_as;
            break;
        }
    c->topics++;
    return entry->same_as;
}

EXPORT const char *ts_topic_name(const client *c, int32_t index) {
    return index >= 0 && index < c->topics ? c->topic[index].name : NULL;
}

static void meet(client *c, const rd_kafka_message_t *message) {
    if (c->incidents == c->incident_room) {
        int room = c->incident_room ? 2 * c->incident_room : 16;
        incident *bigger = realloc(c->incident, (size_t)room * sizeof *bigger);
        if (!bigger)
            abort();
        c->incident = bigger;
        c->incident_room = room;
    }
    incident *met = &c->incident[c->incidents++];
    memset(met, 0, sizeof *met);
    met->code = message->err;
    met->topic = message->rkt ? topic_index(c, message->rkt) : -1;
    met->partition = message->partition;
    met->offset = message->offset;
    /* An error's payload is its text; it need not end in NUL. */
    size_t size = message->payload ? message->len : 0;
    if (size > sizeof met->text - 1)
        size = sizeof met->text - 1;
    memcpy(met->text, message->payload ? message->payload : "", size);
}

/* The next incident, oldest first; 0 where none waits. */
EXPORT int ts_next_incident(client *c, incident *out) {
    if (c->incidents == 0)
        return 0;
    *out = c->incident[0];
    memmove(c->incident, c->incident + 1, (size_t)--c->incidents * sizeof *c->incident);
    return 1;
}

static void gather(client *c, rd_kafka_queue_t *queue, size_t count, int timeout_ms) {
    if (c->held_count + count > c->held_room) {
        size_t room = c->held_count + count;
        rd_kafka_message_t **bigger = realloc(c->held, room * sizeof *bigger);
        if (!bigger)
            abort();
        c->held = bigger;
        c->held_room = room;
    }
    rd_kafka_message_t **came = c->held + c->held_count;
    ssize_t got = rd.consume_batch_queue(queue, timeout_ms, came, count);
    for (ssize_t i = 0; i < got; i++) {
        if (likely(!came[i]->err)) {
            c->held_bytes += (int64_t)came[i]->len;
            c->held[c->held_count++] = came[i];
        } else {
            meet(c, came[i]);
            rd.message_destroy(came[i]);
        }
    }
}

static int interrupted(const client *c) { return c->rebalances || c->incidents; }

/* Wait up to `timeout_us` for a first record, then gather for up to `linger_us` or until a bound is reached; back at
 * once where a rebalance or an incident waits. Returns the number of records held.
 * consume_batch_queue waits its whole timeout unless it is filled, hence the slices. */
EXPORT int64_t ts_gather(client *c, rd_kafka_queue_t *queue, int64_t max_records, int64_t max_bytes,
                         int64_t timeout_us, int64_t linger_us) {
    int64_t deadline = now_us() + timeout_us;
    while (c->held_count == 0 && !interrupted(c)) {
        int64_t left = deadline - now_us();
        gather(c, queue, 1, left > 0 ? (int)((left + 999) / 1000) : 0);
        if (left <= 0)
            break;
    }
    if (c->held_count == 0 || interrupted(c))
        return (int64_t)c->held_count;
    deadline = now_us() + linger_us;
    int wait_ms = 0;
    while ((int64_t)c->held_count < max_records && c->held_bytes < max_bytes) {
        gather(c, queue, (size_t)(max_records - (int64_t)c->held_count), wait_ms);
        if (interrupted(c) || now_us() >= deadline)
            break;
        wait_ms = SLICE_MS;
    }
    return (int64_t)c->held_count;
}

/* How many of the held records, at least one, are within both bounds; the sizes of their columns in bytes. */
EXPORT int64_t ts_measure(client *c, int64_t max_records, int64_t max_bytes, int64_t *values, int64_t *keys,
                          int64_t *headers) {
    int64_t count = 0;
    *values = *keys = *headers = 0;
    while (count < max_records && count < (int64_t)c->held_count) {
        const rd_kafka_message_t *m = c->held[count];
        if (count > 0 && *values + (int64_t)m->len > max_bytes)
            break;
        *values += (int64_t)m->len;
        *keys += (int64_t)m->key_len;
        *headers += headers_packed_size(m);
        count++;
    }
    return count;
}

/* Where the columns of a batch go; every array has a place for each record, offsets one more. `*_valid` are bitmaps
 * of zeros to be set, `*_nulls` their nulls. */
typedef struct {
    int32_t *topic;
    int32_t *partition;
    int64_t *offset;
    int64_t *timestamp_ms;
    int64_t *value_offsets;
    uint8_t *value;
    uint8_t *value_valid;
    int64_t *key_offsets;
    uint8_t *key;
    uint8_t *key_valid;
    int64_t *header_offsets;
    uint8_t *headers;
    int64_t value_nulls;
    int64_t key_nulls;
} batch;

static uint8_t *put(const void *from, size_t size, uint8_t *to, uint8_t *valid, int64_t i, int64_t *nulls) {
    if (from) {
        memcpy(to, from, size);
        valid[i >> 3] |= (uint8_t)(1u << (i & 7));
        return to + size;
    }
    ++*nulls;
    return to;
}

/* Move the first `count` held records, as measured, into the columns. */
EXPORT void ts_fill(client *c, int64_t count, batch *b) {
    uint8_t *value = b->value, *key = b->key, *headers = b->headers;
    for (int64_t i = 0; i < count; i++) {
        rd_kafka_message_t *m = c->held[i];
        b->topic[i] = topic_index(c, m->rkt);
        b->partition[i] = m->partition;
        b->offset[i] = m->offset;
        b->timestamp_ms[i] = rd.message_timestamp(m, NULL);
        b->value_offsets[i] = value - b->value;
        value = put(m->payload, m->len, value, b->value_valid, i, &b->value_nulls);
        b->key_offsets[i] = key - b->key;
        key = put(m->key, m->key_len, key, b->key_valid, i, &b->key_nulls);
        b->header_offsets[i] = headers - b->headers;
        headers = headers_pack(m, headers);
        c->held_bytes -= (int64_t)m->len;
        rd.message_destroy(m);
    }
    b->value_offsets[count] = value - b->value;
    b->key_offsets[count] = key - b->key;
    b->header_offsets[count] = headers - b->headers;
    c->held_count -= (size_t)count;
    memmove(c->held, c->held + count, c->held_count * sizeof *c->held);
}

static int is_of(const rd_kafka_message_t *m, const char *topic, int32_t partition) {
    return m->partition == partition && strcmp(rd.topic_name(m->rkt), topic) == 0;
}

/* Whether a record of the partition is held. */
EXPORT int ts_holds(const client *c, const char *topic, int32_t partition) {
    for (size_t i = 0; i < c->held_count; i++)
        if (is_of(c->held[i], topic, partition))
            return 1;
    return 0;
}

/* Forget the held records of a partition; returns the offset of the first, or -1 where there was none. */
EXPORT int64_t ts_drop(client *c, const char *topic, int32_t partition) {
    int64_t first = -1;
    size_t kept = 0;
    for (size_t i = 0; i < c->held_count; i++) {
        rd_kafka_message_t *m = c->held[i];
        if (!is_of(m, topic, partition)) {
            c->held[kept++] = m;
            continue;
        }
        if (first < 0)
            first = m->offset;
        c->held_bytes -= (int64_t)m->len;
        rd.message_destroy(m);
    }
    c->held_count = kept;
    return first;
}
