//! Services of a fake cluster beside replication: what sources of 3.0 ask a master (HBASE-28521, `Master.proto`).

use super::zk::ServerName;
use crate::cursor::{put_bytes_field, put_varint_field};
use weir_model::ClusterId;

/// Service of region servers that carries replication.
pub const ADMIN: &str = "AdminService";

/// Services that a fake cluster has.
pub const SERVICES: [&str; 3] = [ADMIN, "MasterService", "ClientMetaService"];

/// A message with the cluster id as its first field (`GetConnectionRegistryResponse`, `GetClusterIdResponse`).
#[must_use]
pub fn cluster_id(id: ClusterId) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes_field(&mut out, 1, id.to_string().as_bytes());
    out
}

/// Answers a question about the cluster; `None` when we do not have the method.
#[must_use]
pub fn answer(service: &str, method: &str, id: ClusterId, servers: &[ServerName]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match (service, method) {
        ("MasterService", "GetClusterStatus") => {
            let mut status = Vec::new();
            put_bytes_field(&mut status, 5, &cluster_id(id));
            for server in servers {
                put_bytes_field(&mut status, 11, &server.encode_message());
            }
            put_bytes_field(&mut out, 1, &status);
        }
        ("MasterService", "ListDecommissionedRegionServers") => {}
        ("MasterService", "IsMasterRunning") => put_varint_field(&mut out, 1, 1),
        ("ClientMetaService", "GetClusterId") => out = cluster_id(id),
        ("ClientMetaService", "GetActiveMaster") => {
            put_bytes_field(&mut out, 1, &servers.first()?.encode_message());
        }
        ("ClientMetaService", "GetBootstrapNodes") => {
            for server in servers {
                put_bytes_field(&mut out, 1, &server.encode_message());
            }
        }
        _ => return None,
    }
    Some(out)
}
