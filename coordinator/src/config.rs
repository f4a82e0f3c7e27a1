//! The configuration of a coordinator, and its validation.

use muster_protocol::ids::RaftId;
use muster_protocol::limits::NAME_BYTES_MAX;
use muster_protocol::subjects;
use muster_replica::MemberConfig;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

/// More members would make every commit slower and no cluster safer.
pub const MEMBERS_MAX: usize = 9;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The cluster's name is part of NATS subjects.
    #[error("use {0:?} as the cluster's name: 1 to 64 of a-z, 0-9 and '-' are allowed")]
    Cluster(String),
    #[error(
        "use {0:?} as a member's name: 1 to {NAME_BYTES_MAX} of letters, digits, '-', '_' and '.' are allowed"
    )]
    Name(String),
    /// A name or an address occurs twice.
    #[error("tell members apart: {0:?} occurs twice in the list of members")]
    Repeated(String),
    #[error("find {name:?} among the members, which are {members}")]
    NotAMember { name: String, members: String },
    /// An even number of members survives no more failures than one less.
    #[error("run {0} members: one, or an odd number up to {MEMBERS_MAX}")]
    Count(usize),
    #[error("read the member {0:?}: the format is NAME=PEER/HTTP, as in c1=10.0.0.1:7501/10.0.0.1:7401")]
    Member(String),
    #[error("use {0:?} as an address: the format is HOST:PORT")]
    Address(String),
}

/// Parses a list of members: `c1=10.0.0.1:7501/10.0.0.1:7401,c2=…`. Raft ids are positions, from 1.
///
/// # Errors
/// If an entry is malformed.
pub fn members(text: &str) -> Result<Vec<MemberConfig>, ConfigError> {
    let members = text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).zip(1..);
    members.map(|(entry, number)| member(entry, RaftId(number))).collect()
}

fn member(entry: &str, raft_id: RaftId) -> Result<MemberConfig, ConfigError> {
    let wrong = || ConfigError::Member(entry.to_string());
    let (name, addresses) = entry.split_once('=').ok_or_else(wrong)?;
    let (peer, http) = addresses.split_once('/').ok_or_else(wrong)?;
    Ok(MemberConfig { raft_id, name: name.to_string(), peer: peer.to_string(), http: http.to_string() })
}

#[derive(Clone, Debug)]
pub struct Config {
    /// One of the members' names.
    pub name: String,
    pub cluster: String,
    /// Its data directory.
    pub data: PathBuf,
    /// Listens here for clients.
    pub http: SocketAddr,
    /// Listens here for the other coordinators.
    pub peer: SocketAddr,
    /// All coordinators, including itself; the same list in the same order everywhere.
    pub members: Vec<MemberConfig>,
    /// The brokers, `nats://host:port`, separated by commas.
    pub nats: String,
}

impl Config {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// The first one that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !subjects::is_cluster_name(&self.cluster) {
            return Err(ConfigError::Cluster(self.cluster.clone()));
        }
        let count = self.members.len();
        if count == 0 || count > MEMBERS_MAX || count.is_multiple_of(2) {
            return Err(ConfigError::Count(count));
        }
        let mut seen = BTreeSet::new();
        for member in &self.members {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if member.name.is_empty() || member.name.len() > NAME_BYTES_MAX || !member.name.chars().all(fits)
            {
                return Err(ConfigError::Name(member.name.clone()));
            }
            for address in [&member.peer, &member.http] {
                let port = address
                    .rsplit_once(':')
                    .filter(|(host, _)| !host.is_empty())
                    .map(|(_, port)| port.parse::<u16>());
                if !matches!(port, Some(Ok(1..))) {
                    return Err(ConfigError::Address(address.clone()));
                }
            }
            if let Some(twice) =
                [&member.name, &member.peer, &member.http].into_iter().find(|text| !seen.insert(*text))
            {
                return Err(ConfigError::Repeated(twice.clone()));
            }
        }
        self.me().map(|_| ())
    }

    /// This coordinator's entry in the list of members.
    ///
    /// # Errors
    /// If there is none.
    pub fn me(&self) -> Result<&MemberConfig, ConfigError> {
        let names = || self.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(", ");
        let me = self.members.iter().find(|member| member.name == self.name);
        me.ok_or_else(|| ConfigError::NotAMember { name: self.name.clone(), members: names() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, members: &str) -> Config {
        let members = super::members(members).unwrap();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Config {
            name: name.into(),
            cluster: "test".into(),
            data: "data".into(),
            http: loopback,
            peer: loopback,
            members,
            nats: "nats://127.0.0.1:4222".into(),
        }
    }

    #[test]
    fn raft_ids_are_positions() {
        let members = super::members("c1=h:1/h:2, c2=h:3/h:4,c3=[::1]:5/[::1]:6").unwrap();
        assert_eq!(members.iter().map(|member| member.raft_id.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(members[2].http, "[::1]:6");
        for wrong in ["c1", "c1=h:1", "=,"] {
            assert!(super::members(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_settings_are_refused_with_a_reason() {
        let three = "c1=h:1/h:2,c2=h:3/h:4,c3=h:5/h:6";
        let table: [(&str, &str, &str); 7] = [
            ("c1", three, ""),
            ("c4", three, "find \"c4\" among the members, which are c1, c2, c3"),
            ("c1", "c1=h:1/h:2,c2=h:3/h:4", "run 2 members: one, or an odd number up to 9"),
            (
                "c1",
                "c1=h:1/h:2,c2=h:3/h:4,c1=h:5/h:6",
                "tell members apart: \"c1\" occurs twice in the list of members",
            ),
            (
                "c1",
                "c1=h:1/h:2,c2=h:1/h:4,c3=h:5/h:6",
                "tell members apart: \"h:1\" occurs twice in the list of members",
            ),
            ("c1", "c1=h:0/h:2", "use \"h:0\" as an address: the format is HOST:PORT"),
            (
                "c/1",
                "c/1=h:1/h:2",
                "use \"c/1\" as a member's name: 1 to 128 of letters, digits, '-', '_' and '.' are allowed",
            ),
        ];
        for (name, members, expected) in table {
            let found =
                config(name, members).validate().err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(found, expected, "{members}");
        }
        let other = Config { cluster: "Prod".into(), ..config("c1", three) };
        assert!(matches!(other.validate(), Err(ConfigError::Cluster(_))));
    }
}
