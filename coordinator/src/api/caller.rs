//! The caller of a request, from its headers.

use super::error::ApiError;
use axum::http::HeaderMap;
use muster_protocol::command::Command;
use muster_protocol::envelope::Envelope;
use muster_protocol::ids::{LogIndex, RequestId};
use muster_protocol::limits::NAME_BYTES_MAX;

/// The request id, which makes a request safe to repeat.
pub const KEY: &str = "idempotency-key";
/// The name of who asks.
pub const ACTOR: &str = "x-muster-actor";
/// The W3C trace context.
pub const TRACE: &str = "traceparent";
/// The program that asks.
pub const CLIENT: &str = "user-agent";
/// The only namespace there is.
const NAMESPACE: &str = "default";
/// The actor of a request without one.
const ANONYMOUS: &str = "anonymous";
/// The length of a trace context of the first version.
const TRACE_BYTES: usize = 55;

/// A header as text; empty if it is missing or not ASCII.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    request: RequestId,
    actor: String,
    client: String,
    trace: String,
}

impl Caller {
    pub fn from_headers(headers: &HeaderMap) -> Result<Caller, ApiError> {
        let request = match headers.get(KEY) {
            None => RequestId(uuid::Uuid::now_v7().as_u128()),
            Some(key) => {
                let key = key
                    .to_str()
                    .ok()
                    .and_then(|key| key.parse::<RequestId>().ok())
                    .filter(|key| !key.is_nil());
                key.ok_or_else(|| {
                    ApiError::invalid("Idempotency-Key", "it must be a UUID, and a UUIDv7 by preference")
                })?
            }
        };
        let actor = match headers.get(ACTOR) {
            None => ANONYMOUS.to_string(),
            Some(actor) => {
                let actor = std::str::from_utf8(actor.as_bytes())
                    .ok()
                    .filter(|actor| !actor.is_empty() && actor.len() <= NAME_BYTES_MAX);
                let wrong = || {
                    ApiError::invalid(
                        "X-Muster-Actor",
                        format!("it must have 1 to {NAME_BYTES_MAX} bytes of UTF-8"),
                    )
                };
                actor.ok_or_else(wrong)?.to_string()
            }
        };
        let client = header(headers, CLIENT);
        let client = client.get(..NAME_BYTES_MAX.min(client.len())).unwrap_or_default().to_string();
        // The standard wants an invalid trace context to be ignored, so it is no reason to refuse a request.
        let trace = header(headers, TRACE);
        let fits =
            trace.len() == TRACE_BYTES && trace.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        let trace = if fits { trace.to_string() } else { String::new() };
        Ok(Caller { request, actor, client, trace })
    }

    /// The command with this caller's identity.
    pub fn envelope(self, command: Command) -> Envelope {
        Envelope {
            request: self.request,
            actor: self.actor,
            client: self.client,
            namespace: NAMESPACE.to_string(),
            trace: self.trace,
            cause: LogIndex(0),
            command,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_caller_is_read_from_headers() {
        let key = "01901234-5678-7abc-8def-0123456789ab";
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let caller =
            Caller::from_headers(&headers(&[(KEY, key), (ACTOR, "ada"), (TRACE, trace), (CLIENT, "curl/8")]))
                .unwrap();
        assert_eq!((caller.request.to_string().as_str(), caller.actor.as_str()), (key, "ada"));
        assert_eq!((caller.client.as_str(), caller.trace.as_str()), ("curl/8", trace));
        let drawn = Caller::from_headers(&headers(&[(TRACE, "nonsense")])).unwrap();
        assert!(!drawn.request.is_nil() && drawn.trace.is_empty() && drawn.actor == ANONYMOUS);
        for (name, value) in [
            (KEY, "1"),
            (KEY, "00000000-0000-0000-0000-000000000000"),
            (ACTOR, ""),
            (ACTOR, &"a".repeat(129)),
        ] {
            let error = Caller::from_headers(&headers(&[(name, value)])).unwrap_err();
            assert_eq!(
                (error.status.as_u16(), error.view.field.to_lowercase().as_str()),
                (400, name),
                "{value}"
            );
        }
    }
}
