// The reference job in Kafka Streams, topic to topic: KafkaStreamsJob GUARANTEE BOOTSTRAP TOPIC OUT EVENTS.
//
// Two threads, an in-memory window store with its changelog, commits each second, everything else as it comes. Events are grouped by
// page, so they go through a repartition topic. It ends when a reader of committed records has rows in OUT that count every
// event, and prints {"seconds", "version"}: from its first event until then.

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.utils.AppInfoParser;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.Stores;

public class KafkaStreamsJob {
    private static final JsonFactory JSON = new JsonFactory();
    private static final Duration WINDOW = Duration.ofMinutes(1);

    /** Partitions are read at different speeds, and nothing may be late. */
    private static final Duration GRACE = Duration.ofDays(1);

    private static final long QUIET_MS = 120_000;

    record Click(String page, long timeMs) {
        /** Reads the record to its end. */
        static Click of(byte[] value) {
            String page = null;
            String timestamp = null;
            try (JsonParser json = JSON.createParser(value)) {
                int depth = 0;
                boolean isPayload = false;
                for (JsonToken token = json.nextToken(); token != null; token = json.nextToken()) {
                    if (token == JsonToken.START_OBJECT) {
                        depth++;
                        isPayload = depth == 2 && "payload".equals(json.currentName());
                    } else if (token == JsonToken.END_OBJECT) {
                        depth--;
                    } else if (token == JsonToken.VALUE_STRING && depth == 1 && "timestamp".equals(json.currentName())) {
                        timestamp = json.getText();
                    } else if (token == JsonToken.VALUE_STRING && isPayload && "page_id".equals(json.currentName())) {
                        page = json.getText();
                    }
                }
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            return new Click(page, Instant.parse(timestamp).toEpochMilli());
        }
    }

    private static Topology topology(String topic, String out, AtomicLong began) {
        Serializer<Click> none = (name, click) -> {
            throw new IllegalStateException();
        };
        Deserializer<Click> read = (name, value) -> Click.of(value);
        Serde<Click> clicks = Serdes.serdeFrom(none, read);
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(
                        topic,
                        Consumed.with(Serdes.String(), clicks)
                                .withTimestampExtractor((event, before) -> ((Click) event.value()).timeMs()))
                .peek((user, click) -> began.compareAndSet(0, System.nanoTime()))
                .map((user, click) -> KeyValue.pair(click.page(), ""))
                .groupByKey(Grouped.with("page", Serdes.String(), Serdes.String()))
                .windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, GRACE))
                .count(
                        Materialized.<String, Long>as(
                                        Stores.inMemoryWindowStore("views", GRACE.plus(WINDOW), WINDOW, false))
                                .withKeySerde(Serdes.String())
                                .withValueSerde(Serdes.Long()))
                .toStream()
                .map(KafkaStreamsJob::row)
                .to(out, Produced.with(Serdes.String(), Serdes.String()));
        return builder.build();
    }

    private static KeyValue<String, String> row(Windowed<String> page, long views) {
        Instant start = Instant.ofEpochMilli(page.window().start());
        String row = "{\"page_id\":\"%s\",\"window_start\":\"%s\",\"views\":%d}".formatted(page.key(), start, views);
        return KeyValue.pair(page.key() + " " + start, row);
    }

    private static Properties settings(String guarantee, String bootstrap) throws IOException {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "bench-" + UUID.randomUUID());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, guarantee);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1_000);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory("streams").toString());
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        return settings;
    }

    /** Returns when the last rows of all windows together count `events`. */
    private static void await(String bootstrap, String out, long events) {
        Map<String, Object> settings =
                Map.of(
                        ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap,
                        ConsumerConfig.GROUP_ID_CONFIG, "bench-" + UUID.randomUUID(),
                        ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest",
                        ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
        Map<String, Long> views = new HashMap<>();
        long sum = 0;
        long quietSince = System.currentTimeMillis();
        try (KafkaConsumer<String, String> rows =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            rows.subscribe(List.of(out));
            while (sum < events) {
                for (ConsumerRecord<String, String> row : rows.poll(Duration.ofMillis(100))) {
                    String text = row.value();
                    long now = Long.parseLong(text.substring(text.lastIndexOf(':') + 1, text.length() - 1));
                    Long before = views.put(row.key(), now);
                    sum += now - (before == null ? 0 : before);
                    quietSince = System.currentTimeMillis();
                }
                if (System.currentTimeMillis() - quietSince > QUIET_MS) {
                    throw new IllegalStateException("the rows count " + sum + " events, and no more come");
                }
            }
        }
    }

    public static void main(String[] arguments) throws IOException {
        String bootstrap = arguments[1];
        String out = arguments[3];
        AtomicLong began = new AtomicLong();
        KafkaStreams streams =
                new KafkaStreams(topology(arguments[2], out, began), settings(arguments[0], bootstrap));
        streams.setUncaughtExceptionHandler(
                error -> {
                    error.printStackTrace();
                    Runtime.getRuntime().halt(1);
                    return null;
                });
        streams.start();
        await(bootstrap, out, Long.parseLong(arguments[4]));
        double seconds = (System.nanoTime() - began.get()) / 1e9;
        streams.close(Duration.ofSeconds(5));
        System.out.printf("{\"seconds\": %.3f, \"version\": \"%s\"}%n", seconds, AppInfoParser.getVersion());
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }
}
