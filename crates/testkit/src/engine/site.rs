//! Configuration files of the Hadoop family: `*-site.xml` and both generations of log4j.

use std::fmt::Write as _;
use std::path::Path;

const LOG4J: &str = "log4j.rootLogger=INFO,console\nlog4j.appender.console=org.apache.log4j.ConsoleAppender\n\
log4j.appender.console.layout=org.apache.log4j.PatternLayout\nlog4j.appender.console.layout.ConversionPattern=%d %p %c{1} %m%n\n";

const LOG4J2: &str = "status=warn\nappender.console.type=Console\nappender.console.name=console\n\
appender.console.layout.type=PatternLayout\nappender.console.layout.pattern=%d %p %c{1} %m%n\n\
rootLogger.level=info\nrootLogger.appenderRef.console.ref=console\n";

/// Writes properties as a file of that name into a conf folder; of equal names the last counts.
pub(super) fn write(conf: &Path, file: &str, settings: &[(&str, String)]) {
    std::fs::create_dir_all(conf).expect("the folder is writable");
    let mut site = String::from("<configuration>\n");
    for (name, value) in settings {
        let _ = writeln!(site, "<property><name>{name}</name><value>{value}</value></property>");
    }
    site.push_str("</configuration>\n");
    std::fs::write(conf.join(file), site).expect("the folder is writable");
}

/// Writes log4j's configuration to the console, in the form of every line.
pub(super) fn write_logging(conf: &Path) {
    for (name, text) in [("log4j.properties", LOG4J), ("log4j2.properties", LOG4J2)] {
        std::fs::write(conf.join(name), text).expect("the folder is writable");
    }
}
