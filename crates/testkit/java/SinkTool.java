import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.UUID;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hbase.ServerName;
import org.apache.hadoop.hbase.TableName;
import org.apache.hadoop.hbase.client.Admin;
import org.apache.hadoop.hbase.client.Append;
import org.apache.hadoop.hbase.client.Connection;
import org.apache.hadoop.hbase.client.Delete;
import org.apache.hadoop.hbase.client.Increment;
import org.apache.hadoop.hbase.client.Put;
import org.apache.hadoop.hbase.client.RowMutations;
import org.apache.hadoop.hbase.client.Table;
import org.apache.hadoop.hbase.replication.ReplicationPeerConfig;
import org.apache.hadoop.hbase.util.Bytes;

/**
 * What the tests of the replication sink need beyond TableTool: peers with settings, one of each operation, wide and
 * relayed writes. Compiles against the clients of 1.7, 2.4, 2.5 and 2.6.
 */
public class SinkTool {
  static void run(Configuration conf, Connection connection, Admin admin, String[] words) throws Exception {
    switch (words[0]) {
      case "peer-add-with": addPeerWith(conf, admin, words); break;
      case "cluster-id": TableTool.out.println(admin.getClusterStatus().getClusterId()); break;
      case "roll": roll(admin); break;
      case "operations": operations(connection, words[1]); break;
      case "put-each": putEach(connection, words[1], Integer.parseInt(words[2]), Integer.parseInt(words[3])); break;
      case "put-wide": putWide(connection, words[1], words[2], Integer.parseInt(words[3]), Integer.parseInt(words[4])); break;
      case "put-lists": putLists(connection, words[1], Integer.parseInt(words[2]), Integer.parseInt(words[3]), Integer.parseInt(words[4])); break;
      case "put-from": putFrom(connection, words[1], words[2], words[3]); break;
      case "golden-write": writeGolden(connection, words[1]); break;
      default: throw new IllegalArgumentException(words[0]);
    }
  }

  /** ID KEY [SETTING=VALUE | tables=T:F,T2 | namespaces=N,N2]... */
  static void addPeerWith(Configuration conf, Admin admin, String[] words) throws Exception {
    ReplicationPeerConfig config = new ReplicationPeerConfig();
    config.setClusterKey(words[2]);
    config.getConfiguration().put("replication.source.ratio", "1.0");
    Map<TableName, List<String>> tables = null;
    for (String word : Arrays.copyOfRange(words, 3, words.length)) {
      String name = word.substring(0, word.indexOf('=')), value = word.substring(name.length() + 1);
      if (name.equals("tables")) {
        tables = new HashMap<>();
        for (String table : value.split(",")) {
          String[] parts = table.split("/");
          tables.put(TableName.valueOf(parts[0]), parts.length == 1 ? null : Arrays.asList(parts[1]));
        }
        everything(config, false);
        config.setTableCFsMap(tables);
      } else if (name.equals("namespaces")) {
        everything(config, false);
        // Peers of 1.x have no namespaces.
        ReplicationPeerConfig.class.getMethod("setNamespaces", Set.class).invoke(config, new HashSet<>(Arrays.asList(value.split(","))));
      } else {
        config.getConfiguration().put(name, value);
      }
    }
    for (Method method : Admin.class.getMethods()) {
      if (method.getName().equals("addReplicationPeer") && method.getParameterCount() == 2) {
        method.invoke(admin, words[1], config);
        return;
      }
    }
    Class<?> old = Class.forName("org.apache.hadoop.hbase.client.replication.ReplicationAdmin");
    try (AutoCloseable replication = (AutoCloseable) old.getConstructor(Configuration.class).newInstance(conf)) {
      if (tables == null) {
        old.getMethod("addPeer", String.class, ReplicationPeerConfig.class).invoke(replication, words[1], config);
      } else {
        old.getMethod("addPeer", String.class, ReplicationPeerConfig.class, Map.class).invoke(replication, words[1], config, tables);
      }
    }
  }

  /** 2.x has a switch of its own for "all tables"; 1.x derives it. */
  static void everything(ReplicationPeerConfig config, boolean all) throws Exception {
    try {
      ReplicationPeerConfig.class.getMethod("setReplicateAllUserTables", boolean.class).invoke(config, all);
    } catch (NoSuchMethodException older) {
      // 1.x: a peer with tables or namespaces is limited to them.
    }
  }

  /** A new WAL file on every region server. */
  static void roll(Admin admin) throws Exception {
    for (ServerName server : admin.getClusterStatus().getServers()) {
      admin.rollWALWriter(server);
    }
  }

  /** One of each operation, each on a row of its own. `writes.rs` says what has to arrive. */
  static void operations(Connection connection, String name) throws Exception {
    byte[] q = Bytes.toBytes("q"), v = Bytes.toBytes("v");
    try (Table table = connection.getTable(TableName.valueOf(name))) {
      table.put(new Put(Bytes.toBytes("put-both")).addColumn(TableTool.SENT, q, v).addColumn(TableTool.LOCAL, q, v));
      table.put(new Put(Bytes.toBytes("put-local")).addColumn(TableTool.LOCAL, q, v));
      List<Put> puts = new ArrayList<>();
      for (int i = 0; i < 5; i++) {
        puts.add(new Put(Bytes.toBytes("put-list-" + i)).addColumn(TableTool.SENT, q, v));
      }
      table.put(puts);
      table.delete(new Delete(Bytes.toBytes("delete-column")).addColumns(TableTool.SENT, q, 1500L));
      table.delete(new Delete(Bytes.toBytes("delete-family")).addFamily(TableTool.SENT, 1500L));
      table.delete(new Delete(Bytes.toBytes("delete-family-version")).addFamilyVersion(TableTool.SENT, 1500L));
      table.delete(new Delete(Bytes.toBytes("delete-version")).addColumn(TableTool.SENT, q, 1500L));
      table.put(new Put(Bytes.toBytes("delete-latest")).addColumn(TableTool.SENT, q, 1234L, v));
      table.delete(new Delete(Bytes.toBytes("delete-latest")).addColumn(TableTool.SENT, q));
      table.delete(new Delete(Bytes.toBytes("delete-row"), 1500L));
      table.increment(new Increment(Bytes.toBytes("increment")).addColumn(TableTool.SENT, q, 5));
      table.increment(new Increment(Bytes.toBytes("increment")).addColumn(TableTool.SENT, q, 2));
      table.append(new Append(Bytes.toBytes("append")).add(TableTool.SENT, q, Bytes.toBytes("x")));
      table.append(new Append(Bytes.toBytes("append")).add(TableTool.SENT, q, Bytes.toBytes("y")));
      byte[] checked = Bytes.toBytes("check-and-put");
      table.checkAndPut(checked, TableTool.SENT, q, null, new Put(checked).addColumn(TableTool.SENT, q, v));
      table.checkAndPut(checked, TableTool.SENT, q, null, new Put(checked).addColumn(TableTool.SENT, q, Bytes.toBytes("never")));
      byte[] mutated = Bytes.toBytes("row-mutations");
      RowMutations both = new RowMutations(mutated);
      both.add(new Put(mutated).addColumn(TableTool.SENT, q, 1000L, v));
      both.add(new Delete(mutated).addColumns(TableTool.SENT, Bytes.toBytes("other"), 1001L));
      both.add(new Put(mutated).addColumn(TableTool.SENT, Bytes.toBytes("last"), 1002L, v));
      table.mutateRow(both);
      Put living = new Put(Bytes.toBytes("ttl")).addColumn(TableTool.SENT, q, v).addColumn(TableTool.SENT, Bytes.toBytes("r"), v);
      living.setTTL(60000L);
      table.put(living);
      table.put(new Put(Bytes.toBytes("timestamp")).addColumn(TableTool.SENT, q, 1234L, v));
      table.put(new Put(Bytes.toBytes("versions")).addColumn(TableTool.SENT, q, 1L, Bytes.toBytes("a"))
          .addColumn(TableTool.SENT, q, 2L, Bytes.toBytes("b")).addColumn(TableTool.SENT, q, 3L, Bytes.toBytes("c")));
      table.put(new Put(Bytes.toBytes("empty")).addColumn(TableTool.SENT, new byte[0], 1234L, new byte[0]));
      byte[] bytes = new byte[256];
      for (int i = 0; i < 256; i++) {
        bytes[i] = (byte) i;
      }
      table.put(new Put(bytes).addColumn(TableTool.SENT, bytes, 1234L, bytes));
      byte[] longest = new byte[Short.MAX_VALUE];
      Arrays.fill(longest, (byte) 'z');
      table.put(new Put(longest).addColumn(TableTool.SENT, q, 1234L, v));
    }
  }

  /** COUNT single puts, spread over the rows of `create`'s regions: COUNT entries. Values of SIZE zeros compress well. */
  static void putEach(Connection connection, String table, int count, int size) throws Exception {
    try (Table target = connection.getTable(TableName.valueOf(table))) {
      for (int i = 0; i < count; i++) {
        byte[] row = Bytes.toBytes(String.format("r%04d", (int) (i * 1000L / count)));
        target.put(new Put(row).addColumn(TableTool.SENT, Bytes.toBytes("n" + i), new byte[size]));
      }
    }
  }

  /** COUNT puts of one cell of SIZE random bytes in lists of 100, over the rows of `create`'s regions, by THREADS threads. */
  static void putLists(Connection connection, String table, int count, int size, int threads) throws Exception {
    List<Thread> running = new ArrayList<>();
    List<Throwable> failed = new ArrayList<>();
    for (int thread = 0; thread < threads; thread++) {
      final int number = thread;
      Thread worker = new Thread(() -> {
        Random dice = new Random(number);
        try (Table target = connection.getTable(TableName.valueOf(table))) {
          for (int first = number * 100; first < count; first += threads * 100) {
            List<Put> puts = new ArrayList<>();
            for (int i = first; i < Math.min(first + 100, count); i++) {
              byte[] value = new byte[size];
              dice.nextBytes(value);
              String row = String.format("r%04d-%08d", dice.nextInt(1000), i);
              puts.add(new Put(Bytes.toBytes(row)).addColumn(TableTool.SENT, Bytes.toBytes("q"), value));
            }
            target.put(puts);
          }
        } catch (Throwable error) {
          synchronized (failed) {
            failed.add(error);
          }
        }
      });
      worker.start();
      running.add(worker);
    }
    for (Thread worker : running) {
      worker.join();
    }
    if (!failed.isEmpty()) {
      throw new RuntimeException(failed.get(0));
    }
  }

  /** One put of CELLS cells with SIZE random bytes each: one entry. */
  static void putWide(Connection connection, String table, String row, int cells, int size) throws Exception {
    try (Table target = connection.getTable(TableName.valueOf(table))) {
      Put put = new Put(Bytes.toBytes(row));
      for (int i = 0; i < cells; i++) {
        byte[] value = new byte[size];
        new Random(i).nextBytes(value);
        put.addColumn(TableTool.SENT, Bytes.toBytes("wide" + i), value);
      }
      target.put(put);
    }
  }

  /** A put that says it has been through this cluster (`_cs.id`). */
  static void putFrom(Connection connection, String table, String row, String cluster) throws Exception {
    try (Table target = connection.getTable(TableName.valueOf(table))) {
      Put put = new Put(Bytes.toBytes(row)).addColumn(TableTool.SENT, Bytes.toBytes("q"), Bytes.toBytes(cluster));
      put.setClusterIds(new ArrayList<>(Arrays.asList(UUID.fromString(cluster))));
      target.put(put);
    }
  }

  /** Every kind of write once, with timestamps of its own: what crates/wire/tests/it/captured.rs expects. */
  static void writeGolden(Connection connection, String name) throws Exception {
    byte[] q = Bytes.toBytes("q");
    byte[] all = new byte[256];
    for (int i = 0; i < all.length; i++) {
      all[i] = (byte) i;
    }
    try (Table table = connection.getTable(TableName.valueOf(name))) {
      table.put(new Put(Bytes.toBytes("r1")).addColumn(TableTool.SENT, q, 1001, Bytes.toBytes("v1")).addColumn(TableTool.LOCAL, q, 1001, Bytes.toBytes("stays")));
      Put versions = new Put(Bytes.toBytes("r2"));
      for (long ts = 1001; ts <= 1003; ts++) {
        versions.addColumn(TableTool.SENT, q, ts, Bytes.toBytes("v" + ts));
      }
      table.put(versions);
      List<Put> puts = new ArrayList<>();
      for (int i = 3; i <= 5; i++) {
        puts.add(new Put(Bytes.toBytes("r" + i)).addColumn(TableTool.SENT, q, 1010, Bytes.toBytes("list")));
      }
      table.put(puts);
      table.delete(new Delete(Bytes.toBytes("r2")).addColumn(TableTool.SENT, q, 1002));
      table.delete(new Delete(Bytes.toBytes("r2")).addFamilyVersion(TableTool.SENT, 1003));
      table.delete(new Delete(Bytes.toBytes("r3")).addColumns(TableTool.SENT, q, 1100));
      table.delete(new Delete(Bytes.toBytes("r4")).addFamily(TableTool.SENT, 1200));
      table.delete(new Delete(Bytes.toBytes("r5"), 1300));
      table.increment(new Increment(Bytes.toBytes("r6")).addColumn(TableTool.SENT, Bytes.toBytes("counter"), 5));
      table.append(new Append(Bytes.toBytes("r6")).add(TableTool.SENT, Bytes.toBytes("text"), Bytes.toBytes("x")));
      RowMutations both = new RowMutations(Bytes.toBytes("r7"));
      both.add(new Put(Bytes.toBytes("r7")).addColumn(TableTool.SENT, q, 1400, Bytes.toBytes("both")));
      both.add(new Delete(Bytes.toBytes("r7")).addColumns(TableTool.SENT, Bytes.toBytes("other"), 1400));
      table.mutateRow(both);
      Put brief = new Put(Bytes.toBytes("r8")).addColumn(TableTool.SENT, q, 1500, Bytes.toBytes("brief"));
      brief.setTTL(60000);
      table.put(brief);
      table.put(new Put(all).addColumn(TableTool.SENT, new byte[0], 1600, new byte[0]).addColumn(TableTool.SENT, all, 1600, all));
      byte[] big = new byte[2000];
      Arrays.fill(big, (byte) 'z');
      table.put(new Put(Bytes.toBytes("r9")).addColumn(TableTool.SENT, q, 1700, big));
    }
  }
}
