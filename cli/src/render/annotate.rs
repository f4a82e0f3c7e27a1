//! The state of an annotate stage: labels so far, and how far people agree.

use super::style::{sanitize, truncate};
use serde_json::Value;

const NAME_CHARS_MAX: usize = 32;
const ID_CHARS_MAX: usize = 64;
/// The most pairs of people, and the most items, that are listed.
const LISTED_MAX: usize = 20;

fn figure(value: &Value) -> String {
    value.as_f64().map_or("undefined".to_string(), |figure| format!("{figure:.3}"))
}

fn name(value: &Value) -> String {
    truncate(&sanitize(value.as_str().unwrap_or_default()), NAME_CHARS_MAX)
}

/// The end of an id: ids may be paths, whose beginnings are alike.
fn end(value: &Value) -> String {
    let id = sanitize(value.as_str().unwrap_or_default());
    let cut = id.chars().count().saturating_sub(ID_CHARS_MAX);
    if cut == 0 { id } else { ['…'].into_iter().chain(id.chars().skip(cut + 1)).collect() }
}

/// Renders `GET /status.json` of the label server, or the output of a stage that has ended.
pub fn status(report: &Value) -> String {
    let count = |key: &str| report[key].as_u64().unwrap_or(0);
    let Some(agreement) = report.get("agreement") else {
        return format!(
            "{} items: {} decided, {} that people differ on, {} open; {} labels by {} people\n\
             agreement {}, kappa {}, alpha {}; confirmed {}\nlabelled items {}\nreport {}\n",
            count("items"),
            count("decided"),
            count("differing"),
            count("open"),
            count("labels"),
            count("people"),
            figure(&report["raw"]),
            figure(&report["kappa"]),
            figure(&report["alpha"]),
            figure(&report["confirmed"]),
            name_of_artifact(&report["labelled"]),
            name_of_artifact(&report["report"]),
        );
    };
    let mut text = format!(
        "{} of {} items done, {} labels ({} replaced)\n",
        count("complete"),
        count("items"),
        count("labels"),
        count("replaced")
    );
    for (who, labels) in report["people"].as_object().into_iter().flatten() {
        text.push_str(&format!(
            "  {} {}\n",
            truncate(&sanitize(who), NAME_CHARS_MAX),
            labels.as_u64().unwrap_or(0)
        ));
    }
    text.push_str(&format!(
        "agreement {}, alpha {}\n",
        figure(&agreement["raw"]),
        figure(&agreement["alpha"])
    ));
    for pair in agreement["pairs"].as_array().into_iter().flatten().take(LISTED_MAX) {
        let items = pair["items"].as_u64().unwrap_or(0);
        text.push_str(&format!(
            "  {} and {}: {items} items, agreement {}, kappa {}\n",
            name(&pair["a"]),
            name(&pair["b"]),
            figure(&pair["raw"]),
            figure(&pair["kappa"])
        ));
    }
    if let Some(proposals) = report.get("proposals").filter(|proposals| !proposals.is_null()) {
        let count = |key: &str| proposals[key].as_u64().unwrap_or(0);
        text.push_str(&format!(
            "proposals confirmed by {} of {} labels\n",
            count("confirmed"),
            count("labels")
        ));
    }
    let differing = report["differing"].as_array().map_or(&[][..], Vec::as_slice);
    for item in differing.iter().take(LISTED_MAX) {
        text.push_str(&format!("{} {}\n", name(&item["standing"]), end(&item["id"])));
    }
    if differing.len() > LISTED_MAX {
        text.push_str(&format!("and {} more that people differ on\n", differing.len() - LISTED_MAX));
    }
    text
}

fn name_of_artifact(value: &Value) -> String {
    sanitize(value.as_str().unwrap_or_default())
}

/// The result of an import.
pub fn tally(tally: &Value) -> String {
    let count = |key: &str| tally[key].as_u64().unwrap_or(0);
    format!("{} new labels, {} changed, {} there already", count("new"), count("changed"), count("repeated"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_in_words() {
        let report = json!({"items": 3, "complete": 2, "labels": 5, "replaced": 1, "people": {"ann": 3, "b\u{1b}": 2},
            "agreement": {"raw": 0.5, "alpha": null, "pairs": [{"a": "ann", "b": "bob", "items": 2, "raw": 0.5, "kappa": 0.25}]},
            "proposals": {"labels": 4, "confirmed": 3}, "differing": [{"id": "x", "standing": "disputed"}]});
        let text = status(&report);
        for part in [
            "2 of 3 items done, 5 labels (1 replaced)",
            "ann 3",
            "agreement 0.500, alpha undefined",
            "kappa 0.250",
            "3 of 4",
            "disputed x",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(
            end(&json!(format!("{}/main.rs", "x".repeat(90)))),
            format!("…{}/main.rs", "x".repeat(55))
        );
        let ended = status(
            &json!({"items": 3, "decided": 3, "alpha": 1.0, "labelled": "blake3:00", "report": "blake3:11"}),
        );
        assert!(
            ended.contains("3 items: 3 decided")
                && ended.contains("alpha 1.000")
                && ended.contains("blake3:11"),
            "{ended}"
        );
        assert_eq!(
            tally(&json!({"new": 2, "changed": 0, "repeated": 1})),
            "2 new labels, 0 changed, 1 there already"
        );
    }
}
