//! `muster events`.

use super::connect::client;
use crate::args::EventsArgs;
use crate::client::{EVENTS_PER_PAGE, EventTail};
use crate::error::CliError;
use crate::render::style::Style;
use crate::render::{self, events};
use muster_protocol::event::Event;
use muster_protocol::view::EventView;

pub async fn events(arguments: EventsArgs) -> Result<(), CliError> {
    let client = client(&arguments.server)?;
    let mut shown = 0;
    let limit = arguments.limit.unwrap_or(u64::MAX);
    if arguments.follow {
        client.learn_members().await;
        let from = match (arguments.from, arguments.job) {
            (Some(from), _) => from,
            (None, Some(_)) => 1,
            (None, None) => client.status().await?.applied.0 + 1,
        };
        let mut tail = EventTail::new(&client, from, arguments.job);
        while shown < limit {
            shown += show(&tail.next().await?, &arguments)?;
        }
        return Ok(());
    }
    let mut from = arguments.from.unwrap_or(1);
    while shown < limit {
        let page = client.events(from, arguments.job, EVENTS_PER_PAGE).await?;
        let Some(last) = page.last() else { break };
        from = last.index.0 + 1;
        for event in &page {
            if shown < limit {
                shown += show(event, &arguments)?;
            }
        }
    }
    Ok(())
}

/// Prints an event unless it is filtered out; returns how many were printed.
fn show(event: &EventView, arguments: &EventsArgs) -> Result<u64, CliError> {
    if arguments.server.json {
        render::json_line(event)?;
        return Ok(1);
    }
    let for_machines = matches!(event.event, Event::RequestAnswered(_) | Event::HintsUsed(_));
    if for_machines && !arguments.all {
        return Ok(0);
    }
    render::line(&events::line(event, Style::of_stdout()))?;
    Ok(1)
}
