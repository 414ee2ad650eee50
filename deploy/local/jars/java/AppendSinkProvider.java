/*
 * Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in
 * compliance with the License. You may obtain a copy of the License in the LICENSE file of this project.
 * Software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR
 * CONDITIONS OF ANY KIND, either express or implied.
 */
package tillstream.sink;

import org.apache.spark.sql.SQLContext;
import org.apache.spark.sql.execution.streaming.Sink;
import org.apache.spark.sql.sources.StreamSinkProvider;
import org.apache.spark.sql.streaming.OutputMode;
import scala.collection.immutable.Map;
import scala.collection.immutable.Seq;

/** {@code writeStream.format("tillstream.sink.AppendSinkProvider").start(path)}. */
public final class AppendSinkProvider implements StreamSinkProvider {
    @Override
    public Sink createSink(
            SQLContext context, Map<String, String> options, Seq<String> partitionColumns, OutputMode mode) {
        if (mode != OutputMode.Append()) {
            throw new IllegalArgumentException("only append is supported, not " + mode);
        }
        return new AppendSink(options.apply("path"));
    }
}
