//! What the simulated region servers send: cells of three shapes, as whole frames of replication calls.
//!
//! Values are text that compresses like messages do, not one repeated letter. Two places of a frame change from call
//! to call: its call id, and the sequence number of its first entry (without that, calls in flight at once would be
//! repeats of each other).

use weir_model::ClusterId;
use weir_sim_kernel::Rng;
use weir_wire::hbase::call::encode_call;
use weir_wire::hbase::cell_block::{Cell, CellKind, Codec};
use weir_wire::hbase::replication::{METHOD, NewKey, RequestBuilder};

pub(crate) const SOURCE: ClusterId = ClusterId { most: 0x1f0d_3c5b_7a99_4e21, least: 0x8b1d_55aa_0c3e_4f67 };
pub(crate) const CODEC: Codec = Codec::KeyValueWithTags;

/// Entries of one call; a source of 100-byte entries sends up to 25,000 at once, split by region.
pub(crate) const ENTRIES_PER_CALL: usize = 1000;

/// Region servers, each with one connection.
pub(crate) const CONNECTIONS: usize = 4;

/// Regions of a region server, and calls that it has in flight at once.
pub(crate) const REGIONS: usize = 4;

/// Partitions of the topic.
pub(crate) const PARTITIONS: i32 = 8;

/// Ids and sequence numbers from here on take five bytes each as varints, so they can be changed in place.
const FIVE_BYTES: u64 = 1 << 28;

pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) cells: usize,
    pub(crate) value_bytes: usize,
}

pub(crate) const SHAPES: [Shape; 3] = [
    Shape { name: "100B", cells: 1, value_bytes: 100 },
    Shape { name: "5x100B", cells: 5, value_bytes: 100 },
    Shape { name: "1KiB", cells: 1, value_bytes: 1024 },
];

/// A call that can be sent again and again, each time as another one.
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    first_sequence_at: usize,
}

impl Frame {
    /// Makes it call number so-and-so of its connection.
    pub(crate) fn renumber(&mut self, number: u64) {
        // int32 length, varint header length (one byte), tag of the call id.
        put_five(&mut self.bytes[6..11], FIVE_BYTES + number);
        let at = self.first_sequence_at;
        put_five(&mut self.bytes[at..at + 5], FIVE_BYTES + number);
    }

    /// The number of a call by the id in its answer.
    pub(crate) fn number_of(call_id: u32) -> u64 {
        u64::from(call_id) - FIVE_BYTES
    }
}

fn put_five(place: &mut [u8], number: u64) {
    assert!((FIVE_BYTES..1 << 31).contains(&number), "a run has fewer calls");
    for (index, byte) in place.iter_mut().enumerate() {
        *byte = (number >> (7 * index)) as u8 & 0x7f | if index < 4 { 0x80 } else { 0 };
    }
}

/// The frame of one call of a region of a table.
pub(crate) fn frame(shape: usize, table: &str, region: usize) -> Frame {
    let Shape { cells, value_bytes, .. } = SHAPES[shape];
    let mut rng = Rng::from_seed(7 + region as u64);
    let name = format!("{:016x}{:016x}", rng.roll(), rng.roll());
    let mut builder = RequestBuilder::new(CODEC);
    for entry in 0..ENTRIES_PER_CALL as u64 {
        let key = NewKey {
            encoded_region: name.as_bytes(),
            table: table.as_bytes(),
            sequence: FIVE_BYTES + entry,
            write_time_ms: 1_767_225_600_000 + entry / 10,
            cluster_ids: &[SOURCE],
            families: &[b"op"],
        };
        let row = format!("u{:08}-{:016x}", rng.roll() % 5_000_000, rng.roll());
        let values: Vec<Vec<u8>> = (0..cells).map(|_| value(&mut rng, value_bytes)).collect();
        builder.push(
            &key,
            values.iter().map(|value| Cell {
                row: row.as_bytes(),
                family: b"op",
                qualifier: b"SEND_MESSAGE",
                timestamp: 1_767_225_600_000 + entry / 10,
                kind: CellKind::PUT,
                value,
                tags: &[],
            }),
        );
    }
    let (param, block) = builder.finish();
    let mut bytes = Vec::new();
    encode_call(&mut bytes, FIVE_BYTES as u32, METHOD, Some(60_000), &param, &block);
    assert_eq!(bytes[5], 0x08, "the call id is the first field of the header");
    // Field 3 (sequence) of the first WAL key.
    let mut wanted = vec![0x18];
    wanted.extend([0; 5]);
    put_five(&mut wanted[1..], FIVE_BYTES);
    let found = bytes.windows(wanted.len()).position(|window| window == wanted);
    let first_sequence_at = found.expect("the first entry has its sequence number") + 1;
    Frame { bytes, first_sequence_at }
}

/// A message: a few fields and words, as dense as such values are.
fn value(rng: &mut Rng, bytes: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "hello", "tomorrow", "at", "seven", "the", "station", "please", "bring", "photos", "see", "you",
        "happy", "new", "year", "thanks", "moon",
    ];
    let mut text = format!(
        "to=u{:08};type=text;length={};client=app/14.{};text=",
        rng.roll() % 50_000_000,
        rng.roll() % 300,
        rng.roll() % 20
    );
    while text.len() < bytes {
        text.push_str(WORDS[rng.roll() as usize % WORDS.len()]);
        text.push(' ');
        if rng.roll().is_multiple_of(4) {
            text.push_str(&format!("{:x} ", rng.roll() as u32));
        }
    }
    text.truncate(bytes);
    text.into_bytes()
}
