//! One connection with many calls, against a server that follows a script.

use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use weir_hbase::client::ServerName;
use weir_hbase::rpc::{Connection, Hello, RpcError, Servers};
use weir_wire::hbase::call::{
    ConnectionHeader, RemoteException, encode_answer_exception, encode_answer_ok, encode_fatal, parse_call,
};

/// A server that has been said hello to.
struct Scripted {
    socket: TcpStream,
}

impl Scripted {
    async fn accept(listener: &TcpListener) -> Self {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut preamble = [0; 6];
        socket.read_exact(&mut preamble).await.unwrap();
        assert_eq!(&preamble, b"HBas\0P");
        let mut scripted = Self { socket };
        let header = ConnectionHeader::parse(&scripted.frame().await).unwrap();
        assert_eq!((header.user.as_deref(), header.service.as_str()), (Some("tester"), "ClientService"));
        scripted
    }

    async fn frame(&mut self) -> Vec<u8> {
        let len = self.socket.read_u32().await.unwrap();
        let mut frame = vec![0; len as usize];
        self.socket.read_exact(&mut frame).await.unwrap();
        frame
    }

    /// Call id, parameter and cell block of the next call.
    async fn call(&mut self) -> (u32, Vec<u8>, Vec<u8>) {
        let frame = self.frame().await;
        let call = parse_call(&frame).unwrap();
        assert!(call.header.timeout_ms.is_some_and(|ms| ms > 0), "the server is told the deadline");
        (call.header.call_id, call.param.to_vec(), call.cell_block.to_vec())
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }
}

fn hello() -> Hello {
    Hello { user: "tester".to_owned(), service: "ClientService" }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

async fn pair() -> (Connection, Scripted) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let hello = hello();
    let (connection, server) =
        tokio::join!(Connection::open(&address, &hello, soon()), Scripted::accept(&listener));
    (connection.unwrap(), server)
}

#[tokio::test]
async fn answers_find_their_calls_in_whatever_order_they_come() {
    let (connection, mut server) = pair().await;
    let connection = std::sync::Arc::new(connection);
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..100u8 {
        let connection = connection.clone();
        calls.spawn(async move {
            let answer = connection.call("Get", &[number], &[number; 3], soon()).await.unwrap();
            (number, answer.message.to_vec())
        });
    }
    let mut waiting = Vec::new();
    for _ in 0..100 {
        let (id, param, block) = server.call().await;
        assert_eq!(block, [param[0]; 3]);
        waiting.push((id, param[0]));
    }
    waiting.sort_unstable_by_key(|(_, number)| number.wrapping_mul(37));
    for (id, number) in waiting {
        let mut frame = Vec::new();
        encode_answer_ok(&mut frame, id, &[number, number]);
        server.send(&frame).await;
    }
    while let Some(done) = calls.join_next().await {
        let (number, message) = done.unwrap();
        assert_eq!(message, [number, number]);
    }
}

#[tokio::test]
async fn a_call_ends_by_its_deadline_and_its_late_answer_harms_no_other() {
    let (connection, mut server) = pair().await;
    let start = Instant::now();
    let (call, late) =
        tokio::join!(connection.call("Get", b"a", b"", start + Duration::from_millis(100)), server.call());
    let error = call.unwrap_err();
    assert!(matches!(error, RpcError::TimedOut { is_sent: true, .. }), "{error:?}");
    assert!(error.may_be_done());
    let mut frame = Vec::new();
    encode_answer_ok(&mut frame, late.0, b"late");
    server.send(&frame).await;
    let (next, ()) = tokio::join!(connection.call("Get", b"b", b"", soon()), async {
        let (id, ..) = server.call().await;
        let mut frame = Vec::new();
        encode_answer_ok(&mut frame, id, b"in time");
        server.send(&frame).await;
    });
    assert_eq!(&next.unwrap().message[..], b"in time");
}

/// How a connection may end: closed, in the middle of an answer, with garbage, with a frame that is too long.
#[tokio::test]
async fn all_calls_end_when_the_connection_does() {
    for last in [&b""[..], b"\0\0\0\x10\x02", b"\0\0\0\x02\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"]
    {
        let (connection, mut server) = pair().await;
        let (first, second, ()) = tokio::join!(
            connection.call("Get", b"a", b"", soon()),
            connection.call("Get", b"b", b"", soon()),
            async {
                server.call().await;
                server.call().await;
                server.send(last).await;
                server.socket.shutdown().await.unwrap();
            }
        );
        for result in [first, second] {
            let error = result.unwrap_err();
            assert!(matches!(error, RpcError::Lost { is_sent: true, .. }), "{last:?}: {error:?}");
        }
        assert!(connection.is_ended());
        let error = connection.call("Get", b"c", b"", soon()).await.unwrap_err();
        assert!(!error.may_be_done(), "nothing was sent: {error:?}");
    }
}

#[tokio::test]
async fn what_a_server_says_before_it_closes_is_the_answer_of_all_calls() {
    let (connection, mut server) = pair().await;
    let exception = RemoteException::fatal(
        "org.apache.hadoop.hbase.security.AccessDeniedException",
        "Authentication is required",
    );
    let (call, ()) = tokio::join!(connection.call("Get", b"a", b"", soon()), async {
        server.call().await;
        let mut frame = Vec::new();
        encode_fatal(&mut frame, &exception);
        server.send(&frame).await;
    });
    let error = call.unwrap_err();
    assert!(error.to_string().ends_with("AccessDeniedException: Authentication is required"), "{error}");
    assert!(connection.is_ended());
}

/// A server that refuses with a full queue meets half the calls; one that was lost is connected to anew.
#[tokio::test]
async fn a_full_queue_narrows_the_window_and_a_lost_connection_is_made_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = ServerName { host: "127.0.0.1".to_owned(), port, start_code: 1 };
    let servers = Servers::new(hello(), 8);
    let server = servers.at(&name);
    for class in ["org.apache.hadoop.hbase.CallQueueTooBigException", "java.io.IOException"] {
        let before = server.window().limit();
        let (call, mut scripted) = tokio::join!(server.call("Get", b"a", b"", soon()), async {
            let mut scripted = Scripted::accept(&listener).await;
            let (id, ..) = scripted.call().await;
            let mut exception = RemoteException::retriable("", "full");
            exception.class = class.to_owned().into();
            let mut frame = Vec::new();
            encode_answer_exception(&mut frame, id, &exception);
            scripted.send(&frame).await;
            scripted
        });
        assert!(matches!(call.unwrap_err(), RpcError::Remote { .. }));
        let is_full = class.ends_with("CallQueueTooBigException");
        assert_eq!(server.window().limit(), if is_full { before / 2 } else { before });
        let (lost, ()) = tokio::join!(server.call("Get", b"b", b"", soon()), async {
            scripted.call().await;
            drop(scripted);
        });
        assert!(matches!(lost.unwrap_err(), RpcError::Lost { is_sent: true, .. }));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_by_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Connection::open(&address, &hello(), soon()).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("no connection to {address}: ")), "{error}");
    assert!(!error.may_be_done());
}
