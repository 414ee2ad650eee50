import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.util.HashSet;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams on the JVM: one processor between a source and a sink, exactly_once_v2, one stream thread.
 *
 * <p>Arguments: the configuration file of `bench.peers.protocol`, which says what to write to standard output. With
 * `durable` the ids are in a persistent key-value store (RocksDB) with its changelog topic.
 */
public final class KafkaStreamsStage {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String STORE = "ids";
    private static final byte[] SEEN = {1};

    private final JsonNode config;
    private final JsonNode reference;
    private final long wanted;
    private final boolean durable;
    private final CountDownLatch done = new CountDownLatch(1);
    private long records;
    private long nextProgress;

    private KafkaStreamsStage(JsonNode config) throws IOException {
        this.config = config;
        reference = JSON.readTree(new File(config.get("reference").asText()));
        wanted = config.get("records").asLong();
        durable = config.get("durable").asBoolean();
        long every = config.get("progress_every").asLong();
        nextProgress = every == 0 ? Long.MAX_VALUE : every;
    }

    public static void main(String[] arguments) throws Exception {
        new KafkaStreamsStage(JSON.readTree(new File(arguments[0]))).run();
    }

    private void run() throws Exception {
        KafkaStreams streams = new KafkaStreams(topology(), properties());
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        done.await();
        streams.close();
        say("{\"event\": \"end\", \"records\": " + records + "}");
        while (System.in.read() >= 0) {
            continue;
        }
        Runtime.getRuntime().halt(0);
    }

    private Topology topology() {
        Topology topology = new Topology();
        var bytes = Serdes.ByteArray();
        topology.addSource("in", bytes.deserializer(), bytes.deserializer(), config.get("topic_in").asText());
        topology.addProcessor("stage", Step::new, "in");
        if (durable) {
            topology.addStateStore(
                Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(STORE), Serdes.String(), Serdes.ByteArray())
                    .withLoggingEnabled(java.util.Map.of())
                    .withCachingEnabled(),
                "stage");
        }
        topology.addSink("out", config.get("topic_out").asText(), bytes.serializer(), bytes.serializer(), "stage");
        return topology;
    }

    private Properties properties() {
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, config.get("group").asText());
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, config.get("bootstrap").asText());
        p.put(StreamsConfig.STATE_DIR_CONFIG, config.get("state").asText() + "/streams");
        p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        // Its default under exactly_once_v2 is 100 ms; a longer one spares it commits.
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20);
        p.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 20_000);
        p.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        // A killed process is gone from its group after this time; the default is 45 s.
        p.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 10_000);
        p.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), 1_000);
        p.put(StreamsConfig.consumerPrefix("max.poll.records"), 10_000);
        p.put(StreamsConfig.consumerPrefix("fetch.max.bytes"), 50 << 20);
        p.put(StreamsConfig.consumerPrefix("max.partition.fetch.bytes"), 8 << 20);
        p.put(StreamsConfig.producerPrefix("linger.ms"), 20);
        p.put(StreamsConfig.producerPrefix("batch.size"), 1_000_000);
        p.put(StreamsConfig.producerPrefix("buffer.memory"), 128 << 20);
        p.put(StreamsConfig.producerPrefix("compression.type"), "lz4");
        return p;
    }

    private void processed() {
        records++;
        if (records == wanted / 2) {
            say("{\"event\": \"half\"}");
        }
        if (records >= nextProgress) {
            nextProgress += config.get("progress_every").asLong();
            say("{\"event\": \"progress\", \"records\": " + records + "}");
        }
        if (records == wanted && !config.get("forever").asBoolean()) {
            done.countDown();
        }
    }

    private static void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    /** One for each partition; the one stream thread runs them in turn. */
    private final class Step implements Processor<byte[], byte[], byte[], byte[]> {
        private final Stage stage = new Stage(reference);
        private final Set<String> seen = new HashSet<>();
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<String, byte[]> ids;

        @Override
        public void init(ProcessorContext<byte[], byte[]> given) {
            context = given;
            ids = durable ? given.getStateStore(STORE) : null;
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            if (records == 0) {
                say("{\"event\": \"start\"}");
            }
            byte[] out = stage.process(record.value(), durable ? this::isNewInStore : seen::add);
            if (out != null) {
                context.forward(record.withKey(stage.key()).withValue(out));
            }
            processed();
        }

        private boolean isNewInStore(String eventId) {
            return ids.putIfAbsent(eventId, SEEN) == null;
        }
    }
}
