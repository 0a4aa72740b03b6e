//! What a fault of ZooKeeper needs: the ensemble, a right, a login, or another setting.

use crate::config::Capture;
use weir_hbase::zookeeper::{DENIED, UNREACHABLE};
use weir_model::Fault;

/// The fix of a fault that a question at ZooKeeper ended with; `other` is the fix when ZooKeeper has answered and it is
/// no matter of rights. `key` is the key of the configuration that names the ensemble.
pub(super) fn fix(at: &str, section: &Capture, key: &str, fault: &Fault, other: &str) -> String {
    match fault.code() {
        DENIED => denied(at, section, fault.about()),
        UNREACHABLE => format!("start ZooKeeper; or set {at}.{key} to its quorum"),
        _ => other.to_owned(),
    }
}

/// Which entry the ACL of the znode needs, or which login this client.
fn denied(at: &str, section: &Capture, znode: &str) -> String {
    let who =
        if section.zookeeper_digest.is_some() { "the login of zookeeper-digest" } else { "world:anyone" };
    let base = section.base_znode();
    let is_base = base == znode || base.starts_with(&format!("{}/", znode.trim_end_matches('/')));
    let is_below = znode.starts_with(&format!("{base}/"));
    if !znode.starts_with('/') {
        return format!("set {at}.zookeeper-digest to a login that ZooKeeper takes");
    }
    let rights = if is_base || is_below { "cdrwa" } else { "r" };
    let login = format!("set {at}.zookeeper-digest to a login that has it");
    if is_base && base != znode {
        return format!(
            "give {who} the rights c and r of {znode} (zkCli.sh> getAcl {znode}, then setAcl with that entry added); or create {base} \
             with cdrwa for it; or {login}"
        );
    }
    format!(
        "give {who} the rights {rights} of {znode} and what is below it (zkCli.sh> getAcl {znode}, then setAcl -R with that \
         entry added); or {login}"
    )
}
