//! What `weir peer add` has to do, decided before anything is done; and how it stands afterwards, read back.

use super::add::{cluster_key, sends};
use super::shell;
use super::verdict::{self, Asked, Obstacle};
use crate::cli::say;
use crate::config::Capture;
use crate::exit::Exit;
use weir_apps::capture::Settings;
use weir_hbase::master::Master;
use weir_hbase::peers::Peer;
use weir_hbase::zookeeper;
use weir_model::{Fault, FaultKind};
use weir_wire::hbase::cluster_key::ClusterKey;
use weir_wire::hbase::peer_config::{self, PeerConfig, Wish};
use weir_wire::hbase::schema::Schema;

/// What has to be done, decided before anything is.
pub(super) struct Plan {
    pub(super) peer: PeerStep,
    pub(super) scopes: Vec<ScopeStep>,
}

pub(super) enum PeerStep {
    Right,
    Add(Vec<u8>),
    Update(Vec<u8>),
}

/// A table with its new descriptor.
pub(super) struct ScopeStep {
    /// Families that were named; none means all.
    pub(super) wanted: Vec<String>,
    /// Those of them that are not replicated yet.
    pub(super) families: Vec<String>,
    pub(super) schema: Schema,
}

/// How peer and tables stand after what was done, or would stand after what is told to be done.
pub(super) struct Stand {
    of_peer: Vec<Obstacle>,
    /// For each scope step.
    of_tables: Vec<Vec<Obstacle>>,
    /// Settings of a peer that was there, and had them otherwise.
    changed_settings: Vec<String>,
}

/// A region server makes the configuration of a peer when it first sees the peer, and keeps it (`ReplicationPeerImpl`
/// of 2.6.4, seen: after `update_peer_config` the old codec goes on, also over a change of the filter).
fn used_after_restart(names: &[String]) -> String {
    format!(
        "running region servers go on with the old CONFIG of the peer ({}); fix: restart the region servers, one after the other",
        names.join(", ")
    )
}

impl Stand {
    pub(super) fn look(
        capture: (&str, &Settings),
        peer: &Peer,
        schemas: &[Schema],
        plan: &Plan,
        wish: &Wish,
        before: Option<&PeerConfig>,
    ) -> Self {
        let (id, config) = (peer.id.as_str(), &peer.config);
        let of_table = |step: &ScopeStep| {
            let table = &step.schema.table;
            let schema = schemas.iter().find(|schema| schema.table == *table);
            verdict::of_table(id, config, capture, &Asked { schema, table, families: &step.wanted })
        };
        Self {
            of_peer: verdict::of_peer(id, config, peer.is_enabled, wish),
            of_tables: plan.scopes.iter().map(of_table).collect(),
            changed_settings: before.map(|before| changed(before, wish)).unwrap_or_default(),
        }
    }

    fn is_well(&self) -> bool {
        self.of_peer.is_empty() && self.of_tables.iter().all(Vec::is_empty)
    }

    /// Says what was done, and only of a table that nothing keeps that it is replicated.
    pub(super) fn say(&self, id: &str, plan: &Plan) -> Exit {
        match &plan.peer {
            PeerStep::Right if self.of_peer.is_empty() => say(&format!("peer {id} is there and right")),
            PeerStep::Right => say(&format!("peer {id} is there and was not changed")),
            PeerStep::Add(_) => say(&format!("peer {id} is added; every region server has taken it up")),
            PeerStep::Update(_) => say(&format!("peer {id} is changed; every region server has taken it up")),
        }
        if !self.changed_settings.is_empty() {
            eprintln!("weir: {}", used_after_restart(&self.changed_settings));
        }
        for (ScopeStep { families, schema, .. }, obstacles) in plan.scopes.iter().zip(&self.of_tables) {
            let (table, is_well) = (&schema.table, self.of_peer.is_empty() && obstacles.is_empty());
            match (families.is_empty(), is_well) {
                (true, true) => say(&format!("{table} is replicated already")),
                (false, true) => say(&format!("{table} is replicated now: {}", families.join(", "))),
                (true, false) => say(&format!("{table}: REPLICATION_SCOPE is not changed")),
                (false, false) => say(&format!("{table}: REPLICATION_SCOPE is set: {}", families.join(", "))),
            }
        }
        self.say_obstacles()
    }

    pub(super) fn say_obstacles(&self) -> Exit {
        for Obstacle { what, fix } in self.of_peer.iter().chain(self.of_tables.iter().flatten()) {
            eprintln!("weir: {what}; fix: {fix}");
        }
        if self.is_well() { Exit::Done } else { Exit::Found }
    }
}

/// Names of settings that the wish changes.
fn changed(before: &PeerConfig, wish: &Wish) -> Vec<String> {
    let is_other = |(name, value): &&(String, String)| before.setting(name).unwrap_or_default() != value;
    wish.settings.iter().filter(is_other).map(|(name, _)| name.clone()).collect()
}

fn corrupt(id: &str) -> impl FnOnce(weir_wire::WireError) -> Fault {
    move |error| {
        Fault::new(FaultKind::Corrupt, zookeeper::ANSWER, "read a replication peer", id).caused_by(error)
    }
}

/// What the peer needs; an error when the id is taken by a peer that points elsewhere.
pub(super) fn peer_step(section: &Capture, peer: Option<&Peer>, wish: &Wish) -> Result<PeerStep, Fault> {
    let Some(peer) = peer else {
        return Ok(PeerStep::Add(peer_config::fulfil(&[], wish).map_err(corrupt(&section.peer))?));
    };
    let (id, key) = (&peer.id, cluster_key(section));
    if !ClusterKey::parse(&peer.config.cluster_key).is_some_and(|now| now.is_same_place(&key)) {
        let cause = format!(
            "it points to {:?}, not to \"{key}\"\n      fix: if nobody needs it, `weir peer remove` (what it has not \
             shipped is gone) and `weir peer add`; else choose another id with capture.NAME.peer",
            peer.config.cluster_key
        );
        return Err(
            Fault::new(FaultKind::Config, "W-PEER-ELSEWHERE", "use the peer", id.clone()).caused_by(cause)
        );
    }
    // Another spelling of the same place stays: HBase refuses a change of the key.
    let wish = Wish { cluster_key: String::new(), ..wish.clone() };
    let after = peer_config::fulfil(&peer.raw, &wish).map_err(corrupt(&peer.id))?;
    Ok(if after == peer.raw { PeerStep::Right } else { PeerStep::Update(after) })
}

/// HBase 1.x: the master has no such calls for peers, and answers an alter before it is through.
pub(super) fn by_shell(id: &str, plan: &Plan, peer: Option<&Peer>, wish: &Wish, stand: &Stand) -> Exit {
    let mut lines = match peer {
        None => vec![shell::add_peer(id, wish)],
        Some(peer) => shell::update_peer(id, &peer.config, wish),
    };
    let scopes = plan.scopes.iter().filter(|step| !step.families.is_empty());
    lines.extend(scopes.map(|step| shell::alter(step.schema.table.as_str(), &step.families)));
    if lines.is_empty() {
        if stand.is_well() {
            say(&format!("peer {id} is right, and so are the scopes"));
        }
        return stand.say_obstacles();
    }
    eprintln!(
        "weir: this is HBase 1.x, where peers and scopes are its shell's job. Run these lines there, in this order; \
         between the first and the next wait for `weir peer status --wait`:"
    );
    lines.iter().for_each(|line| say(line));
    stand.say_obstacles();
    Exit::Found
}

impl Plan {
    /// Does it, peer first.
    pub(super) async fn carry_out(&self, master: &mut Master, id: &str) -> Result<(), Fault> {
        match &self.peer {
            PeerStep::Right => {}
            PeerStep::Add(config) => {
                master.add_peer(id, config).await?;
            }
            PeerStep::Update(config) => {
                master.update_peer(id, config).await?;
            }
        }
        for step in self.scopes.iter().filter(|step| !step.families.is_empty()) {
            master.modify_table(&step.schema).await?;
        }
        Ok(())
    }

    /// The peer as it will be.
    pub(super) fn peer_after(&self, id: &str, now: Option<&Peer>) -> Result<Peer, Fault> {
        let raw = match (&self.peer, now) {
            (PeerStep::Add(raw) | PeerStep::Update(raw), _) => raw.clone(),
            (PeerStep::Right, now) => now.map(|peer| peer.raw.clone()).unwrap_or_default(),
        };
        let config = PeerConfig::parse(&raw).map_err(corrupt(id))?;
        Ok(Peer { id: id.to_owned(), config, raw, is_enabled: now.is_none_or(|peer| peer.is_enabled) })
    }

    pub(super) fn show(&self, id: &str, wish: &Wish) {
        let words: Vec<String> =
            wish.settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        match &self.peer {
            PeerStep::Right => say(&format!("would not change peer {id}")),
            PeerStep::Add(_) => {
                say(&format!("would add peer {id} to {} with {}", wish.cluster_key, words.join(", ")));
            }
            PeerStep::Update(_) => say(&format!("would change peer {id}: {}", words.join(", "))),
        }
        if let Some(filter) = &wish.filter {
            say(&format!("    which is sent {}", sends(filter)));
        }
        if wish.is_serial == Some(true) {
            say("    in strict order per region");
        }
        for ScopeStep { families, schema, .. } in &self.scopes {
            match families.as_slice() {
                [] => say(&format!("would not change {}: its REPLICATION_SCOPE is 1", schema.table)),
                families => say(&format!("would run: {}", shell::alter(schema.table.as_str(), families))),
            }
        }
    }
}
