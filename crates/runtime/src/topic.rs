//! Names of topics, each kept once for the life of the process.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{LazyLock, Mutex, PoisonError};

static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);

/// The name of a topic. A copy costs nothing: threads that pass records on have no counter to fight for. The text stays
/// in memory until the process ends, which is little, because a process reads few topics.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(&'static str);

impl Topic {
    /// The topic of this name. Takes a lock: once for a partition, and not for each record.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(name) {
            return Self(known);
        }
        let name: &'static str = Box::leak(name.into());
        names.insert(name);
        Self(name)
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl From<&str> for Topic {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl Deref for Topic {
    type Target = str;

    fn deref(&self) -> &str {
        self.0
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        self.0
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        self.0
    }
}

impl PartialEq<str> for Topic {
    fn eq(&self, name: &str) -> bool {
        self.0 == name
    }
}

impl PartialEq<&str> for Topic {
    fn eq(&self, name: &&str) -> bool {
        self.0 == *name
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, out)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    #[test]
    fn a_name_is_kept_once() {
        let (one, again) = (Topic::new("orders"), Topic::new(&String::from("orders")));
        assert!(ptr::eq(one.as_str(), again.as_str()));
        assert_eq!((one, &*one, one.to_string()), (again, "orders", "orders".to_owned()));
        assert_ne!(one, Topic::new("orders-dead"));
    }
}
