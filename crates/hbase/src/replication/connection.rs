//! One connection: preamble, header, calls in, answers out.
//!
//! The reader takes a frame's bytes from the budget before it reads them, and hands calls to the handler one at a
//! time. Each call then waits in a task of its own; answers go through one writer, in any order. Reader and writer are
//! any two halves: sockets in production, pipes in the simulator.

use super::stats::{Stats, add};
use super::{Answer, Handler, Promise, RETRY_CLASS, Refused, ReplicateCall, ServerConfig, Source, Weight};
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use weir_model::limits;
use weir_runtime::budget::{Budget, Taken};
use weir_runtime::drain::Stop;
use weir_wire::hbase::call::{self, Call, ConnectionHeader, RemoteException};
use weir_wire::hbase::cell_block::{Codec, Compressor, decompress};
use weir_wire::hbase::preamble::{self, AuthMethod, Preamble};
use weir_wire::hbase::replication::{METHOD, ReplicateRequest};
use weir_wire::hbase::service;

/// Largest connection header: names of classes and users, attributes.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// How long a source may take to read answers.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Answers waiting for the writer of one connection.
const ANSWERS_MAX: usize = limits::CALLS_PER_CONNECTION_MAX * 2;

/// What all connections share.
pub(super) struct Shared {
    pub(super) config: ServerConfig,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) budget: Budget,
    pub(super) stats: Arc<Stats>,
    pub(super) is_draining: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why a connection ends.
enum End {
    /// The other side closed, or the socket broke.
    Closed,
    /// We say why, and close.
    Fatal(Refused, RemoteException),
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        Self::Closed
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<R, W>(reader: R, writer: W, address: SocketAddr, shared: Arc<Shared>, stop: Stop)
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let (answers, inbox) = mpsc::channel(ANSWERS_MAX);
    let mut writing = tokio::spawn(write(writer, inbox));
    add(&shared.stats.connections_open, 1);
    shared.stats.source(address.ip(), |source| source.connections += 1);
    let mut connection = Connection {
        reader: BufReader::with_capacity(64 * 1024, reader),
        address,
        answers,
        slots: Arc::new(Semaphore::new(limits::CALLS_PER_CONNECTION_MAX)),
        stop: stop.clone(),
        shared: Arc::clone(&shared),
        frame_weight: limits::FRAME_WEIGHT_FIRST,
    };
    let mut stopped = stop;
    let end = tokio::select! {
        // A fixed order, so that a simulated run is the same each time; stop first, so that a busy socket cannot hide it.
        biased;
        () = stopped.stopped() => Ok(()),
        // Whoever takes no answers gets no further calls written.
        _ = &mut writing => Err(End::Closed),
        end = connection.run() => end,
    };
    if let Err(End::Fatal(why, exception)) = end {
        shared.stats.refuse(address.ip(), why, &exception.text);
        tracing::warn!(source = %address, class = %exception.class, text = %exception.text, "connection is refused");
        let mut frame = Vec::new();
        call::encode_fatal(&mut frame, &exception);
        let _ = connection.answers.send(frame).await;
    }
    drop(connection);
    if !writing.is_finished() {
        let _ = writing.await;
    }
    shared.stats.connections_open.fetch_sub(1, Ordering::Relaxed);
    shared.stats.source(address.ip(), |source| source.connections = source.connections.saturating_sub(1));
}

/// Writes answers; those that wait together go in one write.
async fn write(mut socket: impl AsyncWrite + Unpin, mut inbox: mpsc::Receiver<Vec<u8>>) {
    while let Some(mut bytes) = inbox.recv().await {
        while let Ok(more) = inbox.try_recv() {
            bytes.extend_from_slice(&more);
        }
        // A source that does not read its answers is gone; calls must not wait for it with their bytes held.
        if !matches!(timeout(ANSWER_WAIT, socket.write_all(&bytes)).await, Ok(Ok(()))) {
            return;
        }
    }
    let _ = socket.shutdown().await;
}

struct Connection<R> {
    reader: BufReader<R>,
    address: SocketAddr,
    answers: mpsc::Sender<Vec<u8>>,
    slots: Arc<Semaphore>,
    stop: Stop,
    shared: Arc<Shared>,
    /// What the next frame is expected to weigh, as a multiple of its bytes: as much as the last one did.
    frame_weight: usize,
}

/// What the connection header settled.
struct Settled {
    source: Source,
    service: String,
    codec: Codec,
    compressor: Option<Compressor>,
}

impl<R: AsyncRead + Unpin> Connection<R> {
    async fn run(&mut self) -> Result<(), End> {
        let mut bytes = [0; preamble::LEN];
        self.fill(&mut bytes).await?;
        match preamble::parse(bytes)
            .map_err(|exception| End::Fatal(refused_preamble(bytes, &exception), exception))?
        {
            Preamble::Rpc(AuthMethod::Simple) => {}
            Preamble::Rpc(method @ (AuthMethod::Kerberos | AuthMethod::Digest)) => {
                let class = "org.apache.hadoop.hbase.ipc.BadAuthException";
                let text = format!("{method:?}: this server takes SIMPLE authentication only");
                return Err(End::Fatal(Refused::Authentication, RemoteException::fatal(class, text)));
            }
            Preamble::Registry => return self.answer_registry().await,
            Preamble::Security => {
                let class = "org.apache.hadoop.hbase.ipc.SecurityNotEnabledException";
                return Err(End::Fatal(
                    Refused::Authentication,
                    RemoteException::fatal(class, "security is not enabled"),
                ));
            }
        }
        let settled = self.read_header().await?;
        loop {
            let Some(len) = self.read_frame_len().await? else { continue };
            // The source's clock runs while the call waits for the budget.
            let arrived = Instant::now();
            // The order matters: budget first, bytes after. A spent budget leaves them in the socket.
            let taken = self.shared.budget.take(len.saturating_mul(self.frame_weight)).await;
            let arrival = Arrival { at: arrived, waited: arrived.elapsed() };
            let frame = self.read_frame(len).await?;
            self.take_call(&settled, &frame, taken, arrival).await?;
        }
    }

    /// Reads a frame, within the time that it may take.
    async fn read_frame(&mut self, len: usize) -> Result<Vec<u8>, End> {
        let mut frame = Vec::with_capacity(len);
        let mut rest = (&mut self.reader).take(len as u64);
        let read = async {
            while frame.len() < len {
                if rest.read_buf(&mut frame).await? == 0 {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
                }
            }
            Ok(())
        };
        let read = timeout(self.shared.config.frame_wait, read).await;
        match read {
            Ok(read) => Ok(read.map(|()| frame)?),
            Err(_) => Err(self.stalled()),
        }
    }

    fn stalled(&self) -> End {
        self.shared.stats.refuse(self.address.ip(), Refused::Stalled, "");
        tracing::warn!(source = %self.address, "a frame began and did not end in time");
        End::Closed
    }

    /// Fills the buffer, within the time that a frame may take.
    async fn fill(&mut self, buffer: &mut [u8]) -> Result<(), End> {
        match timeout(self.shared.config.frame_wait, self.reader.read_exact(buffer)).await {
            Ok(read) => Ok(read.map(|_| ())?),
            Err(_) => Err(self.stalled()),
        }
    }

    /// Length of the next frame; `None` for a ping. Waiting for its first byte has no limit: sources are idle at will.
    async fn read_frame_len(&mut self) -> Result<Option<usize>, End> {
        let mut bytes = [0; 4];
        let (first, rest) = bytes.split_at_mut(1);
        self.reader.read_exact(first).await?;
        self.fill(rest).await?;
        let len = i32::from_be_bytes(bytes);
        if len == -1 {
            return Ok(None);
        }
        let max = self.shared.config.frame_bytes_max;
        match usize::try_from(len) {
            Ok(len) if len <= max => Ok(Some(len)),
            _ => {
                let text = format!(
                    "RPC data length of {} received from {} is greater than max allowed {max}",
                    len.cast_unsigned(),
                    self.address
                );
                let class = "org.apache.hadoop.hbase.DoNotRetryIOException";
                Err(End::Fatal(Refused::FrameLength, RemoteException::fatal(class, text)))
            }
        }
    }

    async fn read_header(&mut self) -> Result<Settled, End> {
        let refuse = |class, text: String| End::Fatal(Refused::Header, RemoteException::fatal(class, text));
        let mut len = [0; 4];
        self.fill(&mut len).await?;
        let len = usize::try_from(i32::from_be_bytes(len)).unwrap_or(usize::MAX);
        if len > HEADER_BYTES_MAX {
            let text = format!("connection header of {len} bytes");
            return Err(refuse("org.apache.hadoop.hbase.ipc.FatalConnectionException", text));
        }
        let mut message = vec![0; len];
        self.fill(&mut message).await?;
        let header = ConnectionHeader::parse(&message).map_err(|error| {
            refuse("org.apache.hadoop.hbase.ipc.FatalConnectionException", error.to_string())
        })?;
        if !service::SERVICES.contains(&header.service.as_str()) {
            return Err(refuse("org.apache.hadoop.hbase.ipc.UnknownServiceException", header.service));
        }
        let unsupported = |why, class, asked: &str| End::Fatal(why, RemoteException::fatal(class, asked));
        let codec = match header.codec.as_deref() {
            None => Codec::KeyValue,
            Some(asked) => Codec::of_class(asked).ok_or_else(|| {
                let class = "org.apache.hadoop.hbase.ipc.UnsupportedCellCodecException";
                unsupported(Refused::Codec, class, asked)
            })?,
        };
        let compressor = match header.compressor.as_deref() {
            None => None,
            Some(asked) => Some(Compressor::of_class(asked).ok_or_else(|| {
                let class = "org.apache.hadoop.hbase.ipc.UnsupportedCompressionCodecException";
                unsupported(Refused::Compressor, class, asked)
            })?),
        };
        let source = Source {
            address: self.address,
            user: header.user.unwrap_or_default(),
            version: header.version.unwrap_or_default(),
        };
        self.shared.stats.source(self.address.ip(), |snapshot| snapshot.version.clone_from(&source.version));
        self.shared.stats.refusals.connected(self.address.ip());
        tracing::debug!(source = %self.address, user = %source.user, version = %source.version, service = %header.service, "a source has connected");
        Ok(Settled { source, service: header.service, codec, compressor })
    }

    async fn answer_registry(&mut self) -> Result<(), End> {
        let mut frame = Vec::new();
        call::encode_answer_ok(&mut frame, u32::MAX, &service::cluster_id(self.shared.config.cluster_id));
        let _ = self.answers.send(frame).await;
        Err(End::Closed)
    }

    /// Takes one frame. An error of its outer layer ends the connection; an error inside it only answers the call.
    async fn take_call(
        &mut self,
        settled: &Settled,
        frame: &[u8],
        mut taken: Taken,
        arrival: Arrival,
    ) -> Result<(), End> {
        let call = call::parse_call(frame).map_err(|error| {
            let class = "org.apache.hadoop.hbase.DoNotRetryIOException";
            End::Fatal(Refused::Malformed, RemoteException::fatal(class, error.to_string()))
        })?;
        if call.header.method != METHOD || settled.service != service::ADMIN {
            return self.take_question(settled, &call).await;
        }
        let again = |text: String| RemoteException::retriable(RETRY_CLASS, text);
        if self.shared.is_draining.load(Ordering::Acquire) {
            self.shared.stats.refuse(self.address.ip(), Refused::Draining, "");
            return self
                .answer(call.header.call_id, Err(again("this sink is shutting down".to_owned())))
                .await;
        }
        let block = decompress(settled.compressor, call.cell_block, self.shared.config.frame_bytes_max);
        // What a compressor saved on the wire is memory all the same.
        let block_len = block.as_ref().map_or(0, |block| block.len());
        let frame_bytes = frame.len() + block_len.saturating_sub(call.cell_block.len());
        if frame_bytes > frame.len() {
            taken.settle(frame_bytes);
        }
        let request = block
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|block| ReplicateRequest::parse(call.param, block, settled.codec));
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                self.shared.stats.refuse(self.address.ip(), Refused::Malformed, &error.to_string());
                tracing::error!(source = %self.address, %error, "a replication call does not parse");
                return self
                    .answer(call.header.call_id, Err(again(format!("the call does not parse: {error}"))))
                    .await;
            }
        };
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("the slots are never closed");
        let within = self.answer_within(call.header.timeout_ms);
        let deadline = arrival.at + within;
        if Instant::now() >= deadline {
            // The source is about to give up and send it again: written now, it would only come twice.
            add(&self.shared.stats.late, 1);
            let text = arrival.late(within, call.header.timeout_ms);
            return self.answer(call.header.call_id, Err(again(text))).await;
        }
        self.count(&request, frame.len());
        let fingerprint = fingerprint(&request);
        let is_overlap = self.shared.stats.enter(fingerprint);
        if is_overlap {
            tracing::warn!(source = %self.address, "a source repeats a call whose first attempt still runs");
        }
        let weight = Weight::new(frame_bytes);
        let promise = self.shared.handler.replicate(ReplicateCall {
            source: &settled.source,
            request: &request,
            frame_bytes: frame.len(),
            deadline,
            weight: &weight,
        });
        taken.settle(weight.bytes());
        self.frame_weight = weight.bytes().div_ceil(frame.len().max(1)).clamp(1, limits::FRAME_WEIGHT_MAX);
        add(&self.shared.stats.calls_open, 1);
        let open = Open {
            call_id: call.header.call_id,
            answers: self.answers.clone(),
            stats: Arc::clone(&self.shared.stats),
            fingerprint: (!is_overlap).then_some(fingerprint),
            held: (taken, slot),
        };
        tokio::spawn(open.finish(promise, deadline, self.stop.clone()));
        Ok(())
    }

    fn answer_within(&self, timeout_ms: Option<u32>) -> Duration {
        let timeout_ms = timeout_ms.filter(|ms| *ms > 0).map_or(limits::CALL_TIMEOUT_MS_DEFAULT, u64::from);
        let kept = u64::from(100 - self.shared.config.answer_margin_percent.min(90));
        Duration::from_millis(timeout_ms.saturating_mul(kept) / 100)
    }

    fn count(&self, request: &ReplicateRequest<'_>, frame_bytes: usize) {
        let stats = &self.shared.stats;
        let entry_count = request.entry_count() as u64;
        stats.refusals.called(self.address.ip());
        add(&stats.calls, 1);
        add(&stats.entries, entry_count);
        add(&stats.cells, request.cell_count);
        add(&stats.bytes, frame_bytes as u64);
        let last_write_ms = request.entries().map(|entry| entry.key.write_time_ms).max().unwrap_or_default();
        stats.source(self.address.ip(), |source| {
            source.calls += 1;
            source.entries += entry_count;
            source.bytes += frame_bytes as u64;
            source.last_write_ms = source.last_write_ms.max(last_write_ms);
        });
    }

    /// Questions that sources of 3.0 ask a master, and methods that we do not have.
    async fn take_question(&mut self, settled: &Settled, call: &Call<'_>) -> Result<(), End> {
        let config = &self.shared.config;
        let answer =
            service::answer(&settled.service, call.header.method, config.cluster_id, &config.servers);
        if answer.is_none() {
            self.shared.stats.refuse(self.address.ip(), Refused::Method, call.header.method);
        }
        let class = "java.lang.UnsupportedOperationException";
        let answer = answer.ok_or_else(|| RemoteException::fatal(class, call.header.method.to_owned()));
        self.answer(call.header.call_id, answer).await
    }

    async fn answer(&mut self, call_id: u32, answer: Result<Vec<u8>, RemoteException>) -> Result<(), End> {
        let mut frame = Vec::new();
        match &answer {
            Ok(message) => call::encode_answer_ok(&mut frame, call_id, message),
            Err(exception) => call::encode_answer_exception(&mut frame, call_id, exception),
        }
        self.answers.send(frame).await.map_err(|_| End::Closed)
    }
}

/// When a call came, and how long it then waited for the byte budget.
struct Arrival {
    at: Instant,
    waited: Duration,
}

impl Arrival {
    /// Why a call that must be answered `within` this time is late before it is written.
    fn late(&self, within: Duration, timeout_ms: Option<u32>) -> String {
        if self.waited >= within && !within.is_zero() {
            return format!(
                "the call waited {} ms for the byte budget, until its time-out; send it again",
                self.waited.as_millis()
            );
        }
        format!(
            "the call's time-out of {} ms was over after {} ms, before it was written; send it again, and raise the source's time-out if this is said of each call",
            timeout_ms.map_or(limits::CALL_TIMEOUT_MS_DEFAULT, u64::from),
            self.at.elapsed().as_millis()
        )
    }
}

/// Why a preamble is refused, for the one who has to find out at the source.
fn refused_preamble(bytes: [u8; preamble::LEN], exception: &RemoteException) -> Refused {
    const HANDSHAKE: [u8; 2] = [0x16, 3];
    if bytes.starts_with(&HANDSHAKE) {
        Refused::Tls
    } else if exception.short_class() == "BadAuthException" {
        Refused::Authentication
    } else {
        Refused::Preamble
    }
}

/// First and last entry, and how many: the same call again has the same.
fn fingerprint(request: &ReplicateRequest<'_>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    let mut entries = request.entries();
    let count = entries.len();
    let first = entries.next();
    for entry in first.into_iter().chain(entries.last()) {
        (entry.key.encoded_region, entry.key.sequence, count, request.cell_count).hash(&mut hasher);
    }
    hasher.finish()
}

/// A call that waits for its promise.
struct Open {
    call_id: u32,
    answers: mpsc::Sender<Vec<u8>>,
    stats: Arc<Stats>,
    fingerprint: Option<u64>,
    /// Budget and slot: given back when the promise has ended, not when the answer went out.
    held: (Taken, tokio::sync::OwnedSemaphorePermit),
}

impl Open {
    async fn finish(self, mut promise: Promise, deadline: Instant, mut stop: Stop) {
        let give_up = |text: &str| Answer::Again(RemoteException::retriable(RETRY_CLASS, text));
        let (answer, is_early) = tokio::select! {
            // What is durable at the last moment is durable.
            biased;
            answer = &mut promise => (answer, false),
            () = tokio::time::sleep_until(deadline) => {
                add(&self.stats.late, 1);
                (give_up("not durable before the call's time-out; send it again"), true)
            }
            () = stop.stopped() => (give_up("this sink is shutting down"), true),
        };
        let mut frame = Vec::with_capacity(16);
        match &answer {
            Answer::Done => {
                add(&self.stats.done, 1);
                call::encode_answer_ok(&mut frame, self.call_id, &[]);
            }
            Answer::Again(exception) => {
                if !is_early {
                    add(&self.stats.again, 1);
                }
                call::encode_answer_exception(&mut frame, self.call_id, exception);
            }
        }
        // A connection that is gone takes no answer; the source sends the call again.
        let _ = self.answers.send(frame).await;
        let Self { stats, fingerprint, held, answers, .. } = self;
        drop(answers);
        if is_early && !stop.is_stopped() {
            promise.await;
        }
        if let Some(fingerprint) = fingerprint {
            stats.leave(fingerprint);
        }
        stats.calls_open.fetch_sub(1, Ordering::AcqRel);
        drop(held);
    }
}
