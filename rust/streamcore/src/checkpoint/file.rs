//! One checkpoint file: magic, version, sections with checksums.
//!
//! The runner's header (JSON, opaque here) and the engine's saved lanes come in, bytes for one
//! atomic write go out. Layout, all integers little-endian:
//!
//! ```text
//! "SCKPT\0"  u16 version  u32 section count
//! per section: i32 lane  u64 length  u32 CRC32C of lane, length and data  data
//! u32 CRC32C of everything before
//! ```
//!
//! The first section is the header. Invariant: any changed, missing or added byte is an error
//! that names the part; every version keeps the magic, the version's place and the last checksum,
//! so a newer file can be told from a damaged one.

use crate::error::{Error, Result};

const MAGIC: &[u8; 6] = b"SCKPT\0";
/// Of the file and of the state in it.
const VERSION: u16 = 6;
const PREFIX_BYTES: usize = MAGIC.len() + 2 + 4;
const SECTION_HEAD_BYTES: usize = 4 + 8 + 4;
const CHECKSUM_BYTES: usize = 4;

/// The header and the saved state of each lane.
pub type Contents<'a> = (&'a [u8], Vec<(i32, &'a [u8])>);

/// What a checkpoint file has around the states: before each of them, and behind the last. The states themselves may be large, and
/// are written from where they are.
#[must_use]
pub fn frame<B: AsRef<[u8]>>(header: &[u8], lanes: &[(i32, B)]) -> Vec<Vec<u8>> {
    let mut part = [&MAGIC[..], &VERSION.to_le_bytes(), &(lanes.len() as u32 + 1).to_le_bytes()].concat();
    part.extend_from_slice(&section_head(0, header));
    part.extend_from_slice(header);
    let (mut parts, mut checksum) = (Vec::with_capacity(lanes.len() + 1), 0);
    for (lane, state) in lanes {
        let state = state.as_ref();
        part.extend_from_slice(&section_head(*lane, state));
        checksum = crc32c::crc32c_append(crc32c::crc32c_append(checksum, &part), state);
        parts.push(std::mem::take(&mut part));
    }
    checksum = crc32c::crc32c_append(checksum, &part);
    part.extend_from_slice(&checksum.to_le_bytes());
    parts.push(part);
    parts
}

/// Reads a checkpoint file; the parts are slices of it.
pub fn decode(bytes: &[u8]) -> Result<Contents<'_>> {
    check_frame(bytes)?;
    let mut rest = Cursor(&bytes[MAGIC.len() + 2..bytes.len() - CHECKSUM_BYTES]);
    let count = u32::from_le_bytes(rest.array().ok_or_else(|| damaged("the section count"))?);
    let (_, header) = read_section(&mut rest, "the header")?;
    let mut lanes = Vec::new();
    for number in 1..count {
        let part = format!("section {number} of {count}");
        let (lane, state) = read_section(&mut rest, &part)?;
        lanes.push((lane, state));
    }
    if !rest.0.is_empty() {
        return Err(damaged(&format!("the end ({} bytes too many)", rest.0.len())));
    }
    let [before @ .., _, _, _, _] = bytes else { return Err(damaged("the checksum")) };
    if crc32c::crc32c(before) != whole_checksum(bytes) {
        return Err(damaged("the section count or the checksum of the whole"));
    }
    Ok((header, lanes))
}

/// Checks what all versions share: magic, version, and enough bytes for the rest.
fn check_frame(bytes: &[u8]) -> Result<()> {
    if !bytes.starts_with(MAGIC) {
        return Err(Error::state(
            "this is not a streamcore checkpoint, or its first bytes are damaged; check the path, \
             or restore the file from a copy",
        ));
    }
    if bytes.len() < PREFIX_BYTES + SECTION_HEAD_BYTES + CHECKSUM_BYTES {
        return Err(damaged("the end (the file is cut off)"));
    }
    let version = u16::from_le_bytes([bytes[MAGIC.len()], bytes[MAGIC.len() + 1]]);
    if version == VERSION {
        return Ok(());
    }
    let whole = crc32c::crc32c(&bytes[..bytes.len() - CHECKSUM_BYTES]) == whole_checksum(bytes);
    if whole && version > VERSION {
        return Err(Error::state(format!(
            "the checkpoint has format {version} and was written by a newer streamcore (this one reads format \
             {VERSION}); upgrade streamcore, or restore a checkpoint written before"
        )));
    }
    if whole {
        return Err(Error::state(format!(
            "the checkpoint has format {version} and was written by an older streamcore (this one reads format {VERSION}); \
             go on with that one, or start anew under another name"
        )));
    }
    Err(damaged("the format version"))
}

fn whole_checksum(bytes: &[u8]) -> u32 {
    let last = bytes.last_chunk().expect("check_frame saw more bytes than a checksum has");
    u32::from_le_bytes(*last)
}

fn section_head(lane: i32, data: &[u8]) -> [u8; SECTION_HEAD_BYTES] {
    let mut head = [0; SECTION_HEAD_BYTES];
    head[..4].copy_from_slice(&lane.to_le_bytes());
    head[4..12].copy_from_slice(&(data.len() as u64).to_le_bytes());
    head[12..].copy_from_slice(&section_checksum(lane, data).to_le_bytes());
    head
}

fn read_section<'a>(rest: &mut Cursor<'a>, part: &str) -> Result<(i32, &'a [u8])> {
    let (lane, len, checksum) = rest.head().ok_or_else(|| damaged(part))?;
    let data = usize::try_from(len).ok().and_then(|len| rest.take(len)).ok_or_else(|| damaged(part))?;
    if section_checksum(lane, data) != checksum {
        return Err(damaged(part));
    }
    Ok((lane, data))
}

fn section_checksum(lane: i32, data: &[u8]) -> u32 {
    let head = crc32c::crc32c(&lane.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(head, &(data.len() as u64).to_le_bytes()), data)
}

fn damaged(part: &str) -> Error {
    Error::state(format!(
        "the checkpoint is damaged at {part}; restore the file from a copy, or reset the state and read the input again"
    ))
}

/// The bytes not read yet.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn head(&mut self) -> Option<(i32, u64, u32)> {
        let lane = i32::from_le_bytes(self.array()?);
        let len = u64::from_le_bytes(self.array()?);
        Some((lane, len, u32::from_le_bytes(self.array()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    fn encode(header: &[u8], lanes: &[(i32, Vec<u8>)]) -> Vec<u8> {
        let states = lanes.iter().map(|(_, state)| state.as_slice()).chain([&[][..]]);
        let parts = frame(header, lanes);
        assert_eq!(parts.len(), lanes.len() + 1);
        parts.iter().zip(states).flat_map(|(part, state)| [part, state].concat()).collect()
    }

    fn small() -> Vec<u8> {
        encode(br#"{"name":"pages"}"#, &[(0, b"lane zero".to_vec()), (7, Vec::new()), (-1, vec![0; 20])])
    }

    fn message(bytes: &[u8]) -> String {
        let error = decode(bytes).expect_err("damaged");
        assert_eq!(error.kind, ErrorKind::State);
        error.message
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let file = small();
        for place in 0..file.len() {
            for change in 1..=255 {
                let mut damaged = file.clone();
                damaged[place] ^= change;
                let said = message(&damaged);
                assert!(said.contains("damaged"), "byte {place} ^ {change}: {said}");
            }
        }
    }

    #[test]
    fn every_cut_and_every_addition_is_noticed() {
        let file = small();
        for len in 0..file.len() {
            message(&file[..len]);
        }
        for extra in [&b"\0"[..], b"\n", b"more bytes than a checksum"] {
            message(&[&file, extra].concat());
        }
        message(&[&file[..], &file[..]].concat());
    }

    #[test]
    fn the_damaged_part_is_named() {
        let mut file = small();
        let header = PREFIX_BYTES + SECTION_HEAD_BYTES;
        file[header] ^= 1;
        assert!(message(&file).contains("the header"));
        let mut file = small();
        file[header + 16 + SECTION_HEAD_BYTES] ^= 1;
        assert!(message(&file).contains("section 1 of 4"));
    }

    #[test]
    fn another_version_is_not_called_damage() {
        for (version, said) in
            [(VERSION - 1, "written by an older streamcore"), (VERSION + 1, "written by a newer streamcore")]
        {
            let mut file = small();
            file[MAGIC.len()] = version as u8;
            assert!(message(&file).contains("the format version"));
            let body = file.len() - CHECKSUM_BYTES;
            let checksum = crc32c::crc32c(&file[..body]).to_le_bytes();
            file[body..].copy_from_slice(&checksum);
            assert!(message(&file).contains(said));
        }
    }

    #[test]
    fn a_claimed_length_beyond_the_file_is_refused() {
        let mut file = small();
        file[PREFIX_BYTES + 4..PREFIX_BYTES + 12].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(message(&file).contains("the header"));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            header in any::<Vec<u8>>(),
            lanes in proptest::collection::vec((any::<i32>(), any::<Vec<u8>>()), 0..8),
        ) {
            let file = encode(&header, &lanes);
            let read = decode(&file).expect("undamaged");
            let lanes = lanes.iter().map(|(lane, state)| (*lane, state.as_slice())).collect();
            prop_assert_eq!(read, (header.as_slice(), lanes));
        }

        #[test]
        fn noise_is_an_error_and_not_a_panic(noise in any::<Vec<u8>>(), tail in any::<Vec<u8>>()) {
            prop_assert!(decode(&noise).is_err());
            let mut framed = small()[..PREFIX_BYTES].to_vec();
            framed.extend(tail);
            prop_assert!(decode(&framed).is_err());
        }
    }
}
