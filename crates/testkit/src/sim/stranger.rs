//! Connections of others: random bytes, other protocols, frames that lie. None may disturb a source.

use super::link::Pipes;
use super::script::Garbage;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use weir_sim_kernel::Rng;
use weir_wire::hbase::call::{ConnectionHeader, encode_call};
use weir_wire::hbase::cell_block::Codec;
use weir_wire::hbase::replication::{METHOD, NewKey, RequestBuilder};
use weir_wire::hbase::{preamble, service};

/// How long a stranger stays when it is not shown the door: longer than a frame may take.
const STAY: Duration = Duration::from_secs(70);

/// Sends its bytes and listens until it is cut off or has had enough.
pub(super) async fn visit(mut pipes: Pipes, garbage: Garbage, mut dice: Rng) {
    let bytes = bytes(garbage, &mut dice);
    if pipes.calls.write_all(&bytes).await.is_err() {
        return;
    }
    let mut answer = Vec::new();
    let _ = timeout(STAY, pipes.answers.read_to_end(&mut answer)).await;
}

fn bytes(garbage: Garbage, dice: &mut Rng) -> Vec<u8> {
    let mut out = preamble::simple().to_vec();
    let header = ConnectionHeader {
        user: None,
        service: service::ADMIN.to_owned(),
        codec: Some(Codec::KeyValueWithTags.class().to_owned()),
        compressor: None,
        version: None,
    };
    header.encode(&mut out);
    let len = 1 + dice.below(400);
    match garbage {
        Garbage::Noise => return dice.bytes(len),
        Garbage::Http => return b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n".to_vec(),
        Garbage::Tls => return b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        Garbage::BadFrame => {
            out.extend_from_slice(&(len as u32).to_be_bytes());
            out.extend_from_slice(&dice.bytes(len));
        }
        Garbage::Giant => out.extend_from_slice(&[0x7f, 0xff, 0xff, 0xff, 1, 2, 3]),
        Garbage::Half => {
            out.extend_from_slice(&(len as u32 + 10).to_be_bytes());
            out.extend_from_slice(&dice.bytes(len));
        }
        Garbage::ShortCells => {
            let mut builder = RequestBuilder::new(Codec::KeyValueWithTags);
            let key = NewKey {
                encoded_region: b"stranger",
                table: b"t",
                sequence: 1,
                write_time_ms: 1,
                cluster_ids: &[],
                families: &[],
            };
            builder.push(&key, []);
            let (param, _) = builder.finish();
            encode_call(&mut out, 1, METHOD, None, &param, &[0, 0, 0, 9, 1]);
        }
    }
    out
}
