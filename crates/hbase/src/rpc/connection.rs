//! One connection: a task that writes, a task that reads, and the calls that wait for an answer.

use super::RpcError;
use bytes::Bytes;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use weir_model::limits::{
    CLIENT_FRAMES_QUEUED_MAX, CLIENT_REQUEST_BYTES_MAX, FRAME_BYTES_MAX, KEEP_ALIVE_EVERY_S,
    KEEP_ALIVE_IDLE_S,
};
use weir_wire::hbase::call::{ConnectionHeader, RemoteException, encode_call, parse_answer};
use weir_wire::hbase::cell_block::Codec;
use weir_wire::hbase::preamble;

/// What a client says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// User that the calls are made as.
    pub user: String,
    /// `ClientService`, `AdminService`, `MasterService`.
    pub service: &'static str,
}

/// A good answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its message.
    pub message: Bytes,
    /// Its cell block, empty when there is none.
    pub block: Bytes,
}

/// An open connection. Its tasks end when it is dropped.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    frames: mpsc::Sender<Vec<u8>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    address: String,
    calls: Mutex<Calls>,
}

type Waiting = oneshot::Sender<Result<Answer, RpcError>>;

#[derive(Debug, Default)]
struct Calls {
    waiting: HashMap<u32, Waiting>,
    last_id: u32,
    /// Set once, when the connection has ended.
    ended: Option<Ended>,
}

#[derive(Clone, Debug)]
enum Ended {
    Lost(String),
    /// What the server said before it closed.
    Refused(RemoteException),
}

/// Why the reader could not go on when the bytes are no answer.
const GARBAGE: &str = "an answer does not parse";

impl Connection {
    /// Connects to `host:port` and says hello. The server answers nothing to that: a refusal comes with the first call.
    ///
    /// # Errors
    /// When there is no connection by the deadline.
    pub async fn open(address: &str, hello: &Hello, deadline: Instant) -> Result<Self, RpcError> {
        let refused = |cause: String| RpcError::Connect { address: address.to_owned(), cause };
        let connecting = async {
            let mut socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            let keep_alive = socket2::TcpKeepalive::new()
                .with_time(Duration::from_secs(KEEP_ALIVE_IDLE_S))
                .with_interval(Duration::from_secs(KEEP_ALIVE_EVERY_S));
            socket2::SockRef::from(&socket).set_tcp_keepalive(&keep_alive)?;
            let mut first = preamble::simple().to_vec();
            let header = ConnectionHeader {
                user: Some(hello.user.clone()),
                service: hello.service.to_owned(),
                codec: Some(Codec::KeyValueWithTags.class().to_owned()),
                ..ConnectionHeader::default()
            };
            header.encode(&mut first);
            socket.write_all(&first).await?;
            Ok::<_, std::io::Error>(socket)
        };
        let socket = timeout_at(deadline, connecting)
            .await
            .map_err(|_| refused("no answer in time".to_owned()))?
            .map_err(|error| refused(error.to_string()))?;
        let (reader, writer) = socket.into_split();
        let shared = Arc::new(Shared { address: address.to_owned(), calls: Mutex::default() });
        let (frames, queue) = mpsc::channel(CLIENT_FRAMES_QUEUED_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(write(shared.clone(), queue, writer));
        tasks.spawn(read(shared.clone(), reader));
        Ok(Self { shared, frames, _tasks: tasks })
    }

    /// Whether it can take no more calls.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.shared.lock().ended.is_some()
    }

    /// Calls a method and waits for the answer until the deadline, which the server is told.
    ///
    /// # Errors
    /// When the server answers an exception, the connection ends, or the deadline passes. A late answer is dropped.
    pub async fn call(
        &self,
        method: &'static str,
        param: &[u8],
        block: &[u8],
        deadline: Instant,
    ) -> Result<Answer, RpcError> {
        let len = param.len().saturating_add(block.len());
        if len > CLIENT_REQUEST_BYTES_MAX {
            return Err(RpcError::TooLarge { len, max: CLIENT_REQUEST_BYTES_MAX });
        }
        let started = Instant::now();
        let timed_out = |is_sent| RpcError::TimedOut {
            address: self.shared.address.clone(),
            method,
            waited: started.elapsed(),
            is_sent,
        };
        let left = deadline.saturating_duration_since(started);
        let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        if left_ms == 0 {
            return Err(timed_out(false));
        }
        let (sender, receiver) = oneshot::channel();
        let place = self.shared.register(sender)?;
        let mut frame = Vec::with_capacity(len + 64);
        encode_call(&mut frame, place.id, method, Some(left_ms), param, block);
        // When the writer has ended, whoever ended it has answered all calls, this one too.
        if timeout_at(deadline, self.frames.send(frame)).await.is_err() {
            return Err(timed_out(false));
        }
        match timeout_at(deadline, receiver).await {
            Err(_) => Err(timed_out(true)),
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.shared.ended_error()),
        }
    }
}

/// A call that waits; forgotten when dropped.
struct Place<'a> {
    shared: &'a Shared,
    id: u32,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(&self.id);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, sender: Waiting) -> Result<Place<'_>, RpcError> {
        let mut calls = self.lock();
        if calls.ended.is_some() {
            drop(calls);
            // Nothing of this call was sent.
            return Err(match self.ended_error() {
                RpcError::Lost { address, cause, .. } => RpcError::Lost { address, cause, is_sent: false },
                other => other,
            });
        }
        loop {
            // The largest id stands for "no call" in answers.
            calls.last_id = if calls.last_id >= u32::MAX - 1 { 1 } else { calls.last_id + 1 };
            let id = calls.last_id;
            if let Entry::Vacant(place) = calls.waiting.entry(id) {
                place.insert(sender);
                return Ok(Place { shared: self, id });
            }
        }
    }

    fn error(&self, ended: &Ended) -> RpcError {
        let address = self.address.clone();
        match ended.clone() {
            Ended::Lost(cause) => RpcError::Lost { address, cause, is_sent: true },
            Ended::Refused(exception) => RpcError::Remote { address, exception },
        }
    }

    fn ended_error(&self) -> RpcError {
        let ended = self.lock().ended.clone();
        self.error(&ended.unwrap_or_else(|| Ended::Lost("closed".to_owned())))
    }

    /// Ends the connection for all calls; the first reason counts.
    fn end(&self, ended: Ended) {
        let mut calls = self.lock();
        let ended = calls.ended.get_or_insert(ended).clone();
        let waiting = std::mem::take(&mut calls.waiting);
        drop(calls);
        for sender in waiting.into_values() {
            let _ = sender.send(Err(self.error(&ended)));
        }
    }

    fn answer(&self, call_id: u32, answer: Result<Answer, RpcError>) {
        let waiting = self.lock().waiting.remove(&call_id);
        // Nobody waits for the answer of a call whose deadline has passed.
        if let Some(sender) = waiting {
            let _ = sender.send(answer);
        }
    }
}

/// Writes frames as they come; those that wait together go out together.
async fn write(shared: Arc<Shared>, mut queue: mpsc::Receiver<Vec<u8>>, mut writer: OwnedWriteHalf) {
    const TOGETHER_BYTES: usize = 64 * 1024;
    while let Some(mut bytes) = queue.recv().await {
        while bytes.len() < TOGETHER_BYTES
            && let Ok(more) = queue.try_recv()
        {
            bytes.extend_from_slice(&more);
        }
        if let Err(error) = writer.write_all(&bytes).await {
            shared.end(Ended::Lost(error.to_string()));
            return;
        }
    }
}

async fn read(shared: Arc<Shared>, reader: OwnedReadHalf) {
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let ended = loop {
        match read_frame(&mut reader).await {
            Ok(frame) => {
                if let Some(ended) = take(&shared, frame) {
                    break ended;
                }
            }
            Err(error) => break Ended::Lost(error.to_string()),
        }
    };
    shared.end(ended);
}

/// Hands one answer to its call; the end of the connection when it was no answer.
fn take(shared: &Shared, frame: Vec<u8>) -> Option<Ended> {
    let frame = Bytes::from(frame);
    let Ok(answer) = parse_answer(&frame) else { return Some(Ended::Lost(GARBAGE.to_owned())) };
    let result = match answer.result {
        Ok((message, block)) => {
            Ok(Answer { message: frame.slice_ref(message), block: frame.slice_ref(block) })
        }
        Err(exception) if answer.call_id == u32::MAX => return Some(Ended::Refused(exception)),
        Err(exception) => Err(RpcError::Remote { address: shared.address.clone(), exception }),
    };
    shared.answer(answer.call_id, result);
    None
}

/// The bytes after a frame's length. Memory grows with what comes, not with what the length says.
async fn read_frame(reader: &mut BufReader<OwnedReadHalf>) -> std::io::Result<Vec<u8>> {
    const FIRST: usize = 1 << 20;
    let len = reader.read_u32().await? as usize;
    if len > FRAME_BYTES_MAX {
        return Err(std::io::Error::other(format!("an answer of {len} bytes, over {FRAME_BYTES_MAX}")));
    }
    let mut frame = Vec::with_capacity(len.min(FIRST));
    let read = reader.take(len as u64).read_to_end(&mut frame).await?;
    if read < len {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame)
}
