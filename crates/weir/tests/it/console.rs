//! The demonstration's console in a real browser (headless Chromium, driven by WebDriver): what a person sees moves, adds
//! up, says so when Weir is gone, and recovers.

/// Named so that it runs with the tests on real engines: one at a time, and not in `cargo x check`.
mod real {
    use crate::browser::{Browser, Picture};
    use std::path::PathBuf;
    use std::time::{Duration, Instant};
    use weir_testkit::engine::process::{Process, free_port};

    /// How long anything may take that the page is waited for.
    const DEADLINE: Duration = Duration::from_secs(60);

    /// What the page says, as a program reads it.
    const READ: &str = "const text = (one) => one ? one.textContent : '';
        const sums = [...document.querySelectorAll('#sums .value')].map((one) => Number(one.textContent.replaceAll(',', '')));
        return {
            title: document.title, state: text(document.querySelector('.state b')), lost: !document.getElementById('lost').hidden,
            notice: text(document.getElementById('lost')), sums, verdict: text(document.querySelector('#play ~ .legend .note')),
            servers: document.querySelectorAll('#sources tbody tr').length, tables: text(document.getElementById('tables')),
            wide: document.documentElement.scrollWidth > innerWidth, label: document.getElementById('chart').ariaLabel,
            chart: document.getElementById('chart').toDataURL(), play: document.getElementById('play').toDataURL()
        }";

    struct Demo {
        _process: Process,
        folder: tempfile::TempDir,
        port: u16,
    }

    impl Demo {
        fn start(port: u16) -> Self {
            let folder = tempfile::Builder::new().prefix("weir-demo-").tempdir().unwrap();
            let words = ["demo", "--rate", "0.05", "--seconds", "6", "--seed", "5", "--listen"];
            let mut words: Vec<String> = words.map(str::to_owned).to_vec();
            words.push(format!("127.0.0.1:{port}"));
            let log = folder.path().join("demo.log");
            let mut process = Process::start("weir", env!("CARGO_BIN_EXE_weir"), &words, &log);
            process.wait_for("Ctrl-C");
            Self { _process: process, folder, port }
        }

        fn url(&self) -> String {
            format!("http://127.0.0.1:{}/", self.port)
        }
    }

    /// Reads the page until it is so, or panics with what it said last.
    #[track_caller]
    fn wait(browser: &Browser, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let started = Instant::now();
        loop {
            let mut page = browser.run(READ);
            if is_so(&page) {
                return page;
            }
            if started.elapsed() > DEADLINE {
                page["chart"] = "".into();
                page["play"] = "".into();
                panic!("{what}: not within {DEADLINE:?}: {page:#}\n{:#?}", browser.log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn sum(page: &serde_json::Value, index: usize) -> u64 {
        page["sums"][index].as_u64().unwrap_or_default()
    }

    /// Where pictures for people are kept.
    fn pictures() -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")),
            PathBuf::from,
        );
        let folder = target.join("console");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn the_page_moves_adds_up_and_says_when_weir_is_gone() {
        let demo = Demo::start(free_port());
        let browser = Browser::start(demo.folder.path());
        browser.open(&demo.url());

        let first =
            wait(&browser, "the page is live", |page| page["state"] == "Capturing" && sum(page, 0) > 0);
        let moved = wait(&browser, "the charts move and the numbers grow", |page| {
            page["chart"] != first["chart"] && page["play"] != first["play"] && sum(page, 0) > sum(&first, 0)
        });
        assert_eq!(moved["servers"], 4, "each simulated region server is seen apart");
        assert!(moved["tables"].as_str().unwrap().contains("hbase.operation.wal"), "{}", moved["tables"]);
        assert!(moved["label"].as_str().unwrap().contains("in the last minute"), "{}", moved["label"]);
        let closed = wait(&browser, "the account of a play is closed", |page| {
            page["verdict"].as_str().is_some_and(|verdict| verdict.contains("checked"))
        });
        assert!(
            closed["verdict"].as_str().unwrap().contains("every message is there, in its 100 ms"),
            "{closed}"
        );
        assert_eq!((sum(&closed, 4), sum(&closed, 5)), (0, 0), "lost and duplicates: {}", closed["sums"]);

        // Enough on the chart that pictures show it; then each as a person may have it.
        wait(&browser, "the second play is on the chart", |page| sum(page, 0) > sum(&closed, 0) + 50_000);
        for (scheme, width, name) in [
            ("light", 1280, "light"),
            ("dark", 1280, "dark"),
            ("light", 390, "narrow"),
            ("dark", 390, "narrow-dark"),
        ] {
            browser.look(width, scheme);
            let page = wait(&browser, "the page fits", |page| page["wide"] == false);
            let drawn = wait(&browser, "the chart is drawn again", |now| now["chart"] != page["chart"]);
            assert_eq!(drawn["lost"], false, "{drawn}");
            let picture = browser.picture();
            std::fs::write(pictures().join(format!("{name}.png")), &picture.png).unwrap();
            check_not_blank(&picture, scheme);
        }
        assert_eq!(browser.log(), Vec::<String>::new(), "the browser's console is empty");

        let (port, sent_before) =
            (demo.port, sum(&wait(&browser, "still live", |page| page["lost"] == false), 0));
        drop(demo);
        let gone = wait(&browser, "the page says that Weir is gone", |page| page["lost"] == true);
        assert!(gone["notice"].as_str().unwrap().contains("Weir does not answer"), "{}", gone["notice"]);
        assert_eq!(gone["title"], "No answer · Weir");
        std::fs::write(pictures().join("gone.png"), browser.picture().png).unwrap();
        let again = Demo::start(port);
        let back = wait(&browser, "the page recovers by itself", |page| {
            page["lost"] == false && page["state"] == "Capturing" && (1..sent_before).contains(&sum(page, 0))
        });
        assert_eq!(back["title"], "Capturing · Weir");
        drop(again);
    }

    /// A picture of text and charts has many bytes, and the brightness of its scheme.
    #[track_caller]
    fn check_not_blank(picture: &Picture, scheme: &str) {
        let (mean, colours) = (picture.mean_brightness, picture.colours);
        assert!(colours > 30, "{scheme}: {colours} colours");
        assert_eq!(mean > 128.0, scheme == "light", "{scheme}: mean brightness {mean}");
    }
}
