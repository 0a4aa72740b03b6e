import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * The runtime's peers on the JVM, for `cargo x bench runtime`: `SYSTEM BOOTSTRAP TOPIC RECORDS MS WARM_MS HANDLER
 * CONCURRENCY`. SYSTEM is `java-consumer` (a plain loop) or `parallel-consumer`; HANDLER is `count`,
 * `sleep:TIMES:MICROS` or `spin:TIMES:MICROS`. Warms up by passes over the same records until WARM_MS is over, then
 * measures one pass, as lap.rs of the bench says it; answers with one line and stays until its input is closed.
 */
public class RuntimePeer {
  static final com.sun.management.OperatingSystemMXBean SYSTEM =
      (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

  static String bootstrap;
  static String topic;
  static long recordsMax;
  static Runnable handler;
  static int concurrency;
  static int passes;

  public static void main(String[] words) throws Exception {
    bootstrap = words[1];
    topic = words[2];
    recordsMax = Long.parseLong(words[3]);
    handler = handler(words[6]);
    concurrency = Integer.parseInt(words[7]);
    long nanosMax = Long.parseLong(words[4]) * 1_000_000;
    long warmUntil = System.nanoTime() + Long.parseLong(words[5]) * 1_000_000;
    boolean isPlain = words[0].equals("java-consumer");
    while (System.nanoTime() < warmUntil) {
      pass(isPlain, warmUntil - System.nanoTime(), new Lap());
    }
    Lap lap = new Lap();
    pass(isPlain, nanosMax, lap);
    System.out.println(lap.line);
    System.out.flush();
    while (System.in.read() >= 0) {}
    // Threads of a library may be left: nothing of them matters any more.
    Runtime.getRuntime().halt(0);
  }

  static void pass(boolean isPlain, long nanosMax, Lap lap) throws Exception {
    passes++;
    if (isPlain) {
      plain(nanosMax, lap);
    } else {
      Parallel.pass(nanosMax, lap);
    }
  }

  /** The loop of Kafka's own documentation, with its settings; one record after the other. */
  static void plain(long nanosMax, Lap lap) {
    try (var consumer = consumer(true)) {
      consumer.subscribe(List.of(topic));
      long until = System.nanoTime() + nanosMax;
      long count = 0;
      while (count < recordsMax && System.nanoTime() < until) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
          if (count == 0) {
            lap.first();
          }
          handler.run();
          count++;
        }
      }
      lap.end(count);
    }
  }

  /** A class of its own: the plain loop runs without Parallel Consumer on its class path. */
  static class Parallel {
    static void pass(long nanosMax, Lap lap) throws Exception {
      var options =
          io.confluent.parallelconsumer.ParallelConsumerOptions.<byte[], byte[]>builder()
              .ordering(io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder.KEY)
              .maxConcurrency(concurrency)
              .consumer(consumer(false))
              .build();
      LongAdder done = new LongAdder();
      var processor =
          io.confluent.parallelconsumer.ParallelStreamProcessor.<byte[], byte[]>createEosStreamProcessor(options);
      processor.subscribe(List.of(topic));
      long until = System.nanoTime() + nanosMax;
      processor.poll(
          context -> {
            handler.run();
            done.increment();
          });
      long count = 0;
      while (count < recordsMax && System.nanoTime() < until) {
        Thread.sleep(1);
        count = done.sum();
        if (count > 0) {
          lap.first();
        }
      }
      lap.end(count);
      processor.closeDontDrainFirst(Duration.ofSeconds(5));
    }
  }

  static KafkaConsumer<byte[], byte[]> consumer(boolean commitsItself) {
    Map<String, Object> settings = new HashMap<>();
    settings.put("bootstrap.servers", bootstrap);
    settings.put("group.id", topic + "-" + ProcessHandle.current().pid() + "-" + passes);
    settings.put("auto.offset.reset", "earliest");
    settings.put("enable.auto.commit", commitsItself);
    return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
  }

  static Runnable handler(String word) {
    String[] parts = word.split(":");
    if (parts[0].equals("count")) {
      return () -> {};
    }
    int times = Integer.parseInt(parts[1]);
    long nanos = Long.parseLong(parts[2]) * 1000;
    if (parts[0].equals("spin")) {
      return () -> {
        long until = System.nanoTime() + nanos;
        while (System.nanoTime() < until) {
          Thread.onSpinWait();
        }
      };
    }
    if (!parts[0].equals("sleep")) {
      throw new IllegalArgumentException(word);
    }
    return () -> {
      try {
        for (int i = 0; i < times; i++) {
          Thread.sleep(nanos / 1_000_000, (int) (nanos % 1_000_000));
        }
      } catch (InterruptedException error) {
        Thread.currentThread().interrupt();
      }
    };
  }

  /** The clocks of one pass. */
  static class Lap {
    final long made = SYSTEM.getProcessCpuTime();
    long first;
    long usedBefore;
    String line;

    void first() {
      if (first == 0) {
        first = System.nanoTime();
        usedBefore = SYSTEM.getProcessCpuTime();
      }
    }

    void end(long count) {
      long ended = System.nanoTime();
      long used = SYSTEM.getProcessCpuTime();
      if (first == 0) {
        first = ended;
        usedBefore = used;
      }
      line =
          String.format(
              java.util.Locale.ROOT,
              "records %d seconds %.6f cpu_seconds %.6f cpu_seconds_before_first %.6f threads %d",
              count,
              (ended - first) / 1e9,
              (used - made) / 1e9,
              (usedBefore - made) / 1e9,
              new java.io.File("/proc/self/task").list().length);
    }
  }
}
