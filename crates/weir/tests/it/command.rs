//! The command line: help that teaches, errors that mend, exit codes that scripts can trust.

use std::process::Command;

/// Runs the binary in an empty folder; exit code, standard output, standard error.
fn weir(words: &[&str], config: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    if !config.is_empty() {
        std::fs::write(folder.path().join("weir.toml"), config).unwrap();
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_weir")).args(words).current_dir(folder.path()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_says_where_to_start() {
    let (code, out, _) = weir(&["--help"], "");
    assert_eq!(code, Some(0));
    for words in ["weir demo", "weir config sample", "weir log tail", "Exit codes"] {
        assert!(out.contains(words), "{words:?} is not in\n{out}");
    }
}

#[test]
fn wrong_usage_ends_with_2_and_a_missing_configuration_with_3() {
    assert_eq!(weir(&["no-such-command"], "").0, Some(2));
    assert_eq!(weir(&["demo", "--rate", "0"], "").0, Some(2));
    let (code, _, error) = weir(&["run"], "");
    assert_eq!(code, Some(3));
    assert!(error.contains("weir.toml") && error.contains("weir explain W-CONFIG"), "{error}");
}

#[test]
fn a_wrong_key_is_named_with_its_line_and_the_right_one() {
    let (code, _, error) = weir(&["run"], "[log]\nbootstap = [\"b:9092\"]\n");
    assert_eq!(code, Some(3));
    assert!(error.contains("line 2") && error.contains("did you mean `bootstrap`?"), "{error}");
}

#[test]
fn an_unreachable_zookeeper_ends_with_5() {
    let port = weir_testkit::engine::process::free_port();
    let config = format!("[capture.main]\nzookeeper = \"127.0.0.1:{port}\"\nlisten = \"127.0.0.1:0\"\n");
    let (code, _, error) = weir(&["run"], &config);
    assert_eq!(code, Some(5), "{error}");
    assert!(error.contains("W-ZOOKEEPER-UNREACHABLE") && error.contains(&port.to_string()), "{error}");
}

#[test]
fn a_fault_code_has_a_page() {
    let (code, out, _) = weir(&["explain", "w-config"], "");
    assert!(code == Some(0) && out.starts_with("# W-CONFIG"), "{out}");
    assert_eq!(weir(&["explain", "W-NO-SUCH"], "").0, Some(2));
}

#[test]
fn a_manual_is_found_by_part_of_a_name() {
    let (code, out, _) = weir(&["config", "explain", "zookeeper"], "");
    assert!(code == Some(0) && out.starts_with("capture.main.zookeeper = "), "{out}");
    let (code, _, error) = weir(&["config", "explain", "log.botstrap"], "");
    assert!(code == Some(2) && error.contains("did you mean log.bootstrap?"), "{error}");
    let (code, out, _) = weir(&["config", "explain"], "");
    assert!(code == Some(0) && out.lines().next().unwrap().starts_with("log.bootstrap  "), "{out}");
    let (code, out, _) = weir(&["explain", "kafka"], "");
    assert!(code == Some(0) && out.lines().count() > 3 && out.contains("W-KAFKA-TOPIC"), "{out}");
    assert!(weir(&["explain", "listen"], "").1.starts_with("# W-LISTEN"));
}

#[test]
fn what_is_no_record_is_not_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record");
    let path = file.to_str().unwrap();
    for (bytes, words, expect) in [
        (&b""[..], vec!["log", "decode", path], (6, "it names no table")),
        (b"abc", vec!["log", "decode", path], (6, "W-CAPTURE-CORRUPT")),
        (b"0g", vec!["log", "decode", "--hex", path], (3, "that is no hex")),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let (code, _, error) = weir(&words, "");
        assert!(code == Some(expect.0) && error.contains(expect.1), "{error}");
    }
}

#[test]
fn the_demonstration_loses_nothing() {
    let (code, out, error) =
        weir(&["demo", "--headless", "--seconds", "4", "--rate", "0.1", "--seed", "3"], "");
    assert_eq!(code, Some(0), "{out}{error}");
    let outcome: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let sent = outcome["sent"].as_u64().unwrap();
    assert!(sent > 50_000, "{out}");
    assert_eq!((outcome["in_log"].as_u64(), outcome["counted"].as_u64()), (Some(sent), Some(sent)));
    assert_eq!(outcome["lost"], 0);
    assert!(outcome["p99_ms"].as_f64().unwrap() > 0.0, "{out}");
}

#[test]
fn a_console_address_in_use_is_named_with_the_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, out, error) = weir(&["demo", "--listen", &address], "");
    assert_eq!((code, out.as_str()), (Some(3), ""), "{error}");
    assert!(error.contains("W-LISTEN") && error.contains(&address), "{error}");
    assert!(weir(&["explain", "W-LISTEN"], "").1.contains("weir demo --listen 127.0.0.1:0"));
}

#[test]
fn an_interrupted_demonstration_ends_with_its_account() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("demo.log");
    let words = ["demo", "--rate", "0.05", "--listen", "127.0.0.1:0"].map(str::to_owned);
    let mut demo =
        weir_testkit::engine::process::Process::start("weir", env!("CARGO_BIN_EXE_weir"), &words, &log);
    demo.wait_for("Ctrl-C");
    assert_eq!(demo.stop(std::time::Duration::from_secs(15)), Some(0));
    let said = std::fs::read_to_string(&log).unwrap();
    let account = said.lines().last().unwrap();
    assert!(account.starts_with("sent ") && account.contains("lost 0, duplicates 0"), "{said}");
    assert!(said.contains("open      http://127.0.0.1:"), "{said}");
}
