//! Limits of the broker. Those that clients notice are the defaults of `nats-server`.

/// The largest payload, including headers.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The longest line of an operation.
pub const CONTROL_LINE_BYTES_MAX: usize = 4096;
/// Bytes queued for one client; beyond that it is disconnected as a slow consumer.
pub const OUT_BYTES_MAX: usize = 32 << 20;
/// Simultaneous connections; further ones are refused.
pub const CLIENTS_MAX: usize = 4096;
/// Further ones are refused.
pub const SUBSCRIPTIONS_PER_CLIENT_MAX: usize = 65_536;
/// How long a client that is being disconnected may take to read the final error.
pub const CLOSE_GRACE_MS: u64 = 1_000;
/// The pause after a failed accept, for instance when no file descriptors are left.
pub const ACCEPT_RETRY_MS: u64 = 100;

const _: () = assert!(
    PAYLOAD_BYTES_MAX + CONTROL_LINE_BYTES_MAX < OUT_BYTES_MAX,
    "the largest message fits an empty outbox"
);
