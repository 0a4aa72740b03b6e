import java.time.Duration;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Kafka's own client, for one question: `partitions BOOTSTRAP TOPIC KEY...`, `read BOOTSTRAP TOPIC` or
 * `allow BOOTSTRAP USER KIND NAME OPERATION`.
 */
public class KafkaTool {
  public static void main(String[] words) throws Exception {
    Map<String, Object> settings = new HashMap<>();
    settings.put("bootstrap.servers", words[1]);
    if (words[0].equals("partitions")) {
      partitions(settings, words);
    } else if (words[0].equals("allow")) {
      allow(settings, words);
    } else {
      read(settings, words[2]);
    }
  }

  static void partitions(Map<String, Object> settings, String[] words) throws Exception {
    try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
      for (int i = 3; i < words.length; i++) {
        byte[] key = HexFormat.of().parseHex(words[i].substring(1));
        System.out.println(producer.send(new ProducerRecord<>(words[2], key, key)).get().partition());
      }
    }
  }

  static void allow(Map<String, Object> settings, String[] words) throws Exception {
    var what = new ResourcePattern(ResourceType.valueOf(words[3]), words[4], PatternType.LITERAL);
    var who =
        new AccessControlEntry("User:" + words[2], "*", AclOperation.valueOf(words[5]), AclPermissionType.ALLOW);
    try (var admin = Admin.create(settings)) {
      admin.createAcls(List.of(new AclBinding(what, who))).all().get();
    }
  }

  static void read(Map<String, Object> settings, String topic) {
    // A record of 40 MiB comes in parts of less than 1 MiB: the consumer's own limits are left alone.
    settings.put("enable.auto.commit", "false");
    try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      List<TopicPartition> all =
          consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
      consumer.assign(all);
      consumer.seekToBeginning(all);
      Map<TopicPartition, Long> ends = consumer.endOffsets(all);
      while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
          System.out.print(record.partition() + " " + record.timestamp());
          System.out.print(" " + hex(record.key()) + " " + hex(record.value()));
          for (Header header : record.headers()) {
            System.out.print(" " + header.key() + "=" + hex(header.value()));
          }
          System.out.println();
        }
      }
    }
  }

  static String hex(byte[] bytes) {
    return "x" + HexFormat.of().formatHex(bytes);
  }
}
