//! What in a file of lines is no record, and where the last line ends.
//!
//! `RawBatch::from_lines` asks for each line, the binding's reader at the end of a file. Invariant: what is left to later
//! is not lost: it is the beginning of what is read then.

use serde::de::IgnoredAny;

/// What editors of some systems write at the start of a file, before its first line.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether a line is no record: it is empty, or of the spaces and tabs that JSON passes over.
#[inline]
pub(super) fn is_blank(line: &[u8]) -> bool {
    line.first().is_none_or(|first| *first <= b' ') && line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

/// The bytes of `data`, which the file ends behind, that are whole lines. One without a newline is whole, unless
/// `grows`, the file may be read on when it has grown, and the line is JSON that goes on.
#[must_use]
pub fn whole(data: &[u8], grows: bool) -> usize {
    let start = memchr::memrchr(b'\n', data).map_or(0, |newline| newline + 1);
    let last = &data[start..];
    let last = last.strip_prefix(BYTE_ORDER_MARK).unwrap_or(last);
    // A number may end within itself (`1.`), which is no end to the parser: with one digit more it is.
    let is_cut = || goes_on(last) || goes_on(&[last, b"0"].concat());
    if grows && !last.trim_ascii().is_empty() && is_cut() { start } else { data.len() }
}

fn goes_on(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_err_and(|error| error.is_eof())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_last_line_whose_json_goes_on_is_left_and_only_where_the_file_may_grow() {
        let whole_line = br#" {"a":-1.5e+10,"b":[true,null,{"\u00e9":"\ud83d\ude00 \\"}]}"#;
        let cut = (2..whole_line.len()).map(|len| &whole_line[..len]);
        for last in cut {
            let data = [b"{}\n", last].concat();
            assert_eq!(whole(&data, true), 3, "{}", last.escape_ascii());
            assert_eq!(whole(&data, false), data.len());
            assert_eq!(whole(last, true), 0);
        }
        let ended: [&[u8]; 6] = [b"", b" \r", whole_line, b"no JSON", b"{\"a\":1} ", b"{\"a\":1}}"];
        for last in ended {
            let data = [b"{}\n", last].concat();
            assert_eq!(whole(&data, true), data.len(), "{}", last.escape_ascii());
        }
        assert_eq!(whole(b"{\n", true), 2, "a newline ends it whatever it is");
        assert_eq!(whole(b"\xef\xbb\xbf{\"a\":", true), 0, "behind a mark too");
    }
}
