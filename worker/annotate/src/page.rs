//! The form as HTML: plain, without scripts, and with all input escaped.
//!
//! A page is a pure function of what it shows. It never shows the labels of others to a person who has not
//! given one, except to an adjudicator, and then without names.

use super::item::Item;
use super::label_store::{ItemStatus, LabelStore};
use std::fmt::{self, Display, Formatter};

/// Longer texts are cut on the page; the export has all of them.
const SHOWN_CHARS_MAX: usize = 40_000;
/// Most rows of a text box.
const ROWS_MAX: usize = 30;
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f5f5f2;border:1px solid #ddd;padding:1rem}\
label{display:block;padding:.2rem 0}textarea{width:100%;font:inherit}button{font:inherit;padding:.4rem 1.4rem}\
.faint{color:#666}.said{background:#eef6ee;border:1px solid #cdc;padding:.5rem 1rem}.wrong{background:#fbeeee;border-color:#dbb}";

/// Text that is escaped for elements and for quoted attributes.
pub struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // HTML has no escape for it.
                '\0' => f.write_str("\u{fffd}")?,
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

/// A value in a query, percent-encoded.
pub fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// What all pages show.
pub struct PageContext<'a> {
    /// The names of the job and the stage.
    pub title: &'a str,
    /// The question of the job file.
    pub question: &'a str,
    /// The items and labels.
    pub store: &'a LabelStore,
}

/// The first page, which asks for a name.
pub fn ask_name(context: &PageContext<'_>) -> String {
    let form = "<form method=get action=/><label>Your name <input name=who required maxlength=64 autofocus></label>\
        <button>Begin</button></form>";
    document(context, "", &format!("{}{form}", question(context)))
}

/// The page of an item to label. `done` is the item that was labelled before.
pub fn item(context: &PageContext<'_>, who: &str, index: usize, done: Option<&Item>) -> String {
    let store = context.store;
    let Some(item) = store.items().get(index) else { return nothing_left(context, who, done) };
    let own = store.labels_of(index).iter().find(|given| given.who == who).map(|given| given.label.as_str());
    let chosen = own.or(item.proposal.as_deref());
    let mut body = saved_line(who, done);
    body.push_str(&question(context));
    body.push_str(&format!(
        "<p class=faint>Item {} of {}: {}</p>",
        index + 1,
        store.items().len(),
        Escaped(&item.id)
    ));
    let shown: String = item.text.chars().take(SHOWN_CHARS_MAX).collect();
    // The first newline after <pre> would be lost.
    body.push_str(&format!("<pre>\n{}</pre>", Escaped(&shown)));
    if shown.len() < item.text.len() {
        body.push_str(&format!(
            "<p class=faint>The first {SHOWN_CHARS_MAX} characters of {} bytes.</p>",
            item.text.len()
        ));
    }
    if store.status(index) == ItemStatus::Disputed && own.is_none() {
        let labels: Vec<String> =
            store.labels_of(index).iter().map(|given| format!("<q>{}</q>", Escaped(&given.label))).collect();
        body.push_str(&format!("<p>Others differ: {}. You decide.</p>", labels.join(", ")));
    }
    match (own, item.proposal.as_deref()) {
        (Some(_), _) => body.push_str("<p class=faint>This is your label; another one replaces it.</p>"),
        (None, Some(_)) => {
            body.push_str("<p class=faint>A model proposes what is chosen: confirm it, or change it.</p>")
        }
        (None, None) => {}
    }
    body.push_str("<form method=post action=/label>");
    body.push_str(&hidden("who", who));
    body.push_str(&hidden("item", &item.id));
    if store.rules().labels.is_empty() {
        let text = chosen.unwrap_or(&item.text);
        let rows = (text.lines().count() + 2).min(ROWS_MAX);
        body.push_str(&format!(
            "<label>The text as it should be<textarea name=label required rows={rows}>\n{}</textarea></label>",
            Escaped(text)
        ));
    }
    for (number, label) in store.rules().labels.iter().enumerate() {
        let checked = if chosen == Some(label.as_str()) { " checked" } else { "" };
        let key = if number < 9 { format!(" accesskey={}", number + 1) } else { String::new() };
        let text = Escaped(label);
        body.push_str(&format!(
            "<label><input type=radio name=label required value=\"{text}\"{checked}{key}> {text}</label>"
        ));
    }
    body.push_str("<p><button>Save</button> ");
    body.push_str(&format!(
        "<a href=\"/?who={}&amp;after={}\">skip</a></p></form>",
        encoded(who),
        encoded(&item.id)
    ));
    document(context, who, &body)
}

/// The page when there is nothing to label for this person.
pub fn nothing_left(context: &PageContext<'_>, who: &str, done: Option<&Item>) -> String {
    let store = context.store;
    let text = if store.is_over() {
        "Every item has its labels. Thank you."
    } else {
        "Nothing is left for you. Some items wait for other people. Thank you."
    };
    let mut body = saved_line(who, done);
    body.push_str(&format!("<p>{text}</p>"));
    if !store.is_over() && store.rules().allow_partial {
        let hidden = hidden("who", who);
        body.push_str(&format!(
            "<form method=post action=/close>{hidden}<button>End it for everybody, as it is</button></form>"
        ));
    }
    document(context, who, &body)
}

/// The page with an error message.
pub fn error(context: &PageContext<'_>, who: &str, message: &str) -> String {
    let back = format!("<p><a href=\"/?who={}\">back</a></p>", encoded(who));
    document(context, who, &format!("<p class=\"said wrong\">{}</p>{back}", Escaped(message)))
}

fn question(context: &PageContext<'_>) -> String {
    if context.question.is_empty() {
        String::new()
    } else {
        format!("<p><b>{}</b></p>", Escaped(context.question))
    }
}

fn hidden(name: &str, value: &str) -> String {
    format!("<input type=hidden name={name} value=\"{}\">", Escaped(value))
}

fn saved_line(who: &str, done: Option<&Item>) -> String {
    let line = |item: &Item| {
        let link = format!("/?who={}&amp;item={}", encoded(who), encoded(&item.id));
        format!("<p class=said>Saved: {}. <a href=\"{link}\">change it</a></p>", Escaped(&item.id))
    };
    done.map_or(String::new(), line)
}

fn document(context: &PageContext<'_>, who: &str, body: &str) -> String {
    let store = context.store;
    let title = Escaped(context.title);
    let person = if who.is_empty() {
        String::new()
    } else {
        format!(" · {} · <a href=/>somebody else</a>", Escaped(who))
    };
    let done = format!("{} of {} items done", store.complete(), store.items().len());
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style><h1>{title}</h1><p class=faint>{done}{person}</p>{body}</html>\n"
    )
}
