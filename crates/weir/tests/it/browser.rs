//! Headless Chromium by plain WebDriver: JSON over HTTP/1.1 to chromedriver, nothing else.

use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};
use weir_testkit::engine::process::{Process, free_port};

/// How long chromedriver may take for one command; it starts a browser in one of them.
const COMMAND_WAIT: Duration = Duration::from_secs(60);

/// A browser with a profile of its own, gone with this value.
pub(crate) struct Browser {
    port: u16,
    session: String,
    profile: String,
    _driver: Process,
}

/// A picture of the whole page.
pub(crate) struct Picture {
    pub(crate) png: Vec<u8>,
    /// 0 is black, 255 is white.
    pub(crate) mean_brightness: f64,
    /// Different colours in it.
    pub(crate) colours: u64,
}

impl Browser {
    /// Starts chromedriver and a browser; what they keep and log stays in the folder.
    pub(crate) fn start(folder: &Path) -> Self {
        let port = free_port();
        let words = [format!("--port={port}")];
        let mut driver =
            Process::start("chromedriver", "chromedriver", &words, &folder.join("chromedriver.log"));
        driver.wait_for("started successfully");
        let profile = format!("--user-data-dir={}", folder.join("profile").display());
        let mut browser = Self { port, session: String::new(), profile: profile.clone(), _driver: driver };
        let flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &profile,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": flags}, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.ask("POST", "/session", &wanted);
        browser.session = format!("/session/{}", session["sessionId"].as_str().expect("a session has an id"));
        browser
    }

    pub(crate) fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs a script in the page; gives what it returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Lines of the browser's console since the last look.
    pub(crate) fn log(&self) -> Vec<String> {
        let lines = self.post("/se/log", &json!({"type": "browser"}));
        lines.as_array().into_iter().flatten().map(Value::to_string).collect()
    }

    /// A window of this width, and `light` or `dark` as the person prefers.
    pub(crate) fn look(&self, width: u32, scheme: &str) {
        self.resize(width, 900);
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
    }

    fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Pictures the whole page, however long, and has the browser itself say what is in the picture.
    pub(crate) fn picture(&self) -> Picture {
        const MEASURE: &str = "const [text, done] = arguments;
            const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
            createImageBitmap(new Blob([bytes], {type: 'image/png'})).then((image) => {
                const pen = new OffscreenCanvas(image.width, image.height).getContext('2d');
                pen.drawImage(image, 0, 0);
                const pixels = pen.getImageData(0, 0, image.width, image.height).data, colours = new Set();
                let sum = 0;
                for (let at = 0; at < pixels.length; at += 4) {
                    sum += (pixels[at] + pixels[at + 1] + pixels[at + 2]) / 3;
                    colours.add(pixels[at] << 16 | pixels[at + 1] << 8 | pixels[at + 2]);
                }
                done({mean: sum / (pixels.length / 4), colours: colours.size});
            }, (error) => done(String(error)))";
        let size = self.run("return [innerWidth, document.documentElement.scrollHeight]");
        let side = |index: usize| u32::try_from(size[index].as_u64().expect("sizes are numbers")).unwrap();
        self.resize(side(0), side(1));
        let shot = self.devtools("Page.captureScreenshot", &json!({"format": "png"}));
        let text = shot["data"].as_str().expect("a picture is text in base64");
        let measured = self.post("/execute/async", &json!({"script": MEASURE, "args": [text]}));
        Picture {
            png: from_base64(text),
            mean_brightness: measured["mean"].as_f64().unwrap_or_else(|| panic!("not a picture: {measured}")),
            colours: measured["colours"].as_u64().unwrap(),
        }
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), body)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        );
        let answer = exchange(self.port, &request);
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let answer: Value = serde_json::from_str(body).unwrap_or_default();
        assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {head}\n{answer:#}");
        answer["value"].clone()
    }
}

impl Drop for Browser {
    /// Ends the browser, which is chromedriver's child and not ours.
    fn drop(&mut self) {
        if !self.session.is_empty() && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            let session = &self.session;
            exchange(
                self.port,
                &format!("DELETE {session} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            );
        }
        // It may outlive that answer, and chromedriver goes now.
        for process in processes_with(&self.profile) {
            let _ = std::process::Command::new("kill").args(["-9", &process]).status();
        }
    }
}

/// Ids of the processes that have this argument.
fn processes_with(argument: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = all.filter_map(|entry| entry.file_name().into_string().ok());
    let has_it = |id: &String| {
        let words = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
    };
    ids.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())).filter(has_it).collect()
}

/// One request, one answer: as long as its head says, because chromedriver keeps the connection.
fn exchange(port: u16, request: &str) -> String {
    let started = Instant::now();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("chromedriver listens");
    socket.set_read_timeout(Some(COMMAND_WAIT)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let count = socket.read(&mut buffer).expect("chromedriver answers in time");
        bytes.extend_from_slice(&buffer[..count]);
        if count == 0 || is_whole(&bytes) || started.elapsed() > COMMAND_WAIT {
            return String::from_utf8(bytes).expect("answers are text");
        }
    }
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some(head_end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length
        .and_then(|text| text.trim().parse::<usize>().ok())
        .is_some_and(|len| bytes.len() >= head_end + 4 + len)
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("not base64"),
    };
    let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').map(value).collect();
    let mut bytes = Vec::with_capacity(letters.len() * 3 / 4);
    for four in letters.chunks(4) {
        let bits = four.iter().fold(0u32, |bits, six| bits << 6 | u32::from(*six)) << (6 * (4 - four.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}
