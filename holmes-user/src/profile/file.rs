//! A profile as a file's bytes, and back. Files may come from anywhere: reading is bounded.

use std::io::{self, Read, Write};

use flate2::GzBuilder;
use flate2::read::MultiGzDecoder;
use prost::Message;
use thiserror::Error;

use super::proto::Profile;

/// A profile unpacked, in bytes. Profiles of one incident stay below a tenth of it.
const MAX_BYTES: u64 = 64 << 20;
/// Messages of a profile, all kinds together: empty ones take two bytes of a file and a hundred of
/// memory.
const MAX_MESSAGES: usize = 4 << 20;

/// Why bytes are no profile.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The packed file is damaged.
    #[error("cannot unpack the profile: it is cut short or damaged; copy it again")]
    Gzip(#[source] io::Error),
    /// Unpacked, it is larger than the bound.
    #[error("the profile is larger than {} MiB unpacked; record a shorter time", MAX_BYTES >> 20)]
    TooLarge,
    /// The unpacked bytes are no profile.
    #[error("not a pprof profile (or one with text that is not UTF-8)")]
    Proto(#[source] prost::DecodeError),
}

/// The profile packed with gzip. The same profile gives the same bytes: no time is stored.
pub fn write_gz(profile: &Profile) -> Vec<u8> {
    let bytes = profile.encode_to_vec();
    let mut out = GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::default());
    // Writing to memory does not fail.
    let _ = out.write_all(&bytes);
    out.finish().unwrap_or_default()
}

/// A profile from a file's bytes, packed or not.
pub fn decode(bytes: &[u8]) -> Result<Profile, DecodeError> {
    let unpacked;
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut out = Vec::new();
        let mut reader = MultiGzDecoder::new(bytes).take(MAX_BYTES + 1);
        reader.read_to_end(&mut out).map_err(DecodeError::Gzip)?;
        unpacked = out;
        &unpacked
    } else {
        bytes
    };
    if bytes.len() as u64 > MAX_BYTES || messages(bytes) > MAX_MESSAGES {
        return Err(DecodeError::TooLarge);
    }
    Profile::decode(bytes).map_err(DecodeError::Proto)
}

/// How many messages there are in a profile, two levels deep: labels and lines are in samples and
/// locations. Counting stops where the bytes make no sense; decoding will say so.
fn messages(bytes: &[u8]) -> usize {
    fields(bytes).map(|field| 1 + fields(field).count()).sum()
}

/// The length-delimited fields of a protobuf message.
pub(super) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        loop {
            let tag = prost::encoding::decode_varint(&mut bytes).ok()?;
            match tag & 7 {
                0 => drop(prost::encoding::decode_varint(&mut bytes).ok()?),
                1 => bytes = bytes.get(8..)?,
                2 => {
                    let len = prost::encoding::decode_varint(&mut bytes).ok()?;
                    let (field, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
                    bytes = rest;
                    return Some(field);
                }
                5 => bytes = bytes.get(4..)?,
                _ => return None,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::proto::Sample;
    use super::*;

    #[test]
    fn a_profile_survives_packing_and_gives_the_same_bytes_again() {
        let profile = Profile {
            sample: vec![Sample { location_id: vec![1], value: vec![-1], label: Vec::new() }],
            string_table: vec![String::new(), "a".to_owned()],
            period: 7,
            ..Default::default()
        };
        let packed = write_gz(&profile);
        assert_eq!(packed, write_gz(&profile));
        assert_eq!(packed[4..8], [0; 4], "gzip's time");
        assert_eq!(decode(&packed).unwrap(), profile);
        assert_eq!(decode(&profile.encode_to_vec()).unwrap(), profile);
    }

    #[test]
    fn hostile_files_are_refused() {
        let mut bomb = GzBuilder::new().write(Vec::new(), flate2::Compression::fast());
        for _ in 0..=MAX_BYTES >> 20 {
            bomb.write_all(&[0; 1 << 20]).unwrap();
        }
        assert!(matches!(decode(&bomb.finish().unwrap()), Err(DecodeError::TooLarge)));
        // Empty samples, two bytes each; and empty labels inside one sample.
        let empty: Vec<u8> = [0x12, 0].repeat(MAX_MESSAGES + 1);
        assert!(matches!(decode(&empty), Err(DecodeError::TooLarge)));
        let labels: Vec<u8> = [0x1a, 0].repeat(MAX_MESSAGES + 1);
        let mut nested = vec![0x12];
        prost::encoding::encode_varint(labels.len() as u64, &mut nested);
        nested.extend(labels);
        assert!(matches!(decode(&nested), Err(DecodeError::TooLarge)));
        assert!(matches!(decode(&[0x1f, 0x8b, 8]), Err(DecodeError::Gzip(_))));
        assert!(matches!(decode(b"no profile"), Err(DecodeError::Proto(_))));
        // A string that is not UTF-8.
        assert!(matches!(decode(&[0x32, 1, 0xff]), Err(DecodeError::Proto(_))));
    }
}
