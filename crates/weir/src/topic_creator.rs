//! Creates the topics of tables that are seen for the first time, when the configuration says so.

use crate::captured;
use crate::config::Config;
use crate::diagnosis::names;
use crate::topics::further_settings;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use weir_kafka::topics::{NewSettings, Topics};
use weir_model::{Fault, FaultKind, TopicName};

/// How long a refusal is remembered: the calls that wait behind it need not ask the brokers each time.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// How long a topic may be unknown to a broker after its creation. Past it, a missing topic is a fault again.
const CREATION_WAIT: Duration = Duration::from_secs(30);

/// A refusal and when it was.
type Refused = (Instant, FaultKind, &'static str, String);

/// Creates missing topics.
pub struct TopicCreator {
    topics: Arc<Topics>,
    settings: NewSettings,
    further: Vec<(&'static str, String)>,
    config: Config,
    refused: Mutex<HashMap<TopicName, Refused>>,
    /// When each topic was first found to exist by its creation.
    created: Mutex<HashMap<TopicName, Instant>>,
}

impl TopicCreator {
    /// A creator as configured; `None` when missing topics are a fault.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub fn new(config: &Config) -> Result<Option<Arc<Self>>, Fault> {
        let log = &config.log;
        if !log.topics.create {
            return Ok(None);
        }
        let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let settings = NewSettings {
            partitions: count(log.topics.partitions),
            replication: count(log.topics.replication),
            min_insync_replicas: log.topics.min_insync_replicas,
            retention_ms: log.topics.retention.as_ms(),
        };
        let topics = Arc::new(Topics::new(&log.bootstrap.join(","), &log.read_properties()?)?);
        let (further, config) = (further_settings(config), config.clone());
        let (refused, created) = (Mutex::default(), Mutex::default());
        Ok(Some(Arc::new(Self { topics, settings, further, config, refused, created })))
    }

    /// Creates what is missing among these; the call that needed them comes again anyway. Returns whether all of them
    /// were created so lately that brokers may not know them yet.
    ///
    /// # Errors
    /// The first refusal, with the brokers' own words; the others are tried all the same.
    pub async fn create(&self, names: &[TopicName]) -> Result<bool, Fault> {
        let (mut first, mut are_new) = (Ok(()), true);
        for name in names {
            let fault = match self.refused_lately(name) {
                Some(fault) => fault,
                None => match self.topics.create_with(name, &self.settings, &self.further).await {
                    Ok(()) => {
                        are_new &= self.is_new(name);
                        continue;
                    }
                    Err(fault) => self.remember(name, fault).await,
                },
            };
            first = first.and(Err(fault));
        }
        first.map(|()| are_new)
    }

    /// Notes that a topic exists. Whether that was found only lately.
    fn is_new(&self, name: &TopicName) -> bool {
        let mut created = self.created.lock().expect("no panic under this lock");
        let first = created.entry(name.clone()).or_insert_with(|| {
            tracing::info!(topic = %name, "the topic exists now");
            Instant::now()
        });
        first.elapsed() < CREATION_WAIT
    }

    fn refused_lately(&self, name: &TopicName) -> Option<Fault> {
        let refused = self.refused.lock().expect("no panic under this lock");
        let (_, kind, code, text) = refused.get(name).filter(|(at, ..)| at.elapsed() < REFUSED_FOR)?;
        Some(Fault::new(*kind, code, "create a topic", name.as_str()).caused_by(text.clone()))
    }

    /// Notes a refusal, with what is known of its reason here.
    async fn remember(&self, name: &TopicName, fault: Fault) -> Fault {
        let cause = fault.cause().map(ToString::to_string).unwrap_or_default();
        let text = match fault.kind() {
            FaultKind::Config => {
                self.collision(name).await.map_or(cause.clone(), |why| format!("{cause}; {why}"))
            }
            _ => cause,
        };
        let (kind, code) = (fault.kind(), fault.code());
        let mut refused = self.refused.lock().expect("no panic under this lock");
        refused.retain(|_, (at, ..)| at.elapsed() < REFUSED_FOR);
        refused.insert(name.clone(), (Instant::now(), kind, code, text.clone()));
        Fault::new(kind, code, "create a topic", name.as_str()).caused_by(text)
    }

    /// The tables that cannot both have their topics, and the setting that parts them.
    async fn collision(&self, name: &TopicName) -> Option<String> {
        let topics = Arc::clone(&self.topics);
        let listed = tokio::task::spawn_blocking(move || topics.list()).await.ok()?.ok()?;
        let existing: Vec<String> = listed.into_iter().map(|topic| topic.name).collect();
        let captures = captured::all(&self.config).ok()?;
        let other = existing.iter().map(String::as_str).filter(|other| names::collide(name.as_str(), other));
        let concerned: Vec<_> = std::iter::once(name.as_str())
            .chain(other)
            .flat_map(|topic| captured::of_topic(&captures, topic))
            .collect();
        let places: Vec<_> = concerned.iter().map(|(capture, table)| capture.place(table)).collect();
        let finding = names::collisions(&places, &existing).into_iter().next()?;
        Some(format!("{}; fix: {}", finding.what, finding.fix))
    }
}
