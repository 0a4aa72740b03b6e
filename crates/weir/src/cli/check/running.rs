//! The running process: what it says on its console of what fails now.

use super::findings::Findings;
use super::source::Source;
use crate::captured::{self, Captured};
use crate::config::Config;
use crate::diagnosis::running::{Board, Failing, Subject, judge};
use crate::topics::{self, create_line};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_model::{Fault, address};

/// How long the answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// More than any picture has: hundreds of tables with all their faults are below 1 MiB.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

/// Asks the process at `console.listen`.
pub(super) async fn check(
    config: &Config,
    sources: &[Source<'_>],
    findings: &mut Findings,
) -> Result<(), Fault> {
    let listen = &config.console.listen;
    let Some(address) = to_connect(listen) else {
        findings.info(&format!(
            "console.listen is {listen}, a port of each start's own: the running process is not asked what fails now"
        ));
        return Ok(());
    };
    let asked = tokio::time::timeout(ANSWER_WAIT, ask(&address)).await;
    let board = match asked.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_WAIT.as_secs()))) {
        Ok(board) => board,
        Err(reason) => {
            findings.warning(
                &format!("console.listen {listen}: no weir run answers there, so what fails now is unknown: {reason}"),
                "weir run    (or run weir check with its configuration on the machine where it runs)",
            );
            return Ok(());
        }
    };
    findings.ok(&format!("weir run answers at {address}"));
    let captures = captured::all(config)?;
    for capture in &captures {
        let Some(of) = board.captures.iter().find(|one| one.name == capture.name) else {
            findings.warning(
                &format!("capture.{}: the process at {address} does not run it", capture.name),
                "restart weir run with this configuration, without --only",
            );
            continue;
        };
        let source = sources.iter().find(|source| source.name == capture.name);
        let said = judge(of, board.now_ms, |failing| subject(config, capture, source, failing));
        if said.is_empty() {
            findings.ok(&format!("capture.{}: no call fails now", capture.name));
        }
        said.iter().for_each(|finding| findings.add(finding));
    }
    Ok(())
}

/// What is known about the subject of a failure.
fn subject(
    config: &Config,
    capture: &Captured<'_>,
    source: Option<&Source<'_>>,
    failing: &Failing,
) -> Subject {
    // It is about a topic, or about a table that has none.
    let named = weir_model::TableName::new(&failing.about).ok();
    let by_topic = capture.tables(&failing.about).into_iter().next();
    let table = by_topic.or_else(|| named.filter(|table| capture.settings.takes(table)));
    let Some(table) = table else { return Subject::default() };
    let mut exclude = capture.section.tables.exclude.clone();
    exclude.push(table.to_string());
    let create = match capture.settings.topic(&table) {
        Ok(topic) => create_line(config, topic.as_str(), usize::MAX),
        Err(_) => crate::diagnosis::names::rename(&capture.place(&table), &[]),
    };
    let is_there = source.and_then(|source| source.existing.as_ref()).map(|all| all.contains(&table));
    let acl = |operation: &str| {
        format!(
            "kafka-acls.sh --bootstrap-server {} --add --allow-principal User:{} --operation {operation} --topic {}",
            config.log.bootstrap.join(","),
            topics::user(config).unwrap_or("NAME"),
            failing.about
        )
    };
    Subject {
        is_there,
        create,
        exclude: format!(
            "set capture.{}.tables.exclude = {} and restart weir run (its entries are skipped and counted)",
            capture.name,
            serde_json::json!(exclude)
        ),
        allow: format!("{}; {}", acl("Describe"), acl("Write")),
        table: Some(table.to_string()),
    }
}

/// The address to connect to for one that is listened on; `None` when the port is not known.
fn to_connect(listen: &str) -> Option<String> {
    let (host, port) = listen.rsplit_once(':')?;
    if port == "0" {
        return None;
    }
    let host = host.trim_matches(['[', ']']);
    let host = match host.parse() {
        Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => "127.0.0.1",
        Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => "::1",
        Ok(IpAddr::V4(_) | IpAddr::V6(_)) | Err(_) => host,
    };
    Some(address::join(host, port.parse().ok()?))
}

/// One GET, by HTTP/1.0 so that the answer is not cut in chunks.
async fn ask(address: &str) -> Result<Board, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut socket = TcpStream::connect(address).await.map_err(text)?;
    let request = format!("GET /board HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\r\n");
    socket.write_all(request.as_bytes()).await.map_err(text)?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(text)?;
    board(&answer)
}

/// Reads an answer to the GET.
fn board(answer: &[u8]) -> Result<Board, String> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer.split_at_checked(end.map_or(0, |end| end + 4)).unwrap_or((&[], answer));
    let status =
        String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    if status.split(' ').nth(1) != Some("200") {
        return Err(format!("it answered {status:?}, which is not weir's console"));
    }
    let value: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| format!("it is not weir's console: {error}"))?;
    if value.get("captures").is_none() {
        return Err("it is not weir's console: its /board names no captures".to_owned());
    }
    serde_json::from_value(value).map_err(|error| format!("its /board is of another version: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_listened_on_is_one_to_connect_to() {
        for (listen, expect) in [
            ("127.0.0.1:8640", Some("127.0.0.1:8640")),
            ("0.0.0.0:8640", Some("127.0.0.1:8640")),
            ("[::]:8640", Some("[::1]:8640")),
            ("::1:8640", Some("[::1]:8640")),
            ("[fe80::1]:1", Some("[fe80::1]:1")),
            ("host:1", Some("host:1")),
            ("127.0.0.1:0", None),
        ] {
            assert_eq!(to_connect(listen).as_deref(), expect, "{listen}");
        }
    }

    #[test]
    fn only_weirs_console_is_taken_for_it() {
        let of = |text: &str| board(text.as_bytes()).map(|board| board.captures.len());
        assert_eq!(of("HTTP/1.1 200 OK\r\nx: y\r\n\r\n{\"captures\":[{\"name\":\"a\",\"new\":1}]}"), Ok(1));
        for other in [
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhello",
            "SSH-2.0",
            "",
            "HTTP/1.1 200 OK\r\n\r\n{}",
        ] {
            assert!(of(other).is_err(), "{other:?}");
        }
    }
}
