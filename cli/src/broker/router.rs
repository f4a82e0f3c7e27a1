//! Subscriptions and delivery. One mutex orders all of it, so that each subscriber gets a publisher's
//! messages in the order in which they were published.

use super::limits::SUBSCRIPTIONS_PER_CLIENT_MAX;
use super::outbox::Outbox;
use super::parser::{ConnectOptions, Publication};
use super::subject;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The answer to a request that nobody is subscribed to.
const NO_RESPONDERS: &[u8] = b"NATS/1.0 503\r\n\r\n";

/// The patterns of a client's subscriptions, by subscription id.
type Patterns = HashMap<Box<[u8]>, Box<[u8]>>;

/// A client as publishers see it.
#[derive(Debug, Default)]
pub struct ClientState {
    /// Unique per connection.
    pub id: u64,
    pub outbox: Outbox,
    options: Mutex<ConnectOptions>,
    /// Lock only while holding the router's lock.
    patterns: Mutex<Patterns>,
}

impl ClientState {
    pub fn new(id: u64) -> ClientState {
        ClientState { id, ..ClientState::default() }
    }

    pub fn options(&self) -> ConnectOptions {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_options(&self, options: ConnectOptions) {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = options;
    }
}

impl ClientState {
    fn patterns(&self) -> MutexGuard<'_, Patterns> {
        self.patterns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub struct Router {
    routes: Mutex<Subscriptions>,
}

#[derive(Debug, Default)]
struct Subscriptions {
    /// Patterns without a wildcard; looked up, never iterated.
    exact: HashMap<Box<[u8]>, Vec<Subscription>>,
    /// Patterns with a wildcard; tried one after the other.
    wild: Vec<Subscription>,
    /// Rotates among the members of a queue group.
    turn: usize,
}

#[derive(Debug)]
struct Subscription {
    client: Arc<ClientState>,
    sid: Box<[u8]>,
    pattern: Box<[u8]>,
    queue: Option<Box<[u8]>>,
    delivered: u64,
    deliveries_max: Option<u64>,
}

impl Subscription {
    fn is(&self, client: u64, sid: &[u8]) -> bool {
        self.client.id == client && *self.sid == *sid
    }

    fn is_exhausted(&self) -> bool {
        self.deliveries_max.is_some_and(|max| self.delivered >= max)
    }

    /// Delivers the message; `false` if this subscription does not take it.
    fn deliver(&mut self, from: &ClientState, message: &Publication) -> bool {
        let options = self.client.options();
        if self.is_exhausted() || (self.client.id == from.id && !options.echo) {
            return false;
        }
        self.delivered += 1;
        push_message(&self.client.outbox, &message.subject, &self.sid, message, options.headers);
        true
    }
}

/// Writes `MSG` or `HMSG`; a client that does not support headers gets only the body.
fn push_message(outbox: &Outbox, subject: &[u8], sid: &[u8], message: &Publication, headers: bool) {
    let (space, reply): (&[u8], &[u8]) = message.reply.as_deref().map_or((b"", b""), |reply| (b" ", reply));
    let (body, verb, sizes) = match (message.header_bytes, headers) {
        (0, _) => (&message.payload[..], "MSG ", format!(" {}\r\n", message.payload.len())),
        (header_bytes, false) => (
            &message.payload[header_bytes..],
            "MSG ",
            format!(" {}\r\n", message.payload.len() - header_bytes),
        ),
        (header_bytes, true) => {
            (&message.payload[..], "HMSG ", format!(" {header_bytes} {}\r\n", message.payload.len()))
        }
    };
    outbox.push(&[verb.as_bytes(), subject, b" ", sid, space, reply, sizes.as_bytes(), body, b"\r\n"]);
}

impl Router {
    /// `pattern` must be valid. A subscription id already in use changes nothing. `false`: the client has too
    /// many subscriptions.
    pub fn subscribe(
        &self,
        client: &Arc<ClientState>,
        sid: Box<[u8]>,
        pattern: Box<[u8]>,
        queue: Option<Box<[u8]>>,
    ) -> bool {
        let mut routes = self.lock();
        let mut patterns = client.patterns();
        if patterns.contains_key(&sid) {
            return true;
        }
        if patterns.len() >= SUBSCRIPTIONS_PER_CLIENT_MAX {
            return false;
        }
        patterns.insert(sid.clone(), pattern.clone());
        let (client, key) = (Arc::clone(client), pattern.clone());
        let subscription = Subscription { client, sid, pattern, queue, delivered: 0, deliveries_max: None };
        if subject::has_wildcard(&key) {
            routes.wild.push(subscription);
        } else {
            routes.exact.entry(key).or_default().push(subscription);
        }
        true
    }

    /// Ends a subscription at once, or after `deliveries_max` deliveries in all.
    pub fn unsubscribe(&self, client: &ClientState, sid: &[u8], deliveries_max: Option<u64>) {
        let mut routes = self.lock();
        let Some(pattern) = client.patterns().get(sid).cloned() else {
            return;
        };
        let subscriptions = if subject::has_wildcard(&pattern) {
            Some(&mut routes.wild)
        } else {
            routes.exact.get_mut(&pattern)
        };
        if let Some(subscription) =
            subscriptions.and_then(|all| all.iter_mut().find(|one| one.is(client.id, sid)))
        {
            subscription.deliveries_max = Some(deliveries_max.unwrap_or(0));
            routes.drop_exhausted(&pattern);
        }
    }

    /// Delivers a message to every matching subscription, and to one member of each queue group.
    pub fn publish(&self, from: &Arc<ClientState>, message: &Publication) {
        let mut routes = self.lock();
        let routes = &mut *routes;
        routes.turn = routes.turn.wrapping_add(1);
        let exact = routes.exact.get_mut(&message.subject[..]).into_iter().flatten();
        let wild = routes.wild.iter_mut().filter(|one| subject::matches(&one.pattern, &message.subject));
        let mut delivered_any = false;
        let mut exhausted: Vec<Box<[u8]>> = Vec::new();
        let mut groups: Vec<(Box<[u8]>, Vec<&mut Subscription>)> = Vec::new();
        for subscription in exact.chain(wild) {
            if let Some(queue) = subscription.queue.clone() {
                match groups.iter_mut().find(|(name, _)| *name == queue) {
                    Some((_, members)) => members.push(subscription),
                    None => groups.push((queue, vec![subscription])),
                }
                continue;
            }
            delivered_any |= subscription.deliver(from, message);
            if subscription.is_exhausted() {
                exhausted.push(subscription.pattern.clone());
            }
        }
        for (_, mut members) in groups {
            let count = members.len();
            // The next member that takes it; exhausted ones, and the publisher if it wants no echo, do not.
            for step in 0..count {
                let member = &mut members[(routes.turn.wrapping_add(step)) % count];
                if member.deliver(from, message) {
                    delivered_any = true;
                    if member.is_exhausted() {
                        exhausted.push(member.pattern.clone());
                    }
                    break;
                }
            }
        }
        for pattern in exhausted {
            routes.drop_exhausted(&pattern);
        }
        let options = from.options();
        if let (false, true, true, Some(reply)) =
            (delivered_any, options.headers, options.no_responders, &message.reply)
        {
            routes.say_no_responders(from, reply);
        }
    }

    pub fn leave(&self, client: &ClientState) {
        let mut routes = self.lock();
        for (_, pattern) in client.patterns().drain() {
            routes.retain(&pattern, |one| one.client.id != client.id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Subscriptions> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriptions {
    /// Drops the subscriptions to `pattern` that are exhausted.
    fn drop_exhausted(&mut self, pattern: &[u8]) {
        self.retain(pattern, |one| {
            if one.is_exhausted() {
                one.client.patterns().remove(&one.sid);
            }
            !one.is_exhausted()
        });
    }

    /// Filters the subscriptions to `pattern`; if it has a wildcard, all subscriptions with wildcards.
    fn retain(&mut self, pattern: &[u8], keep: impl FnMut(&Subscription) -> bool) {
        if subject::has_wildcard(pattern) {
            self.wild.retain(keep);
        } else if let Some(all) = self.exact.get_mut(pattern) {
            all.retain(keep);
            if all.is_empty() {
                self.exact.remove(pattern);
            }
        }
    }

    /// Sends the no-responders status to the subscription where the requester waits for its reply.
    fn say_no_responders(&self, from: &ClientState, reply: &bytes::Bytes) {
        let exact = self.exact.get(&reply[..]).into_iter().flatten();
        let wild = self.wild.iter().filter(|one| subject::matches(&one.pattern, reply));
        if let Some(waiting) = exact.chain(wild).find(|one| one.client.id == from.id) {
            let message = Publication {
                subject: reply.clone(),
                reply: None,
                header_bytes: NO_RESPONDERS.len(),
                payload: bytes::Bytes::from_static(NO_RESPONDERS),
            };
            push_message(&from.outbox, reply, &waiting.sid, &message, true);
        }
    }
}
