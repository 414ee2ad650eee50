/*
 * Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in
 * compliance with the License. You may obtain a copy of the License in the LICENSE file of this project.
 * Software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR
 * CONDITIONS OF ANY KIND, either express or implied.
 */
package tillstream.sink;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.delta.DeltaLog;
import org.apache.spark.sql.delta.DeltaOperations;
import org.apache.spark.sql.delta.OptimisticTransaction;
import org.apache.spark.sql.delta.actions.Action;
import org.apache.spark.sql.delta.actions.AddFile;
import org.apache.spark.sql.delta.actions.SetTransaction;
import org.apache.spark.sql.execution.streaming.Sink;
import org.apache.spark.sql.streaming.OutputMode;
import org.apache.spark.sql.types.StructField;
import org.apache.spark.sql.types.StructType;
import scala.Option;
import scala.jdk.javaapi.CollectionConverters;

/**
 * Appends micro-batches to an existing Delta table, each once.
 *
 * <p>Delta's own sink asks the table before every batch which batch of this query was its last. In Delta 4.3
 * that answer replays the table's whole state, every file of it, in a Spark job of its own: half of a small
 * batch's cost at the start, and growing with the table. A query's batches ascend, so only the first batch
 * of a process can be one that the table has already. The protocol is the same:
 *
 * <ol>
 *   <li>first batch of this process: skip it if the table's last batch of this query is not below it;
 *   <li>write the rows' files;
 *   <li>commit them and (query id, batch id) in one transaction.
 * </ol>
 */
final class AppendSink implements Sink {
    private static final String QUERY_ID = "sql.streaming.queryId";

    private final String path;
    private boolean first = true;

    AppendSink(String path) {
        this.path = path;
    }

    @Override
    public void addBatch(long batchId, Dataset<Row> rows) {
        String queryId = rows.sparkSession().sparkContext().getLocalProperty(QUERY_ID);
        OptimisticTransaction transaction = DeltaLog.forTable(rows.sparkSession(), path).startTransaction();
        if (first) {
            requireSameColumns(transaction.metadata().schema(), rows.schema());
            first = false;
            if (transaction.txnVersion(queryId) >= batchId) {
                return;
            }
        }
        Option<Object> now = Option.apply(System.currentTimeMillis());
        List<Action> actions = new ArrayList<>();
        actions.add(new SetTransaction(queryId, batchId, now));
        for (Action written : CollectionConverters.asJava(transaction.writeFiles(rows))) {
            actions.add(written instanceof AddFile added ? withAsciiPath(added) : written);
        }
        transaction.commit(
                CollectionConverters.asScala(actions).toSeq(),
                new DeltaOperations.StreamingUpdate(OutputMode.Append(), queryId, batchId, Option.empty()));
    }

    @Override
    public String toString() {
        return "AppendSink[" + path + "]";
    }

    /**
     * Spark leaves letters beyond ASCII in a path as they are; other writers escape them, as the protocol's URIs
     * want it, and take a removal of the one for no removal of the other: a compaction then doubles the rows.
     */
    private static AddFile withAsciiPath(AddFile added) {
        return added.copy(
                ascii(added.path()),
                added.partitionValues(),
                added.size(),
                added.modificationTime(),
                added.dataChange(),
                added.stats(),
                added.tags(),
                added.deletionVector(),
                added.baseRowId(),
                added.defaultRowCommitVersion(),
                added.clusteringProvider());
    }

    /** Not {@code URI.toASCIIString}, which also normalises: the file's name would become another one. */
    static String ascii(String path) {
        StringBuilder escaped = new StringBuilder(path.length());
        for (byte each : path.getBytes(StandardCharsets.UTF_8)) {
            if (each < 0) {
                escaped.append(String.format("%%%02X", each));
            } else {
                escaped.append((char) each);
            }
        }
        return escaped.toString();
    }

    /** Delta's sink would merge or cast; the lake's tables and queries are written to agree. */
    private static void requireSameColumns(StructType table, StructType rows) {
        if (!columns(table).equals(columns(rows))) {
            throw new IllegalArgumentException(
                    "the table has the columns " + columns(table) + ", the query " + columns(rows));
        }
    }

    private static List<String> columns(StructType schema) {
        List<String> columns = new ArrayList<>();
        for (StructField field : schema.fields()) {
            columns.add(field.name() + " " + field.dataType().catalogString());
        }
        return columns;
    }
}
