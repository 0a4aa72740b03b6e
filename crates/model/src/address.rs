//! Network addresses as people write them.

/// Writes `host:port`; an IPv6 address in brackets, without which its own colons hide the port's.
#[must_use]
pub fn join(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_is_written_in_brackets() {
        for (host, expect) in [
            ("::1", "[::1]:16121"),
            ("[::1]", "[::1]:16121"),
            ("127.0.0.1", "127.0.0.1:16121"),
            ("a.b", "a.b:16121"),
        ] {
            assert_eq!(join(host, 16121), expect);
        }
    }
}
