import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Does what a script on its standard input says (tests/producers/script.py), by the Java client; prints where each record went. */
public final class ScriptedProducer {
    private static final int REQUEST_BYTES_MAX = 16 << 20;
    private static final long LINGER_MS = 60_000;

    /** Of a busy machine: the broker would end a transaction that takes longer. */
    private static final int TRANSACTION_TIMEOUT_MS = 300_000;

    private final String servers;
    private final Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
    private final List<Future<RecordMetadata>> sent = new ArrayList<>();

    private ScriptedProducer(String servers) {
        this.servers = servers;
    }

    public static void main(String[] arguments) throws Exception {
        ScriptedProducer scripted = new ScriptedProducer(arguments[0]);
        ObjectMapper json = new ObjectMapper();
        BufferedReader script = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = script.readLine(); line != null; line = script.readLine()) {
            scripted.run(json.readTree(line));
        }
        for (Future<RecordMetadata> future : scripted.sent) {
            RecordMetadata told = future.get();
            System.out.println("[" + told.offset() + "," + told.timestamp() + "]");
        }
        scripted.producers.values().forEach(KafkaProducer::close);
    }

    private void run(JsonNode operation) throws IOException {
        String name = operation.get("by").textValue();
        KafkaProducer<byte[], byte[]> producer = producers.get(name);
        switch (operation.get("do").textValue()) {
            case "open" -> producers.put(name, open(operation));
            case "begin" -> producer.beginTransaction();
            case "send" -> sent.add(producer.send(record(operation)));
            case "flush" -> producer.flush();
            case "commit" -> producer.commitTransaction();
            case "abort" -> producer.abortTransaction();
            default -> throw new IllegalArgumentException(operation.toString());
        }
    }

    private KafkaProducer<byte[], byte[]> open(JsonNode operation) {
        Map<String, Object> settings = new HashMap<>();
        settings.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
        settings.put(ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, operation.get("idempotent").booleanValue());
        settings.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, operation.get("codec").textValue());
        settings.put(ProducerConfig.BATCH_SIZE_CONFIG, operation.get("batch_bytes").intValue());
        settings.put(ProducerConfig.MAX_REQUEST_SIZE_CONFIG, REQUEST_BYTES_MAX);
        settings.put(ProducerConfig.LINGER_MS_CONFIG, LINGER_MS);
        settings.put(ProducerConfig.ACKS_CONFIG, "all");
        JsonNode transactions = operation.get("transactional_id");
        if (!transactions.isNull()) {
            settings.put(ProducerConfig.TRANSACTIONAL_ID_CONFIG, transactions.textValue());
            settings.put(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG, TRANSACTION_TIMEOUT_MS);
        }
        KafkaProducer<byte[], byte[]> producer =
            new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        if (!transactions.isNull()) {
            producer.initTransactions();
        }
        return producer;
    }

    private static ProducerRecord<byte[], byte[]> record(JsonNode operation) throws IOException {
        List<Header> headers = new ArrayList<>();
        for (JsonNode header : operation.get("headers")) {
            headers.add(new RecordHeader(header.get("name").textValue(), bytes(header.get("value"))));
        }
        return new ProducerRecord<>(
            operation.get("topic").textValue(),
            operation.get("partition").intValue(),
            operation.get("time_ms").longValue(),
            bytes(operation.get("key")),
            bytes(operation.get("value")),
            headers);
    }

    private static byte[] bytes(JsonNode base64) throws IOException {
        return base64.isNull() ? null : base64.binaryValue();
    }
}
