//! Colours, on a terminal only, and not if `NO_COLOR` is set.

use std::io::{self, IsTerminal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    colours: bool,
}

impl Style {
    pub const PLAIN: Style = Style { colours: false };

    pub fn of_stdout() -> Style {
        Style { colours: use_colours(io::stdout().is_terminal()) }
    }

    pub fn of_stderr() -> Style {
        Style { colours: use_colours(io::stderr().is_terminal()) }
    }

    pub fn success(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// In progress.
    pub fn active(self, text: &str) -> String {
        self.paint("36", text)
    }

    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// A state of a job, stage, task, worker or coordinator, in its colour.
    pub fn state(self, word: &str) -> String {
        match word {
            "succeeded" | "alive" | "leader" | "connected" => self.success(word),
            "failed" | "lost" | "timed-out" | "not-started" => self.error(word),
            "cancelled" | "cancelling" | "suspect" | "backoff" | "stopping" | "draining" | "candidate" => {
                self.warning(word)
            }
            "running" | "assigned" | "queued" => self.active(word),
            _ => word.to_string(),
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colours && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

fn use_colours(terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Replaces control characters: text that others wrote must not steer the terminal.
pub fn sanitize(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Cuts sanitized text to `chars_max` characters; a cut ends with `…`.
pub fn truncate(text: &str, chars_max: usize) -> String {
    let text = sanitize(text);
    if text.chars().count() <= chars_max {
        return text;
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        assert_eq!(sanitize("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(truncate("abcdef", 4), "abc…");
        assert_eq!(truncate("abcd", 4), "abcd");
    }

    #[test]
    fn plain_is_plain() {
        assert_eq!(Style::PLAIN.state("failed"), "failed");
        assert_eq!(Style { colours: true }.success(""), "");
        assert_eq!(Style { colours: true }.success("x"), "\x1b[32mx\x1b[0m");
    }
}
