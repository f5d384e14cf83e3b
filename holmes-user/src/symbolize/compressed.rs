//! Whether a compressed part of an ELF file is as large as it says, before a parser that trusts
//! it gets to see it: a promise of 2^60 bytes ends a process that believes it, and a kilobyte can
//! unfold into terabytes.

use std::io::{self, Read};

/// The ELF compression header's length in 64-bit files (`Elf64_Chdr`).
const HEADER_BYTES: usize = 24;
/// `ELFCOMPRESS_ZLIB`.
const ZLIB: u32 = 1;
/// `ELFCOMPRESS_ZSTD`.
const ZSTD: u32 = 2;
/// Memory that unpacking xz may take, in bytes: the dictionary of `xz -6`, with room.
const XZ_MEMORY: u64 = 32 << 20;

/// The unpacked size of a compressed section (`SHF_COMPRESSED`), header included in `section`;
/// `None` where it is not what its header promises, or larger than `limit`.
pub(super) fn section_size(section: &[u8], limit: u64) -> Option<u64> {
    let header = section.get(..HEADER_BYTES)?;
    let kind = u32::from_le_bytes(header.get(..4)?.try_into().ok()?);
    let promised = u64::from_le_bytes(header.get(8..16)?.try_into().ok()?);
    if promised > limit {
        return None;
    }
    let packed = &section[HEADER_BYTES..];
    let size = match kind {
        ZLIB => measure(flate2::read::ZlibDecoder::new(packed), promised),
        ZSTD => measure(zstd::Decoder::with_buffer(packed).ok()?, promised),
        _ => return None,
    };
    (size? == promised).then_some(promised)
}

/// The unpacked size of `.gnu_debugdata` (xz); `None` where it is no xz or larger than `limit`.
pub(super) fn xz_size(packed: &[u8], limit: u64) -> Option<u64> {
    let stream = xz2::stream::Stream::new_stream_decoder(XZ_MEMORY, 0).ok()?;
    measure(xz2::read::XzDecoder::new_stream(packed, stream), limit)
}

/// How much a reader yields, if no more than `limit`.
fn measure(reader: impl Read, limit: u64) -> Option<u64> {
    let size = io::copy(&mut reader.take(limit + 1), &mut io::sink()).ok()?;
    (size <= limit).then_some(size)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMIT: u64 = 1 << 20;

    fn section(kind: u32, promised: u64, packed: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend(promised.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(packed);
        bytes
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn an_honest_section_is_measured() {
        let data = vec![7; 5000];
        assert_eq!(section_size(&section(ZLIB, 5000, &zlib(&data)), LIMIT), Some(5000));
        let packed = zstd::encode_all(&data[..], 0).unwrap();
        assert_eq!(section_size(&section(ZSTD, 5000, &packed), LIMIT), Some(5000));
    }

    #[test]
    fn a_lie_is_refused() {
        let packed = zlib(&[0; 5000]);
        for (kind, promised, packed) in [
            (ZLIB, u64::MAX, &packed[..]),
            (ZLIB, LIMIT + 1, &packed),
            (ZLIB, 4999, &packed),
            (ZLIB, 5001, &packed),
            (ZLIB, 5000, &packed[..10]),
            (ZSTD, 5000, &packed),
            (3, 5000, &packed),
        ] {
            assert_eq!(section_size(&section(kind, promised, packed), LIMIT), None);
        }
        assert_eq!(section_size(&[1, 0, 0], LIMIT), None);
    }

    #[test]
    fn xz_is_measured_up_to_the_bound() {
        let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 6);
        encoder.write_all(&vec![0; 100_000]).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(xz_size(&packed, 100_000), Some(100_000));
        assert_eq!(xz_size(&packed, 99_999), None);
        assert_eq!(xz_size(b"no xz", LIMIT), None);
    }
}
