//! What the broker bounds. Sizes that clients notice are the defaults of `nats-server`.

/// The largest payload, headers included: the default of `nats-server`.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The longest line of an operation: the default of `nats-server`.
pub const CONTROL_LINE_BYTES_MAX: usize = 4096;
/// Bytes that wait to be written to one client. One that falls further behind is disconnected as a slow
/// consumer.
pub const OUT_BYTES_MAX: usize = 32 << 20;
/// Connections at a time; one more is refused.
pub const CLIENTS_MAX: usize = 4096;
/// Subscriptions of one client; one more is refused.
pub const SUBSCRIPTIONS_PER_CLIENT_MAX: usize = 65_536;
/// How long a client that is being disconnected has to take the last words.
pub const CLOSE_GRACE_MS: u64 = 1_000;
/// How long to wait after a failed accept (for instance: no file descriptors left) before the next.
pub const ACCEPT_RETRY_MS: u64 = 100;

const _: () = assert!(
    PAYLOAD_BYTES_MAX + CONTROL_LINE_BYTES_MAX < OUT_BYTES_MAX,
    "the largest message fits an empty outbox"
);
