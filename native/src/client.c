/* What a client tells besides records: log lines, errors and rebalances. librdkafka's callbacks end here and never
 * enter Python; Python asks for what has gathered after each call. */
#include "native.h"

#include "client.h"
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>

struct rd_functions rd;

/* Bind to an already loaded librdkafka; returns 0, or -1 with the name of what is missing in `missing`. */
EXPORT int ts_bind(const char *path, char *missing, size_t size) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(missing, size, "%s", dlerror());
        return -1;
    }
#define LOOK_UP(result, name, arguments)                                                                    \
    *(void **)&rd.name = dlsym(library, "rd_kafka_" #name);                                                 \
    if (!rd.name) {                                                                                         \
        snprintf(missing, size, "rd_kafka_" #name);                                                         \
        return -1;                                                                                          \
    }
    RD_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
    return 0;
}

int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

EXPORT client *ts_client_new(void) {
    client *c = calloc(1, sizeof *c);
    if (c)
        pthread_mutex_init(&c->lock, NULL);
    return c;
}

/* Let go of all records held; librdkafka wants them back before its client is destroyed. */
EXPORT void ts_forget(client *c) {
    for (size_t i = 0; i < c->held_count; i++)
        rd.message_destroy(c->held[i]);
    c->held_count = 0;
    c->held_bytes = 0;
}

EXPORT void ts_client_free(client *c) {
    for (int i = 0; i < c->rebalances; i++)
        if (c->rebalance[i].partitions)
            rd.topic_partition_list_destroy(c->rebalance[i].partitions);
    free(c->rebalance);
    ts_forget(c);
    free(c->held);
    free(c->incident);
    for (int i = 0; i < c->topics; i++)
        free(c->topic[i].name);
    free(c->topic);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* Append one note; the oldest lines are worth more than the newest when a storm fills the room. */
static void note(client *c, int level, const char *facility, const char *text) {
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    size_t room = sizeof c->notes - c->noted;
    int wrote = snprintf(c->notes + c->noted, room, "%d\t%s\t%s\x1e", level, facility, text);
    if (wrote > 0 && (size_t)wrote < room)
        c->noted += (size_t)wrote;
    else
        c->notes_lost++;
    pthread_mutex_unlock(&c->lock);
}

/* Move the notes out: "level TAB facility TAB text RS" each. Returns their size; `*lost` is how many had no room. */
EXPORT int64_t ts_notes(client *c, char *out, size_t size, int64_t *lost) {
    pthread_mutex_lock(&c->lock);
    size_t taken = c->noted < size ? c->noted : size;
    memcpy(out, c->notes, taken);
    *lost = c->notes_lost;
    c->noted = 0;
    c->notes_lost = 0;
    pthread_mutex_unlock(&c->lock);
    return (int64_t)taken;
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text) {
    note(rd.opaque(rk), level, facility, text);
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque) {
    (void)rk;
    (void)code;
    note(opaque, 4, "ERROR", reason);
}

/* The assignment is done by Python after the poll: until then the group waits for this member. */
static void on_rebalance(rd_kafka_t *rk, int code, rd_kafka_topic_partition_list_t *partitions, void *opaque) {
    (void)rk;
    client *c = opaque;
    if (c->rebalances == c->rebalance_room) {
        int room = c->rebalance_room ? 2 * c->rebalance_room : 8;
        rebalance *bigger = realloc(c->rebalance, (size_t)room * sizeof *bigger);
        if (!bigger)
            abort(); /* a lost rebalance would leave this member with partitions that are another's */
        c->rebalance = bigger;
        c->rebalance_room = room;
    }
    c->rebalance[c->rebalances].code = code;
    c->rebalance[c->rebalances++].partitions = partitions ? rd.topic_partition_list_copy(partitions) : NULL;
}

/* The next rebalance, oldest first: its code, and the list, which the caller destroys. 0 where none waits. */
EXPORT int ts_next_rebalance(client *c, int *code, rd_kafka_topic_partition_list_t **partitions) {
    if (c->rebalances == 0)
        return 0;
    *code = c->rebalance[0].code;
    *partitions = c->rebalance[0].partitions;
    memmove(c->rebalance, c->rebalance + 1, (size_t)--c->rebalances * sizeof *c->rebalance);
    return 1;
}

/* A record that reached the broker or never will. Its opaque is the report of one call, or NULL for the client's
 * own, which is that of the open transaction. */
static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    (void)rk;
    report *r = message->_private ? message->_private : &((client *)opaque)->transaction;
    if (message->err) {
        int none = 0;
        __atomic_compare_exchange_n(&r->first_error, &none, message->err, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        __atomic_add_fetch(&r->failed, 1, __ATOMIC_RELAXED);
    }
    __atomic_add_fetch(&r->done, 1, __ATOMIC_RELEASE);
}

EXPORT void ts_report(report *r, int64_t *done, int64_t *failed, int *first_error) {
    *done = __atomic_load_n(&r->done, __ATOMIC_ACQUIRE);
    *failed = __atomic_load_n(&r->failed, __ATOMIC_RELAXED);
    *first_error = __atomic_load_n(&r->first_error, __ATOMIC_RELAXED);
}

EXPORT report *ts_transaction_report(client *c) { return &c->transaction; }

EXPORT void ts_report_clear(report *r) { memset(r, 0, sizeof *r); }

EXPORT report *ts_report_new(void) { return calloc(1, sizeof(report)); }

EXPORT void ts_report_free(report *r) { free(r); }

EXPORT void ts_hook_consumer(rd_kafka_conf_t *conf, client *c) {
    rd.conf_set_opaque(conf, c);
    rd.conf_set_log_cb(conf, on_log);
    rd.conf_set_error_cb(conf, on_error);
    rd.conf_set_rebalance_cb(conf, on_rebalance);
}

EXPORT void ts_hook_producer(rd_kafka_conf_t *conf, client *c) {
    rd.conf_set_opaque(conf, c);
    rd.conf_set_log_cb(conf, on_log);
    rd.conf_set_error_cb(conf, on_error);
    rd.conf_set_dr_msg_cb(conf, on_delivery);
}
