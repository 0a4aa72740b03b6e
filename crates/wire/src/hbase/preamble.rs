//! The first six bytes of a connection (`HConstants.RPC_HEADER`, `ServerRpcConnection.processPreamble`).

use super::call::RemoteException;

/// Bytes of a preamble.
pub const LEN: usize = 6;

/// What the other side wants to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preamble {
    /// `HBas` 00 and an authentication method.
    Rpc(AuthMethod),
    /// `Regist`: a 3.0 client asks for the cluster id (HBASE-28321).
    Registry,
    /// `Securi`: a client asks which server principal to use.
    Security,
}

/// Authentication method (`AuthMethod`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// 80: none.
    Simple,
    /// 81: Kerberos by GSSAPI.
    Kerberos,
    /// 82: delegation token by DIGEST-MD5.
    Digest,
}

impl AuthMethod {
    const fn byte(self) -> u8 {
        match self {
            Self::Simple => 80,
            Self::Kerberos => 81,
            Self::Digest => 82,
        }
    }
}

/// The preamble of a SIMPLE connection.
#[must_use]
pub const fn simple() -> [u8; LEN] {
    [b'H', b'B', b'a', b's', 0, AuthMethod::Simple.byte()]
}

/// Reads a preamble; the error is what a real 1.2.5 server answers before it closes.
///
/// # Errors
/// The exception of a fatal frame.
pub fn parse(bytes: [u8; LEN]) -> Result<Preamble, RemoteException> {
    match bytes {
        [b'H', b'B', b'a', b's', 0, 80] => Ok(Preamble::Rpc(AuthMethod::Simple)),
        [b'H', b'B', b'a', b's', 0, 81] => Ok(Preamble::Rpc(AuthMethod::Kerberos)),
        [b'H', b'B', b'a', b's', 0, 82] => Ok(Preamble::Rpc(AuthMethod::Digest)),
        [b'R', b'e', b'g', b'i', b's', b't'] => Ok(Preamble::Registry),
        [b'S', b'e', b'c', b'u', b'r', b'i'] => Ok(Preamble::Security),
        [b'H', b'B', b'a', b's', 0, auth] => Err(RemoteException::fatal(
            "org.apache.hadoop.hbase.ipc.BadAuthException",
            format!("serverVersion=0, clientVersion=0, authMethod={auth}, authSupported=false"),
        )),
        [b'H', b'B', b'a', b's', version, auth] => Err(RemoteException::fatal(
            "org.apache.hadoop.hbase.ipc.WrongVersionException",
            format!("serverVersion=0, clientVersion={version}, authMethod={auth}, authSupported=true"),
        )),
        [first, second, third, fourth, ..] => {
            let got = String::from_utf8_lossy(&[first, second, third, fourth]).escape_debug().to_string();
            Err(RemoteException::fatal(
                "org.apache.hadoop.hbase.ipc.FatalConnectionException",
                format!("Expected HEADER=HBas but received HEADER={got}"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_preambles_get_the_class_that_a_real_server_answers() {
        let class = |bytes: &[u8; 6]| parse(*bytes).unwrap_err().class;
        assert!(class(b"GET / ").ends_with("FatalConnectionException"));
        assert!(class(b"\x16\x03\x01\x02\x00\x01").ends_with("FatalConnectionException"));
        assert!(class(b"HBas\x01P").ends_with("WrongVersionException"));
        assert!(class(b"HBas\x00c").ends_with("BadAuthException"));
        assert_eq!(parse(simple()), Ok(Preamble::Rpc(AuthMethod::Simple)));
        assert_eq!(parse(*b"Regist"), Ok(Preamble::Registry));
    }
}
