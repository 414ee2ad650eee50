#ifndef TILLSTREAM_CLIENT_H
#define TILLSTREAM_CLIENT_H

#include "native.h"
#include <pthread.h>

typedef struct {
    int code;
    rd_kafka_topic_partition_list_t *partitions;
} rebalance;

/* An error or the end of a partition, met among the records. `topic` is -1 where none is concerned. */
typedef struct {
    int32_t code;
    int32_t topic;
    int32_t partition;
    int32_t _pad;
    int64_t offset;
    char text[256];
} incident;

typedef struct {
    const rd_kafka_topic_t *handle;
    char *name;
    int32_t same_as; /* the first entry of that name: a topic may have several handles */
} topic_entry;

/* Outcomes of produced records. */
typedef struct {
    int64_t done;
    int64_t failed;
    int first_error;
} report;

/* Belongs to one rd_kafka_t and, but for the notes and the reports, to the thread that polls it. */
typedef struct {
    pthread_mutex_t lock;
    char notes[1 << 16];
    size_t noted;
    int64_t notes_lost;

    rebalance *rebalance;
    int rebalances, rebalance_room;
    incident *incident;
    int incidents, incident_room;

    topic_entry *topic;
    int topics, topic_room;
    rd_kafka_message_t **held;
    size_t held_count, held_room;
    int64_t held_bytes;

    report transaction;
} client;

#endif
