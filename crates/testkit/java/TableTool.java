import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hbase.Cell;
import org.apache.hadoop.hbase.CellUtil;
import org.apache.hadoop.hbase.HBaseConfiguration;
import org.apache.hadoop.hbase.HRegionLocation;
import org.apache.hadoop.hbase.KeepDeletedCells;
import org.apache.hadoop.hbase.NamespaceDescriptor;
import org.apache.hadoop.hbase.TableName;
import org.apache.hadoop.hbase.client.Admin;
import org.apache.hadoop.hbase.client.Append;
import org.apache.hadoop.hbase.client.Connection;
import org.apache.hadoop.hbase.client.ConnectionFactory;
import org.apache.hadoop.hbase.client.Delete;
import org.apache.hadoop.hbase.client.Durability;
import org.apache.hadoop.hbase.client.Increment;
import org.apache.hadoop.hbase.client.Put;
import org.apache.hadoop.hbase.client.RegionLocator;
import org.apache.hadoop.hbase.client.Result;
import org.apache.hadoop.hbase.client.ResultScanner;
import org.apache.hadoop.hbase.client.RowMutations;
import org.apache.hadoop.hbase.client.Scan;
import org.apache.hadoop.hbase.client.Table;
import org.apache.hadoop.hbase.replication.ReplicationPeerConfig;
import org.apache.hadoop.hbase.util.Bytes;

/**
 * One long-lived client of a real HBase: a command per line on standard input, answers on standard output, the last
 * line of each being "ok" or "error TEXT". Compiles against the clients of 1.2 to 3.0.
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
    if (!isOld()) {
      // 3.0 asks the masters unless told, and knows only where ZooKeeper is.
      conf.set("hbase.client.registry.impl", "org.apache.hadoop.hbase.client.ZKConnectionRegistry");
    }
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
      case "create-plain": createPlain(admin, words[1]); break;
      case "drop": admin.disableTable(TableName.valueOf(words[1])); admin.deleteTable(TableName.valueOf(words[1])); break;
      case "durability": durability(admin, words[1], words[2]); break;
      case "scope": scope(admin, words[1], words[2], Integer.parseInt(words[3])); break;
      case "describe": describe(admin, words[1]); break;
      case "flush": admin.flush(TableName.valueOf(words[1])); break;
      case "peer-add": addPeer(conf, admin, words[1], words[2]); break;
      case "peer-add-serial": addSerialPeer(admin, words[1], words[2]); break;
      case "regions": regions(connection, words[1]); break;
      case "move": admin.move(Bytes.toBytes(words[1]), Bytes.toBytes(words[2])); break;
      case "split": admin.split(TableName.valueOf(words[1]), Bytes.toBytes(words[2])); break;
      case "merge": merge(admin, words[1], words[2]); break;
      case "peer-remove": peer(conf, admin, "removeReplicationPeer", "removePeer", words[1]); break;
      case "peer-disable": peer(conf, admin, "disableReplicationPeer", "disablePeer", words[1]); break;
      case "peer-enable": peer(conf, admin, "enableReplicationPeer", "enablePeer", words[1]); break;
      case "namespace": admin.createNamespace(NamespaceDescriptor.create(words[1]).build()); break;
      case "load-start": startLoad(connection, words[1], Long.parseLong(words[2]), Integer.parseInt(words[3]), Integer.parseInt(words[4])); break;
      case "load-stop": stopLoad(); break;
      case "put": put(connection, words[1], words[2], words[3], Integer.parseInt(words[4])); break;
      case "load": load(connection, words[1], Long.parseLong(words[2]), Integer.parseInt(words[3]), Integer.parseInt(words[4])); break;
      case "scan": scan(connection, words[1]); break;
      default: more(conf, connection, admin, words);
    }
  }

  /** Commands that not every line's client can compile are in a class of their own. */
  static void more(Configuration conf, Connection connection, Admin admin, String[] words) throws Exception {
    try {
      Class.forName("SinkTool").getDeclaredMethod("run", Configuration.class, Connection.class, Admin.class, String[].class)
          .invoke(null, conf, connection, admin, words);
    } catch (InvocationTargetException wrapped) {
      throw wrapped.getCause() instanceof Exception ? (Exception) wrapped.getCause() : wrapped;
    }
  }

  /** Keeps deleted cells, so that a raw scan still shows all that was written after a flush or a compaction. */
  static void create(Admin admin, String table, int regions) throws Exception {
    byte[][] splits = new byte[regions - 1][];
    for (int i = 1; i < regions; i++) {
      splits[i - 1] = Bytes.toBytes(String.format("r%04d", i * 1000 / regions));
    }
    boolean isOld = isOld();
    Class<?> tableType = type(isOld ? "HTableDescriptor" : "client.TableDescriptorBuilder");
    Class<?> familyType = type(isOld ? "HColumnDescriptor" : "client.ColumnFamilyDescriptorBuilder");
    TableName name = TableName.valueOf(table);
    Object descriptor = isOld ? tableType.getConstructor(TableName.class).newInstance(name) : call(tableType, null, "newBuilder", name);
    for (byte[] family : Arrays.asList(SENT, LOCAL)) {
      Object column = isOld ? familyType.getConstructor(byte[].class).newInstance((Object) family) : call(familyType, null, "newBuilder", (Object) family);
      call(familyType, column, "setMaxVersions", 1000000);
      call(familyType, column, "setScope", family == SENT ? 1 : 0);
      call(familyType, column, "setKeepDeletedCells", KeepDeletedCells.TRUE);
      call(tableType, descriptor, isOld ? "addFamily" : "setColumnFamily", isOld ? column : call(familyType, column, "build"));
    }
    Object built = isOld ? descriptor : call(tableType, descriptor, "build");
    if (splits.length == 0) {
      call(Admin.class, admin, "createTable", built);
    } else {
      call(Admin.class, admin, "createTable", built, splits);
    }
  }

  /** The default durability of a table's mutations, such as SKIP_WAL. */
  static void durability(Admin admin, String table, String durability) throws Exception {
    TableName name = TableName.valueOf(table);
    Durability wanted = Durability.valueOf(durability);
    if (isOld()) {
      Object descriptor = call(Admin.class, admin, "getTableDescriptor", name);
      call(type("HTableDescriptor"), descriptor, "setDurability", wanted);
      call(Admin.class, admin, "modifyTable", name, descriptor);
      return;
    }
    Class<?> builder = type("client.TableDescriptorBuilder");
    Object changed = call(builder, null, "newBuilder", call(Admin.class, admin, "getDescriptor", name));
    call(builder, changed, "setDurability", wanted);
    call(Admin.class, admin, "modifyTable", call(builder, changed, "build"));
  }

  static Class<?> type(String name) throws Exception {
    return Class.forName("org.apache.hadoop.hbase." + name);
  }

  /** Whether descriptors are still made without builders: HBase 1. */
  static boolean isOld() {
    try {
      type("client.TableDescriptorBuilder");
      return false;
    } catch (Exception missing) {
      return true;
    }
  }

  /** Calls a public method by name, that with this many parameters which take these arguments. */
  static Object call(Class<?> type, Object target, String name, Object... arguments) throws Exception {
    for (Method method : type.getMethods()) {
      Class<?>[] wanted = method.getParameterTypes();
      boolean fits = method.getName().equals(name) && wanted.length == arguments.length;
      for (int i = 0; fits && i < wanted.length; i++) {
        fits = wanted[i] == int.class ? arguments[i] instanceof Integer
            : wanted[i] == long.class ? arguments[i] instanceof Long
            : wanted[i] == boolean.class ? arguments[i] instanceof Boolean : wanted[i].isInstance(arguments[i]);
      }
      if (fits) {
        try {
          return method.invoke(target, arguments);
        } catch (InvocationTargetException wrapped) {
          throw wrapped.getCause() instanceof Exception ? (Exception) wrapped.getCause() : wrapped;
        }
      }
    }
    throw new NoSuchMethodException(type + "." + name);
  }

  /** The regions of a table in the order of their rows: encoded name, first row in hex, server. */
  static void regions(Connection connection, String table) throws Exception {
    Class<?> location = HRegionLocation.class;
    String name = isOld() ? "getRegionInfo" : "getRegion";
    Class<?> region = type(isOld() ? "HRegionInfo" : "client.RegionInfo");
    try (RegionLocator locator = connection.getRegionLocator(TableName.valueOf(table))) {
      for (HRegionLocation one : locator.getAllRegionLocations()) {
        Object info = call(location, one, name);
        out.println(call(region, info, "getEncodedName") + "\t" + hex((byte[]) call(region, info, "getStartKey")) + "\t"
            + one.getServerName());
      }
    }
  }

  /** Merges two neighbours, by their encoded names. Does not wait. */
  static void merge(Admin admin, String left, String right) throws Exception {
    byte[] first = Bytes.toBytes(left), second = Bytes.toBytes(right);
    if (isOld()) {
      call(Admin.class, admin, "mergeRegions", first, second, false);
    } else {
      call(Admin.class, admin, "mergeRegionsAsync", new byte[][] {first, second}, false);
    }
  }

  /** A peer that ships each row's writes strictly in order: HBase 2.1 and later. */
  static void addSerialPeer(Admin admin, String id, String key) throws Exception {
    call(Admin.class, admin, "addReplicationPeer", id, peerConfig(key, true));
  }

  static ReplicationPeerConfig peerConfig(String key, boolean isSerial) throws Exception {
    if (isOld()) {
      Object config = ReplicationPeerConfig.class.getConstructor().newInstance();
      call(ReplicationPeerConfig.class, config, "setClusterKey", key);
      @SuppressWarnings("unchecked")
      Map<String, String> settings = (Map<String, String>) call(ReplicationPeerConfig.class, config, "getConfiguration");
      settings.put("replication.source.ratio", "1.0");
      return (ReplicationPeerConfig) config;
    }
    Class<?> builderType = type("replication.ReplicationPeerConfigBuilder");
    Object builder = call(ReplicationPeerConfig.class, null, "newBuilder");
    call(builderType, builder, "setClusterKey", key);
    call(builderType, builder, "putConfiguration", "replication.source.ratio", "1.0");
    call(builderType, builder, "setSerial", isSerial);
    return (ReplicationPeerConfig) call(builderType, builder, "build");
  }

  /** Families f and g that are not replicated, with settings that no change of theirs may lose; makes the namespace. */
  static void createPlain(Admin admin, String table) throws Exception {
    TableName name = TableName.valueOf(table);
    if (!name.getNamespaceAsString().equals("default")) {
      admin.createNamespace(NamespaceDescriptor.create(name.getNamespaceAsString()).build());
    }
    boolean isOld = isOld();
    Class<?> tableType = type(isOld ? "HTableDescriptor" : "client.TableDescriptorBuilder");
    Class<?> familyType = type(isOld ? "HColumnDescriptor" : "client.ColumnFamilyDescriptorBuilder");
    Object descriptor = isOld ? tableType.getConstructor(TableName.class).newInstance(name) : call(tableType, null, "newBuilder", name);
    call(tableType, descriptor, "setValue", "OWNER_OF_THIS", "team x");
    call(tableType, descriptor, isOld ? "setConfiguration" : "setValue", "hbase.hstore.blockingStoreFiles", "33");
    call(tableType, descriptor, "setMaxFileSize", 1234567890L);
    for (String family : Arrays.asList("f", "g")) {
      byte[] bytes = Bytes.toBytes(family);
      Object column = isOld ? familyType.getConstructor(byte[].class).newInstance((Object) bytes) : call(familyType, null, "newBuilder", (Object) bytes);
      call(familyType, column, "setMaxVersions", 7);
      call(familyType, column, "setTimeToLive", 86400);
      call(familyType, column, "setValue", "NOTE", "of " + family);
      call(familyType, column, "setConfiguration", "hbase.hstore.compaction.max", "11");
      call(tableType, descriptor, isOld ? "addFamily" : "setColumnFamily", isOld ? column : call(familyType, column, "build"));
    }
    call(Admin.class, admin, "createTable", isOld ? descriptor : call(tableType, descriptor, "build"));
  }

  static void scope(Admin admin, String table, String family, int scope) throws Exception {
    TableName name = TableName.valueOf(table);
    Object descriptor = descriptor(admin, name);
    byte[] bytes = Bytes.toBytes(family);
    if (!isOld()) {
      Class<?> familyType = type("client.ColumnFamilyDescriptorBuilder");
      Object column = call(type("client.TableDescriptor"), descriptor, "getColumnFamily", (Object) bytes);
      Object builder = call(familyType, null, "newBuilder", column);
      call(familyType, builder, "setScope", scope);
      call(Admin.class, admin, "modifyColumnFamily", name, call(familyType, builder, "build"));
      return;
    }
    Class<?> familyType = type("HColumnDescriptor");
    Object column = familyType.getConstructor(familyType).newInstance(call(type("HTableDescriptor"), descriptor, "getFamily", (Object) bytes));
    call(familyType, column, "setScope", scope);
    call(Admin.class, admin, "modifyColumn", name, column);
    // 1.x returns before the regions have it.
    while (!((org.apache.hadoop.hbase.util.Pair<?, ?>) call(Admin.class, admin, "getAlterStatus", name)).getFirst().equals(0)) {
      Thread.sleep(50);
    }
  }

  static Object descriptor(Admin admin, TableName name) throws Exception {
    return call(Admin.class, admin, isOld() ? "getTableDescriptor" : "getDescriptor", name);
  }

  static void describe(Admin admin, String table) throws Exception {
    out.println(descriptor(admin, TableName.valueOf(table)).toString());
  }

  static void addPeer(Configuration conf, Admin admin, String id, String key) throws Exception {
    ReplicationPeerConfig config = peerConfig(key, false);
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
      case 7: {
        Append append = new Append(row);
        call(Append.class, append, isOld() ? "add" : "addColumn", SENT, Bytes.toBytes("text"), Bytes.toBytes("x"));
        table.append(append);
        break;
      }
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

  static volatile boolean loading;
  static final List<Thread> LOADERS = new ArrayList<>();
  static final List<Throwable> LOAD_FAILED = new ArrayList<>();
  static final AtomicLong LOADED = new AtomicLong();

  /** Operations of every kind in the background, about so many a second all together, until "load-stop". */
  static void startLoad(Connection connection, String name, long seed, int threads, int perSecond) {
    loading = true;
    LOADED.set(0);
    for (int thread = 0; thread < threads; thread++) {
      final Random dice = new Random(seed * 31 + thread);
      Thread worker = new Thread(() -> {
        try (Table table = connection.getTable(TableName.valueOf(name))) {
          long started = System.nanoTime();
          for (long done = 1; loading; done++) {
            operate(table, dice);
            LOADED.incrementAndGet();
            long ahead = done * threads * 1000 / perSecond - (System.nanoTime() - started) / 1000000;
            if (ahead > 0) {
              Thread.sleep(ahead);
            }
          }
        } catch (Throwable error) {
          synchronized (LOAD_FAILED) {
            LOAD_FAILED.add(error);
          }
        }
      });
      worker.setDaemon(true);
      worker.start();
      LOADERS.add(worker);
    }
  }

  /** Prints how many operations there were. */
  static void stopLoad() throws Exception {
    loading = false;
    for (Thread worker : LOADERS) {
      worker.join();
    }
    LOADERS.clear();
    if (!LOAD_FAILED.isEmpty()) {
      throw new RuntimeException(LOAD_FAILED.remove(0));
    }
    out.println(LOADED.get());
  }

  /** Every version of every cell, deletes too: row, family, qualifier, timestamp, type, value; bytes in hex. */
  static void scan(Connection connection, String table) throws Exception {
    Scan scan = new Scan();
    scan.setRaw(true);
    call(Scan.class, scan, isOld() ? "setMaxVersions" : "readAllVersions");
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
