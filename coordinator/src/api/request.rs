//! Parses the body, the query and the path of a request, each bounded and checked.

use super::error::ApiError;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::Uri;
use futures::StreamExt;
use muster_protocol::limits::HTTP_BODY_BYTES_MAX;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::str::FromStr;

/// How much of a body that is too large is read, so that its sender gets the answer instead of a broken
/// connection.
const DISCARDED_BYTES_MAX: usize = 16 * HTTP_BODY_BYTES_MAX;

/// Reads a whole body, within the limit.
pub async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let mut stream = body.into_data_stream();
    let (mut bytes, mut discarded) = (Vec::new(), 0);
    while let Some(piece) = stream.next().await {
        let piece =
            piece.map_err(|error| ApiError::invalid("", format!("the body is incomplete: {error}")))?;
        if discarded == 0 && bytes.len() + piece.len() <= HTTP_BODY_BYTES_MAX {
            bytes.extend_from_slice(&piece);
        } else {
            bytes = Vec::new();
            discarded += piece.len();
            if discarded > DISCARDED_BYTES_MAX {
                break;
            }
        }
    }
    if discarded > 0 { Err(ApiError::too_large(HTTP_BODY_BYTES_MAX)) } else { Ok(bytes.into()) }
}

/// Parses a body as JSON. Errors name the line, the column and the field.
pub fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let Err(rejection) = Json::<T>::from_bytes(body) else {
        return Json::from_bytes(body)
            .map(|Json(value)| value)
            .map_err(|error| ApiError::invalid("", error.body_text()));
    };
    let text = rejection.body_text();
    // Axum says "Failed to ..: FIELD: what is wrong at line L column C", without the field where it knows
    // none.
    let message = text.split_once(": ").map_or(text.as_str(), |(_, message)| message);
    let field = message.split_once(": ").map(|(field, _)| field).filter(|field| !field.contains(' '));
    match field {
        Some(field) => Err(ApiError::invalid(field, message[field.len() + 2..].to_string())),
        None => Err(ApiError::invalid("", message)),
    }
}

/// Parses a body as JSON; an empty body gives the default.
pub fn json_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() { Ok(T::default()) } else { json(body) }
}

pub fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    let read = Query::<T>::try_from_uri(uri).map_err(|rejection| {
        let text = rejection.body_text();
        let message = text.split_once(": ").map_or(text.as_str(), |(_, message)| message).to_string();
        let field = message.split_once(": ").map_or("", |(field, _)| field);
        ApiError::invalid(field, message.clone())
    })?;
    Ok(read.0)
}

/// Parses an id in the path.
pub fn id<T: FromStr<Err: Display>>(text: &str, field: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error| ApiError::invalid(field, format!("{text:?} is {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::spec::JobSpec;

    #[test]
    fn errors_in_json_name_their_place() {
        let table = [
            ("{\"name\": \"x\",\n \"stages\": 7}", "stages", "line 2 column"),
            (
                "{\"name\": \"x\", \"stages\": [{\"name\": \"s\", \"tasks\": -1}]}",
                "stages[0].tasks",
                "line 1 column",
            ),
            ("{\"name\": \"x\"", "", "line 1 column"),
            ("{\"name\": \"x\"}", "", "missing field `stages`"),
            ("", "", "line 1 column 0"),
        ];
        for (text, field, message) in table {
            let error = json::<JobSpec>(text.as_bytes()).unwrap_err();
            assert_eq!(error.view.field, field, "{text}: {error:?}");
            assert!(error.view.message.contains(message), "{text}: {error:?}");
        }
    }

    #[tokio::test]
    async fn a_body_has_its_limit() {
        assert_eq!(
            read_body(Body::from(vec![1; HTTP_BODY_BYTES_MAX])).await.unwrap().len(),
            HTTP_BODY_BYTES_MAX
        );
        let error = read_body(Body::from(vec![1; HTTP_BODY_BYTES_MAX + 1])).await.unwrap_err();
        assert_eq!(error.status.as_u16(), 413);
    }
}
