//! A replica's own state between rounds, as an artifact; and numbers as bytes.

use crate::train::error::TrainError;
use muster_llm::diloco::ReplicaState;
use muster_llm::train::adamw::Moments;

/// Numbers as little-endian bytes.
pub fn to_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Numbers from little-endian bytes, if there are `count`.
pub fn from_bytes(what: &'static str, bytes: &[u8], count: usize) -> Result<Vec<f32>, TrainError> {
    if bytes.len() != count * 4 {
        return Err(TrainError::WrongLength { what, bytes: bytes.len(), count });
    }
    Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// The moments of a replica.
pub fn of(replica: &ReplicaState) -> Vec<u8> {
    let mut bytes = to_bytes(&replica.moments.first);
    bytes.extend(to_bytes(&replica.moments.second));
    bytes
}

/// The moments that [`of`] wrote.
pub fn moments(bytes: &[u8], count: usize) -> Result<Moments, TrainError> {
    let mut first = from_bytes("a replica's moments", bytes, 2 * count)?;
    let second = first.split_off(count);
    Ok(Moments { first, second })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_back_as_they_were() {
        let mut replica = ReplicaState::new(1, &[0.0; 3]);
        replica.moments = Moments { first: vec![1.0, -2.5, f32::MIN_POSITIVE], second: vec![0.0, 4.0, 1e30] };
        assert_eq!(moments(&of(&replica), 3).unwrap(), replica.moments);
        assert!(moments(&of(&replica), 4).unwrap_err().to_string().contains("24 bytes where 8 numbers"));
    }
}
