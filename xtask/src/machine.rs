//! What a fresh machine lacks: installed when we are root on Debian, else named exactly.

use std::process::Command;

/// Debian packages that librdkafka is built with, and the file that shows each is there.
const LIBRARIES: [(&str, &str); 7] = [
    ("cmake", "/usr/bin/cmake"),
    ("pkg-config", "/usr/bin/pkg-config"),
    ("libssl-dev", "/usr/include/openssl/ssl.h"),
    ("libsasl2-dev", "/usr/include/sasl/sasl.h"),
    ("libcurl4-openssl-dev", "curl/curl.h"),
    ("libzstd-dev", "/usr/include/zstd.h"),
    ("zlib1g-dev", "/usr/include/zlib.h"),
];

/// Packages that the real engines need.
const ENGINES: [(&str, &str); 2] = [("maven", "/usr/bin/mvn"), ("openjdk-17-jdk-headless", "/usr/bin/javac")];

/// Packages that the console's test needs: a browser, its driver, and letters to write with.
const BROWSER: [(&str, &str); 3] = [
    ("chromium", "/usr/bin/chromium"),
    ("chromium-driver", "/usr/bin/chromedriver"),
    ("fonts-dejavu-core", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"),
];

/// What the build needs.
pub(crate) fn ensure_libraries() -> Result<(), String> {
    ensure(&LIBRARIES)
}

/// What the fixtures need.
pub(crate) fn ensure_engines() -> Result<(), String> {
    ensure(&ENGINES)
}

/// What the console's test needs.
pub(crate) fn ensure_browser() -> Result<(), String> {
    ensure(&BROWSER)
}

fn is_there(path: &str) -> bool {
    if path.starts_with('/') {
        return std::path::Path::new(path).exists() || on_path(path);
    }
    // Headers of some packages are in a folder named after the machine.
    ["/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu"]
        .iter()
        .any(|folder| std::path::Path::new(folder).join(path).exists())
}

/// A program may be somewhere else on the path.
fn on_path(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let folders = std::env::var_os("PATH").unwrap_or_default();
    path.contains("/bin/") && std::env::split_paths(&folders).any(|folder| folder.join(name).is_file())
}

fn ensure(packages: &[(&str, &str)]) -> Result<(), String> {
    let missing: Vec<&str> =
        packages.iter().filter(|(_, path)| !is_there(path)).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let is_root =
        std::fs::metadata("/proc/self").is_ok_and(|file| std::os::unix::fs::MetadataExt::uid(&file) == 0);
    if !is_root || !std::path::Path::new("/usr/bin/apt-get").exists() {
        return Err(format!("this machine lacks {names}; run: sudo apt-get install -y {names}"));
    }
    println!("installing with apt-get, because the build or the tests need them: {names}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
        super::run(command)
    };
    apt(&["update", "-q"])?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(missing);
    apt(&install)
}
