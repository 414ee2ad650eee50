import com.fasterxml.jackson.databind.JsonNode;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/**
 * The work of the benchmark's stage on one record: decode, rules, duplicates, countries, products, amount, flags,
 * encode. Records, decoder, encoder and buffers are reused; strings are Java's own. Not thread-safe.
 */
final class Stage {
    private static final int HEADER_BYTES = 5;
    private static final long LIMIT = 1_000_000_000_000_000_000L;
    private static final int LONG = 200;
    private static final String[] UNKNOWN = {null, null};

    private final GenericDatumReader<GenericRecord> reader;
    private final GenericDatumWriter<GenericRecord> writer;
    private final Schema outSchema;
    private final int[] place;
    private final byte[] header;
    private final long nowMs;
    private final Set<String> currencies = new HashSet<>();
    private final Map<String, String[]> countries = new HashMap<>();
    private final Map<String, String[]> resolved = new HashMap<>();
    private final Map<String, String[]> products = new HashMap<>();
    private final ByteArrayOutputStream buffer = new ByteArrayOutputStream(512);
    private GenericRecord in;
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;
    private String key;

    Stage(JsonNode reference) {
        Schema raw = withStrings(reference.get("raw_schema"));
        outSchema = withStrings(reference.get("out_schema"));
        GenericData data = new GenericData();
        data.setFastReaderEnabled(true);
        reader = new GenericDatumReader<>(raw, raw, data);
        writer = new GenericDatumWriter<>(outSchema, data);
        place = raw.getFields().stream().mapToInt(f -> outSchema.getField(f.name()).pos()).toArray();
        int id = reference.get("out_schema_id").asInt();
        header = new byte[] {0, (byte) (id >>> 24), (byte) (id >>> 16), (byte) (id >>> 8), (byte) id};
        nowMs = reference.get("now_ms").asLong();
        reference.get("currencies").forEach(code -> currencies.add(code.asText()));
        fill(countries, reference.get("countries"));
        fill(products, reference.get("products"));
    }

    /** The framed output, or null where the record is rejected or its event id is not new. */
    byte[] process(byte[] value, Predicate<String> isNew) {
        try {
            decoder = DecoderFactory.get().binaryDecoder(value, HEADER_BYTES, value.length - HEADER_BYTES, decoder);
            in = reader.read(in, decoder);
            String invoice = (String) in.get("invoice_no");
            String code = (String) in.get("stock_code");
            int quantity = (Integer) in.get("quantity");
            long price = (Long) in.get("unit_price_micros");
            if (rejected(invoice, code, quantity, price) || !isNew.test((String) in.get("event_id"))) {
                return null;
            }
            key = invoice;
            return encode(enriched(invoice, code, quantity * price));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Key of the last output: the invoice number. */
    byte[] key() {
        return key.getBytes(StandardCharsets.UTF_8);
    }

    private boolean rejected(String invoice, String code, int quantity, long price) {
        String customer = (String) in.get("customer_id");
        String country = (String) in.get("country");
        long time = (Long) in.get("invoice_ts");
        // The product may wrap: the price is below LIMIT when it is looked at, and the high word tells.
        long high = Math.multiplyHigh(quantity, price);
        long total = quantity * price;
        boolean fits = high == (total >> 63);
        return invoice.isEmpty() || code.isEmpty()
            || quantity == 0
            || (quantity < 0 && !invoice.startsWith("C"))
            || price < 0
            || !currencies.contains((String) in.get("currency"))
            || time < 946684800000L || time > nowMs + 86400000L
            || price >= LIMIT || !fits || total >= LIMIT || total <= -LIMIT
            || ((String) in.get("event_id")).length() > LONG
            || ((String) in.get("source_system")).length() > LONG
            || invoice.length() > LONG || code.length() > LONG
            || (customer != null && customer.length() > LONG)
            || (country != null && country.length() > LONG);
    }

    private GenericRecord enriched(String invoice, String code, long total) {
        GenericRecord out = new GenericData.Record(outSchema);
        for (int i = 0; i < place.length; i++) {
            out.put(place[i], in.get(i));
        }
        String country = (String) in.get("country");
        String[] where = country == null ? UNKNOWN : resolved.computeIfAbsent(country, this::resolve);
        String[] product = products.getOrDefault(code, UNKNOWN);
        int next = place.length;
        out.put(next++, where[0]);
        out.put(next++, where[1]);
        out.put(next++, product[0]);
        out.put(next++, product[1]);
        out.put(next++, total);
        out.put(next++, invoice.startsWith("C"));
        out.put(next, isProduct(code));
        return out;
    }

    private byte[] encode(GenericRecord out) throws IOException {
        buffer.reset();
        buffer.write(header);
        encoder = EncoderFactory.get().binaryEncoder(buffer, encoder);
        writer.write(out, encoder);
        encoder.flush();
        return buffer.toByteArray();
    }

    private String[] resolve(String country) {
        return countries.getOrDefault(String.join(" ", country.trim().split("\\s+")).toLowerCase(), UNKNOWN);
    }

    /** Five digits with an optional suffix of letters. */
    private static boolean isProduct(String code) {
        if (code.length() < 5) {
            return false;
        }
        for (int i = 0; i < code.length(); i++) {
            char c = code.charAt(i);
            boolean fine = i < 5 ? c >= '0' && c <= '9' : (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
            if (!fine) {
                return false;
            }
        }
        return true;
    }

    /** Schema whose strings, keys of maps included, are java.lang.String and not Avro's Utf8. */
    private static Schema withStrings(JsonNode schema) {
        String text = schema.toString().replace("\"type\":\"string\"",
            "\"type\":{\"type\":\"string\",\"avro.java.string\":\"String\"}")
            .replace("[\"null\",\"string\"]", "[\"null\",{\"type\":\"string\",\"avro.java.string\":\"String\"}]");
        return new Schema.Parser().parse(text);
    }

    private static void fill(Map<String, String[]> map, JsonNode rows) {
        rows.fields().forEachRemaining(row -> map.put(row.getKey(),
            new String[] {row.getValue().get(0).textValue(), row.getValue().get(1).textValue()}));
    }
}
