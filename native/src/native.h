/* Shared by the sources of this library: the part of librdkafka's public interface that is called (rdkafka.h of
 * 2.x; structures and numbers there are stable ABI), and small helpers.
 *
 * librdkafka is not linked: ts_bind() looks its functions up in the very shared object that confluent-kafka has
 * brought and loaded, so that there is one librdkafka in the process. No Python.h: all is called through ctypes,
 * which releases the GIL. */
#ifndef TILLSTREAM_NATIVE_H
#define TILLSTREAM_NATIVE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define EXPORT __attribute__((visibility("default")))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
typedef struct rd_kafka_queue_s rd_kafka_queue_t;
typedef struct rd_kafka_topic_s rd_kafka_topic_t;
typedef struct rd_kafka_headers_s rd_kafka_headers_t;
typedef struct rd_kafka_error_s rd_kafka_error_t;
typedef struct rd_kafka_topic_partition_list_s rd_kafka_topic_partition_list_t;

typedef struct rd_kafka_message_s {
    int err;
    rd_kafka_topic_t *rkt;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *_private;
} rd_kafka_message_t;

typedef struct rd_kafka_vu_s {
    int vtype;
    union {
        rd_kafka_topic_t *rkt;
        int i;
        int32_t i32;
        struct {
            void *ptr;
            size_t size;
        } mem;
        rd_kafka_headers_t *headers;
        void *ptr;
        char _pad[64];
    } u;
} rd_kafka_vu_t;

enum { VTYPE_RKT = 2, VTYPE_PARTITION, VTYPE_VALUE, VTYPE_KEY, VTYPE_OPAQUE, VTYPE_MSGFLAGS, VTYPE_HEADERS = 10 };
enum { MSG_F_COPY = 2 };
enum { ERR_QUEUE_FULL = -184, ERR_PARTITION_EOF = -191, ERR_NO_MEMORY = -10001 };

typedef void rebalance_cb_t(rd_kafka_t *, int, rd_kafka_topic_partition_list_t *, void *);
typedef void error_cb_t(rd_kafka_t *, int, const char *, void *);
typedef void log_cb_t(const rd_kafka_t *, int, const char *, const char *);
typedef void dr_msg_cb_t(rd_kafka_t *, const rd_kafka_message_t *, void *);

#define RD_FUNCTIONS(X)                                                                                     \
    X(ssize_t, consume_batch_queue, (rd_kafka_queue_t *, int, rd_kafka_message_t **, size_t))               \
    X(void, message_destroy, (rd_kafka_message_t *))                                                        \
    X(int64_t, message_timestamp, (const rd_kafka_message_t *, int *))                                      \
    X(int, message_headers, (const rd_kafka_message_t *, rd_kafka_headers_t **))                            \
    X(int, header_get_all, (const rd_kafka_headers_t *, size_t, const char **, const void **, size_t *))    \
    X(rd_kafka_headers_t *, headers_new, (size_t))                                                          \
    X(void, headers_destroy, (rd_kafka_headers_t *))                                                        \
    X(int, header_add, (rd_kafka_headers_t *, const char *, ssize_t, const void *, ssize_t))                \
    X(const char *, topic_name, (const rd_kafka_topic_t *))                                                 \
    X(rd_kafka_topic_partition_list_t *, topic_partition_list_copy,                                         \
      (const rd_kafka_topic_partition_list_t *))                                                            \
    X(void, topic_partition_list_destroy, (rd_kafka_topic_partition_list_t *))                              \
    X(rd_kafka_error_t *, produceva, (rd_kafka_t *, const rd_kafka_vu_t *, size_t))                         \
    X(int, error_code, (const rd_kafka_error_t *))                                                          \
    X(void, error_destroy, (rd_kafka_error_t *))                                                            \
    X(int, poll, (rd_kafka_t *, int))                                                                       \
    X(void *, opaque, (const rd_kafka_t *))                                                                 \
    X(void, conf_set_opaque, (rd_kafka_conf_t *, void *))                                                   \
    X(void, conf_set_rebalance_cb, (rd_kafka_conf_t *, rebalance_cb_t *))                                   \
    X(void, conf_set_error_cb, (rd_kafka_conf_t *, error_cb_t *))                                           \
    X(void, conf_set_log_cb, (rd_kafka_conf_t *, log_cb_t *))                                               \
    X(void, conf_set_dr_msg_cb, (rd_kafka_conf_t *, dr_msg_cb_t *))

#define MEMBER(result, name, arguments) result(*name) arguments;
struct rd_functions {
    RD_FUNCTIONS(MEMBER)
};
#undef MEMBER
extern struct rd_functions rd;

/* A column of byte strings as Arrow's LargeBinary lays it out: value i is data[offsets[i], offsets[i + 1]), and
 * null where bit `bit + i` of `valid` is 0 (`valid` NULL: none is null). */
typedef struct {
    const int64_t *offsets;
    const uint8_t *data;
    const uint8_t *valid;
    int64_t bit;
} column;

static inline int column_is_null(const column *c, int64_t i) {
    int64_t at = c->bit + i;
    return c->valid && !(c->valid[at >> 3] >> (at & 7) & 1);
}

int64_t now_us(void);

/* Headers of a record, packed: their number (u32), then for each the length of its name (u32) and of its value
 * (i32, -1 for null), the name's bytes and the value's. */
int64_t headers_packed_size(const rd_kafka_message_t *message);
uint8_t *headers_pack(const rd_kafka_message_t *message, uint8_t *out);
/* Null where there are none; `*bad` is set where the bytes are no packed headers or memory ran out. */
rd_kafka_headers_t *headers_unpack(const uint8_t *data, int64_t size, int *bad);

#endif
