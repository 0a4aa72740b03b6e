//! Real Apache Kafka behind locks: listeners with TLS, with SASL PLAIN, and with SCRAM-SHA-512 over TLS; and rights.

use super::kafka::{self, VERSION};
use super::maven::report;
use super::process::{Process, free_port};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The user that may do everything, by PLAIN and by SCRAM-SHA-512.
pub const USER: &str = "weir";

/// A user that may do nothing but what it is allowed (see `kafka_tool::allow`), by PLAIN.
pub const GUEST: &str = "guest";

/// The password of both.
pub const PASSWORD: &str = "right-and-secret";

/// A running broker.
#[derive(Debug)]
pub struct KafkaSecured {
    _process: Process,
    folder: TempDir,
    open: u16,
    tls: u16,
    sasl: u16,
    sasl_tls: u16,
}

impl KafkaSecured {
    /// Makes a certificate and a user, and starts a broker.
    ///
    /// # Panics
    /// When it does not get ready; with the end of its log.
    #[must_use]
    pub fn start() -> Self {
        let class_path = kafka::jars();
        let folder =
            tempfile::Builder::new().prefix("weir-kafka-secured-").tempdir().expect("a temporary folder");
        certificate(folder.path());
        let [open, tls, sasl, sasl_tls, controller] = std::array::from_fn(|_| free_port());
        let listeners = format!(
            "OPEN://127.0.0.1:{open},TLS://127.0.0.1:{tls},SASL://127.0.0.1:{sasl},\
             SASLTLS://127.0.0.1:{sasl_tls}"
        );
        let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required";
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required";
        let mut settings = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners={listeners},CONTROLLER://127.0.0.1:{controller}\nadvertised.listeners={listeners}\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=OPEN\n\
             listener.security.protocol.map=OPEN:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,SASL:SASL_PLAINTEXT,\
             SASLTLS:SASL_SSL\nsasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n\
             ssl.keystore.location={0}/broker.p12\nssl.keystore.type=PKCS12\nssl.keystore.password={PASSWORD}\n\
             log.dirs={0}/data\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
             auto.create.topics.enable=false\nlog.cleaner.dedupe.buffer.size=4194304\n\
             group.initial.rebalance.delay.ms=0\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS;User:{USER}\n",
            folder.path().display()
        );
        for listener in ["sasl", "sasltls"] {
            settings.push_str(&format!(
                "listener.name.{listener}.plain.sasl.jaas.config={plain} user_{USER}=\"{PASSWORD}\" user_{GUEST}=\"{PASSWORD}\";\n\
                 listener.name.{listener}.scram-sha-512.sasl.jaas.config={scram};\n"
            ));
        }
        let file = folder.path().join("server.properties");
        std::fs::write(&file, settings).expect("the folder is writable");
        let user = format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]");
        kafka::format(&class_path, &file, &["--add-scram", &user]);
        let process = kafka::launch(&class_path, &folder, 0, &[]);
        report(&format!("Apache Kafka {VERSION} with TLS and SASL"));
        Self { _process: process, folder, open, tls, sasl, sasl_tls }
    }

    /// Address without locks, for the fixture's own work.
    #[must_use]
    pub fn open(&self) -> String {
        format!("127.0.0.1:{}", self.open)
    }

    /// Address with TLS alone.
    #[must_use]
    pub fn tls(&self) -> String {
        format!("127.0.0.1:{}", self.tls)
    }

    /// Address with SASL and no TLS.
    #[must_use]
    pub fn sasl(&self) -> String {
        format!("127.0.0.1:{}", self.sasl)
    }

    /// Address with SASL over TLS.
    #[must_use]
    pub fn sasl_tls(&self) -> String {
        format!("127.0.0.1:{}", self.sasl_tls)
    }

    /// The certificate that clients must trust, PEM.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("broker.pem")
    }
}

/// A key pair for 127.0.0.1 in `broker.p12`, its self-signed certificate in `broker.pem`.
fn certificate(folder: &Path) {
    let store = folder.join("broker.p12").display().to_string();
    let pem = folder.join("broker.pem").display().to_string();
    let keytool = |words: &[&str]| {
        let output = Command::new("keytool")
            .args(words)
            .args(["-alias", "broker", "-keystore", &store, "-storetype", "PKCS12", "-storepass", PASSWORD])
            .output()
            .expect("a JDK is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    };
    keytool(&[
        "-genkeypair",
        "-keyalg",
        "EC",
        "-groupname",
        "secp256r1",
        "-dname",
        "CN=localhost",
        "-ext",
        "SAN=ip:127.0.0.1,dns:localhost",
        "-validity",
        "30",
    ]);
    keytool(&["-exportcert", "-rfc", "-file", &pem]);
}
