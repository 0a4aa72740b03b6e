import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hbase.Cell;
import org.apache.hadoop.hbase.CellUtil;
import org.apache.hadoop.hbase.HBaseConfiguration;
import org.apache.hadoop.hbase.HColumnDescriptor;
import org.apache.hadoop.hbase.HTableDescriptor;
import org.apache.hadoop.hbase.TableName;
import org.apache.hadoop.hbase.client.Admin;
import org.apache.hadoop.hbase.client.Append;
import org.apache.hadoop.hbase.client.Connection;
import org.apache.hadoop.hbase.client.ConnectionFactory;
import org.apache.hadoop.hbase.client.Delete;
import org.apache.hadoop.hbase.client.Increment;
import org.apache.hadoop.hbase.client.Put;
import org.apache.hadoop.hbase.client.Result;
import org.apache.hadoop.hbase.client.ResultScanner;
import org.apache.hadoop.hbase.client.RowMutations;
import org.apache.hadoop.hbase.client.Scan;
import org.apache.hadoop.hbase.client.Table;
import org.apache.hadoop.hbase.replication.ReplicationPeerConfig;
import org.apache.hadoop.hbase.util.Bytes;

/**
 * One long-lived client of a real HBase: a command per line on standard input, answers on standard output, the last
 * line of each being "ok" or "error TEXT". Compiles against the clients of 1.7, 2.4, 2.5 and 2.6.
 */
public class TableTool {
  static final byte[] SENT = Bytes.toBytes("f");
  static final byte[] LOCAL = Bytes.toBytes("l");
  static PrintStream out;

  public static void main(String[] arguments) throws Exception {
    out = new PrintStream(System.out, false, "UTF-8");
    System.setOut(System.err);
    Configuration conf = HBaseConfiguration.create();
    conf.set("hbase.zookeeper.quorum", "127.0.0.1");
    conf.set("hbase.zookeeper.property.clientPort", arguments[0]);
    conf.setInt("hbase.client.retries.number", 12);
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
    try (Connection connection = ConnectionFactory.createConnection(conf); Admin admin = connection.getAdmin()) {
      for (String line; (line = in.readLine()) != null;) {
        try {
          run(conf, connection, admin, line.split(" "));
          out.println("ok");
        } catch (Throwable error) {
          error.printStackTrace();
          out.println("error " + String.valueOf(error).replace('\n', ' '));
        }
        out.flush();
      }
    }
  }

  static void run(Configuration conf, Connection connection, Admin admin, String[] words) throws Exception {
    switch (words[0]) {
      case "create": create(admin, words[1], Integer.parseInt(words[2])); break;
      case "flush": admin.flush(TableName.valueOf(words[1])); break;
      case "peer-add": addPeer(conf, admin, words[1], words[2]); break;
      case "peer-remove": peer(conf, admin, "removeReplicationPeer", "removePeer", words[1]); break;
      case "peer-disable": peer(conf, admin, "disableReplicationPeer", "disablePeer", words[1]); break;
      case "peer-enable": peer(conf, admin, "enableReplicationPeer", "enablePeer", words[1]); break;
      case "put": put(connection, words[1], words[2], words[3], Integer.parseInt(words[4])); break;
      case "load": load(connection, words[1], Long.parseLong(words[2]), Integer.parseInt(words[3]), Integer.parseInt(words[4])); break;
      case "scan": scan(connection, words[1]); break;
      case "golden-peer": addGoldenPeer(conf, admin, words); break;
      case "golden-write": writeGolden(connection, words[1]); break;
      default: throw new IllegalArgumentException(words[0]);
    }
  }

  static void create(Admin admin, String table, int regions) throws Exception {
    HTableDescriptor descriptor = new HTableDescriptor(TableName.valueOf(table));
    for (byte[] family : Arrays.asList(SENT, LOCAL)) {
      HColumnDescriptor column = new HColumnDescriptor(family);
      column.setMaxVersions(1000000);
      column.setScope(family == SENT ? 1 : 0);
      descriptor.addFamily(column);
    }
    byte[][] splits = new byte[regions - 1][];
    for (int i = 1; i < regions; i++) {
      splits[i - 1] = Bytes.toBytes(String.format("r%04d", i * 1000 / regions));
    }
    admin.createTable(descriptor, splits.length == 0 ? null : splits);
  }

  static void addPeer(Configuration conf, Admin admin, String id, String key) throws Exception {
    ReplicationPeerConfig config = new ReplicationPeerConfig();
    config.setClusterKey(key);
    config.getConfiguration().put("replication.source.ratio", "1.0");
    for (Method method : Admin.class.getMethods()) {
      if (method.getName().equals("addReplicationPeer") && method.getParameterCount() == 2) {
        method.invoke(admin, id, config);
        return;
      }
    }
    Class<?> old = Class.forName("org.apache.hadoop.hbase.client.replication.ReplicationAdmin");
    try (AutoCloseable replication = (AutoCloseable) old.getConstructor(Configuration.class).newInstance(conf)) {
      old.getMethod("addPeer", String.class, ReplicationPeerConfig.class, Map.class).invoke(replication, id, config, null);
    }
  }

  static void peer(Configuration conf, Admin admin, String name, String oldName, String id) throws Exception {
    try {
      Admin.class.getMethod(name, String.class).invoke(admin, id);
    } catch (NoSuchMethodException missing) {
      Class<?> old = Class.forName("org.apache.hadoop.hbase.client.replication.ReplicationAdmin");
      try (AutoCloseable replication = (AutoCloseable) old.getConstructor(Configuration.class).newInstance(conf)) {
        old.getMethod(oldName, String.class).invoke(replication, id);
      }
    }
  }

  /** One cell of a given size. */
  static void put(Connection connection, String table, String row, String qualifier, int size) throws Exception {
    try (Table target = connection.getTable(TableName.valueOf(table))) {
      byte[] value = new byte[size];
      new Random(size).nextBytes(value);
      target.put(new Put(Bytes.toBytes(row)).addColumn(SENT, Bytes.toBytes(qualifier), value));
    }
  }

  /** COUNT operations of every kind over a thousand rows, by THREADS threads, from a seed. */
  static void load(Connection connection, String table, long seed, int count, int threads) throws Exception {
    List<Thread> running = new ArrayList<>();
    List<Throwable> failed = new ArrayList<>();
    for (int thread = 0; thread < threads; thread++) {
      final Random dice = new Random(seed * 31 + thread);
      Thread worker = new Thread(() -> {
        try (Table target = connection.getTable(TableName.valueOf(table))) {
          for (int done = 0; done < count / threads; done++) {
            operate(target, dice);
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

  static byte[] row(Random dice) {
    return Bytes.toBytes(String.format("r%04d", dice.nextInt(1000)));
  }

  static Put newPut(Random dice, byte[] row) {
    byte[] value = new byte[dice.nextInt(200)];
    dice.nextBytes(value);
    Put put = new Put(row).addColumn(SENT, Bytes.toBytes("q" + dice.nextInt(5)), value);
    if (dice.nextInt(4) == 0) {
      put.addColumn(LOCAL, Bytes.toBytes("q"), value);
    }
    return put;
  }

  static void operate(Table table, Random dice) throws Exception {
    byte[] row = row(dice), qualifier = Bytes.toBytes("q" + dice.nextInt(5));
    switch (dice.nextInt(12)) {
      case 0: {
        List<Put> puts = new ArrayList<>();
        for (int i = 0; i < 5; i++) {
          puts.add(newPut(dice, row(dice)));
        }
        table.put(puts);
        break;
      }
      case 1: table.delete(new Delete(row).addColumns(SENT, qualifier)); break;
      case 2: table.delete(new Delete(row).addFamily(SENT)); break;
      case 3: table.delete(new Delete(row).addColumn(SENT, qualifier)); break;
      case 4: table.delete(new Delete(row).addFamilyVersion(SENT, 1000L + dice.nextInt(1000))); break;
      case 5: table.delete(new Delete(row)); break;
      case 6: table.increment(new Increment(row).addColumn(SENT, Bytes.toBytes("counter"), 1)); break;
      case 7: table.append(new Append(row).add(SENT, Bytes.toBytes("text"), Bytes.toBytes("x"))); break;
      case 8: {
        RowMutations both = new RowMutations(row);
        both.add(newPut(dice, row));
        both.add(new Delete(row).addColumns(SENT, Bytes.toBytes("other")));
        table.mutateRow(both);
        break;
      }
      case 9: {
        Put put = newPut(dice, row);
        put.setTTL(86400000L);
        table.put(put);
        break;
      }
      default: table.put(newPut(dice, row));
    }
  }

  /** ID KEY [NAME VALUE]...: a peer with settings. */
  static void addGoldenPeer(Configuration conf, Admin admin, String[] words) throws Exception {
    ReplicationPeerConfig config = new ReplicationPeerConfig();
    config.setClusterKey(words[2]);
    config.getConfiguration().put("replication.source.ratio", "1.0");
    for (int i = 3; i + 1 < words.length; i += 2) {
      config.getConfiguration().put(words[i], words[i + 1]);
    }
    for (Method method : Admin.class.getMethods()) {
      if (method.getName().equals("addReplicationPeer") && method.getParameterCount() == 2) {
        method.invoke(admin, words[1], config);
        return;
      }
    }
    Class<?> old = Class.forName("org.apache.hadoop.hbase.client.replication.ReplicationAdmin");
    try (AutoCloseable replication = (AutoCloseable) old.getConstructor(Configuration.class).newInstance(conf)) {
      old.getMethod("addPeer", String.class, ReplicationPeerConfig.class, Map.class).invoke(replication, words[1], config, null);
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
      table.put(new Put(Bytes.toBytes("r1")).addColumn(SENT, q, 1001, Bytes.toBytes("v1")).addColumn(LOCAL, q, 1001, Bytes.toBytes("stays")));
      Put versions = new Put(Bytes.toBytes("r2"));
      for (long ts = 1001; ts <= 1003; ts++) {
        versions.addColumn(SENT, q, ts, Bytes.toBytes("v" + ts));
      }
      table.put(versions);
      List<Put> puts = new ArrayList<>();
      for (int i = 3; i <= 5; i++) {
        puts.add(new Put(Bytes.toBytes("r" + i)).addColumn(SENT, q, 1010, Bytes.toBytes("list")));
      }
      table.put(puts);
      table.delete(new Delete(Bytes.toBytes("r2")).addColumn(SENT, q, 1002));
      table.delete(new Delete(Bytes.toBytes("r2")).addFamilyVersion(SENT, 1003));
      table.delete(new Delete(Bytes.toBytes("r3")).addColumns(SENT, q, 1100));
      table.delete(new Delete(Bytes.toBytes("r4")).addFamily(SENT, 1200));
      table.delete(new Delete(Bytes.toBytes("r5"), 1300));
      table.increment(new Increment(Bytes.toBytes("r6")).addColumn(SENT, Bytes.toBytes("counter"), 5));
      table.append(new Append(Bytes.toBytes("r6")).add(SENT, Bytes.toBytes("text"), Bytes.toBytes("x")));
      RowMutations both = new RowMutations(Bytes.toBytes("r7"));
      both.add(new Put(Bytes.toBytes("r7")).addColumn(SENT, q, 1400, Bytes.toBytes("both")));
      both.add(new Delete(Bytes.toBytes("r7")).addColumns(SENT, Bytes.toBytes("other"), 1400));
      table.mutateRow(both);
      Put brief = new Put(Bytes.toBytes("r8")).addColumn(SENT, q, 1500, Bytes.toBytes("brief"));
      brief.setTTL(60000);
      table.put(brief);
      table.put(new Put(all).addColumn(SENT, new byte[0], 1600, new byte[0]).addColumn(SENT, all, 1600, all));
      byte[] big = new byte[2000];
      Arrays.fill(big, (byte) 'z');
      table.put(new Put(Bytes.toBytes("r9")).addColumn(SENT, q, 1700, big));
    }
  }

  /** Every version of every cell, deletes too: row, family, qualifier, timestamp, type, value; bytes in hex. */
  static void scan(Connection connection, String table) throws Exception {
    Scan scan = new Scan();
    scan.setRaw(true);
    scan.setMaxVersions();
    scan.setCaching(500);
    scan.setBatch(1000);
    try (Table source = connection.getTable(TableName.valueOf(table)); ResultScanner results = source.getScanner(scan)) {
      for (Result result : results) {
        for (Cell cell : result.rawCells()) {
          out.println(hex(CellUtil.cloneRow(cell)) + "\t" + hex(CellUtil.cloneFamily(cell)) + "\t" + hex(CellUtil.cloneQualifier(cell))
              + "\t" + cell.getTimestamp() + "\t" + (cell.getTypeByte() & 0xff) + "\t" + hex(CellUtil.cloneValue(cell)));
        }
      }
    }
  }

  static String hex(byte[] bytes) {
    StringBuilder text = new StringBuilder(bytes.length * 2);
    for (byte one : bytes) {
      text.append(Character.forDigit((one >> 4) & 15, 16)).append(Character.forDigit(one & 15, 16));
    }
    return text.toString();
  }
}
