//! The layouts met last, tried before the full parser.
//!
//! `decode/mod.rs` asks them for each record and teaches them what the full parser accepts. They only
//! save time: answers do not depend on what they know. Invariant: their number and bytes are bounded.

use super::Located;
use super::kernel::Kernel;
use super::kernel::padded::Padded;
use super::layout::Layout;

/// Records walked side by side: as many as hide each other's latency and still fit the registers.
pub const GROUP: usize = 3;

/// Layouts kept; the one that was not used for longest makes room.
const LAYOUTS_MAX: usize = 32;

/// Bytes all of them may take.
const LAYOUT_BYTES_MAX: usize = 256 << 10;

/// After this many misses in a row of this many records layouts rest.
const WATCHED: u32 = 256;

/// Records for which layouts rest at first, and at most; each time in a row it is twice as long.
const REST: (u32, u32) = (1024, 64 << 10);

/// A layout and when it was used.
#[derive(Debug, Clone)]
struct Known {
    layout: Layout,
    used: u64,
}

/// Layouts by their last use, and whether trying them pays.
#[derive(Debug, Clone)]
pub struct Layouts {
    kernel: Kernel,
    known: Vec<Known>,
    /// Place of the one used last, which is tried first.
    last: usize,
    /// Records tried.
    tried: u64,
    /// Records and misses since they were looked at last.
    watched: u32,
    missed: u32,
    /// Records still to go before layouts are tried again, and how long the next rest is.
    resting: u32,
    next_rest: u32,
}

impl Layouts {
    /// None yet. Tried with `kernel`.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        Self { kernel, known: Vec::new(), last: 0, tried: 0, watched: 0, missed: 0, resting: 0, next_rest: REST.0 }
    }

    /// Locates the wanted fields of a record if it has a known layout; see [`Layout::locate_with`].
    /// `found` holds nothing on entry, and nothing of use after a miss.
    #[inline]
    pub fn locate(&mut self, record: Padded<'_>, found: &mut [Located]) -> bool {
        if self.resting > 0 {
            self.resting -= 1;
            return false;
        }
        self.tried += 1;
        self.watched += 1;
        let kernel = self.kernel;
        let mut fits = |known: &Known| kernel.locate(&known.layout, [record], found);
        let last_fits = self.known.get(self.last).is_some_and(&mut fits);
        let place = if last_fits { Some(self.last) } else { self.known.iter().position(fits) };
        let Some(place) = place else { return false };
        self.last = place;
        self.known[place].used = self.tried;
        true
    }

    /// Like [`locate`](Self::locate) for [`GROUP`] records at once, `found` holding the fields of one
    /// after the other. After a miss each may still hit by itself.
    #[inline]
    pub fn locate_group(&mut self, records: [Padded<'_>; GROUP], found: &mut [Located]) -> bool {
        let Some(known) = self.known.get_mut(self.last) else { return false };
        if self.resting > 0 || !self.kernel.locate(&known.layout, records, found) {
            return false;
        }
        self.tried += GROUP as u64;
        self.watched += GROUP as u32;
        known.used = self.tried;
        true
    }

    /// Learns the layout of a record that missed and that the full parser has accepted.
    pub fn learn(&mut self, record: &[u8], found: &[Located]) {
        if self.resting > 0 {
            return;
        }
        self.missed += 1;
        if self.watched >= WATCHED {
            let pays = self.missed * 2 < self.watched;
            (self.watched, self.missed) = (0, 0);
            if pays {
                self.next_rest = REST.0;
            } else {
                self.resting = self.next_rest;
                self.next_rest = (self.next_rest * 2).min(REST.1);
                return;
            }
        }
        let Some(layout) = Layout::learn(self.kernel.width(), record, found) else { return };
        while !self.known.is_empty() && (self.known.len() == LAYOUTS_MAX || self.is_full_with(&layout)) {
            let oldest = (0..self.known.len()).min_by_key(|place| self.known[*place].used).unwrap_or(0);
            self.known.swap_remove(oldest);
        }
        if !self.is_full_with(&layout) {
            self.last = self.known.len();
            self.known.push(Known { layout, used: self.tried });
        }
    }

    fn is_full_with(&self, layout: &Layout) -> bool {
        let held: usize = self.known.iter().map(|known| known.layout.byte_len()).sum();
        held + layout.byte_len() > LAYOUT_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::super::Projection;
    use super::*;
    use crate::raw::PADDING;
    use proptest::prelude::*;

    const RECORDS: [&str; 8] = [
        r#"{"id":"a1","t":"2026-01-01T00:00:00.000Z","p":{"page":"home","n":12,"ok":true},"m":{"ip":"10.0.0.1"}}"#,
        r#"{ "t" : 17 , "p" : { "page" : null , "x" : [1, "two", {}, [], -3.5e1] } , "id" : "b" }"#,
        r#"{"id":"","p":{"page":"\u00e9\n","n":-0},"extra":{"a":[{"b":"c"}]}}"#,
        r#"{"p":{"page":"é","n":0.5},"id":false}"#,
        r#"{"n":{},"id":12345678901234567890,"p":{}}"#,
        "[1]",
        r#"{"id":"x"} "#,
        r#"{"a:b":":","id":":\":","p":{"page":","}}"#,
    ];

    fn projection() -> Projection {
        let paths = ["id", "p.page", "p.n", "t"].map(|path| path.split('.').map(str::to_owned).collect());
        Projection::new(&paths, 64)
    }

    /// A record with bytes replaced, inserted or removed, which may leave no JSON at all.
    fn mutated() -> impl Strategy<Value = Vec<u8>> {
        let edit = (
            any::<prop::sample::Index>(),
            0_u8..3,
            prop::sample::select(b"\"\\{}[],:0123456789.-eE tfn\x01\xc3x".to_vec()),
        );
        (0..RECORDS.len(), proptest::collection::vec(edit, 0..4)).prop_map(|(base, edits)| {
            let mut record = RECORDS[base].as_bytes().to_vec();
            for (place, edit, byte) in edits {
                let at = place.index(record.len());
                match edit {
                    0 => record[at] = byte,
                    1 => record.insert(at, byte),
                    _ if record.len() > 1 => {
                        record.remove(at);
                    }
                    _ => {}
                }
            }
            record
        })
    }

    /// The record, followed by `more`.
    fn padded(record: &[u8], more: &[u8]) -> Vec<u8> {
        [record, more].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn a_layout_finds_what_the_full_parser_finds(
            records in proptest::collection::vec((mutated(), 0..RECORDS.len()), 1..12),
            zeros in any::<bool>(),
        ) {
            let projection = projection();
            for kernel in Kernel::available() {
                let mut layouts = Layouts::new(kernel);
                for (record, next) in records.iter().filter(|(record, _)| std::str::from_utf8(record).is_ok()) {
                    let after = if zeros { vec![0; PADDING] } else { RECORDS[*next].as_bytes().repeat(PADDING) };
                    let bytes = padded(record, &after);
                    let (mut fast, mut full) = (vec![None; 4], vec![None; 4]);
                    let hit = layouts.locate(Padded::new(&bytes, record.len()).expect("padded"), &mut fast);
                    let accepted = projection.locate(record, &mut full);
                    if hit {
                        prop_assert_eq!(accepted, Ok(()), "{}", String::from_utf8_lossy(record));
                        prop_assert_eq!(fast, full);
                    } else if accepted.is_ok() {
                        layouts.learn(record, &full);
                        let mut again = vec![None; 4];
                        if layouts.locate(Padded::new(&bytes, record.len()).expect("padded"), &mut again) {
                            prop_assert_eq!(again, full);
                        }
                    }
                }
            }
        }
    }

    fn taught(record: &str) -> Layouts {
        let mut layouts = Layouts::new(Kernel::chosen());
        teach(&mut layouts, record);
        layouts
    }

    fn teach(layouts: &mut Layouts, record: &str) {
        let mut found = vec![None; 4];
        projection().locate(record.as_bytes(), &mut found).expect("JSON");
        layouts.learn(record.as_bytes(), &found);
    }

    fn hits(layouts: &mut Layouts, record: &str) -> Option<Vec<Located>> {
        let mut found = vec![None; 4];
        let bytes = padded(record.as_bytes(), &[0; PADDING]);
        layouts.locate(Padded::new(&bytes, record.len())?, &mut found).then_some(found)
    }

    #[test]
    fn records_of_one_layout_hit_and_others_do_not() {
        let mut layouts = taught(RECORDS[0]);
        let same =
            RECORDS[0].replace("home", "a longer page with \\\"escapes\\\"").replace("12", "7").replace("true", "null");
        let page = hits(&mut layouts, &same).expect("a hit")[1].expect("located");
        assert_eq!(&same[page.start as usize..page.end as usize], "a longer page with \\\"escapes\\\"");
        for other in [&RECORDS[0].replace("home", "ho\\me"), &RECORDS[0].replace("12", "012"), RECORDS[3]] {
            assert_eq!(hits(&mut layouts, other), None, "{other}");
        }
    }

    #[test]
    fn numbers_of_every_form_fit_one_layout() {
        let mut layouts = taught(RECORDS[0]);
        for number in ["0", "-0", "1234567", "12345678", "123456789012345678901234567890", "1.5", "-2e+10", "0.0E-1"] {
            assert!(hits(&mut layouts, &RECORDS[0].replace("12", number)).is_some(), "{number}");
        }
        for wrong in ["01", "1.", ".5", "1e", "+1", "--1", "", "1x", &"1".repeat(2000)] {
            assert_eq!(hits(&mut layouts, &RECORDS[0].replace("12", wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn a_record_cut_off_does_not_borrow_from_the_next() {
        let mut layouts = taught(RECORDS[0]);
        for len in 0..RECORDS[0].len() {
            let bytes = padded(RECORDS[0].as_bytes(), RECORDS[0].as_bytes());
            let cut = Padded::new(&bytes, len).expect("padded");
            assert!(!layouts.locate(cut, &mut [None; 4]), "{len}");
        }
    }

    #[test]
    fn the_layouts_used_last_are_kept() {
        let record = |number: usize| format!("{{\"field{number}\":1}}");
        let mut layouts = Layouts::new(Kernel::chosen());
        for number in 0..LAYOUTS_MAX + 5 {
            teach(&mut layouts, &record(number));
            assert!(hits(&mut layouts, &record(0)).is_some());
        }
        assert_eq!(layouts.known.len(), LAYOUTS_MAX);
        assert_eq!(hits(&mut layouts, &record(1)), None);
        assert!(hits(&mut layouts, &record(LAYOUTS_MAX)).is_some());
    }

    #[test]
    fn layouts_rest_where_they_do_not_pay_and_are_tried_again() {
        let mut layouts = Layouts::new(Kernel::chosen());
        let mut number = 0;
        while layouts.resting == 0 {
            let record = format!("{{\"field{number}\":1}}");
            assert_eq!(hits(&mut layouts, &record), None);
            teach(&mut layouts, &record);
            number += 1;
        }
        assert_eq!((number, layouts.resting), (WATCHED as usize, REST.0));
        for _ in 0..REST.0 {
            assert_eq!(hits(&mut layouts, RECORDS[0]), None);
        }
        teach(&mut layouts, RECORDS[0]);
        assert!(hits(&mut layouts, RECORDS[0]).is_some());
    }

    #[test]
    fn what_layouts_take_is_bounded() {
        for kernel in Kernel::available() {
            let mut layouts = Layouts::new(kernel);
            let name = |letter: &str| letter.repeat(200 * kernel.width());
            for number in 0..200 {
                let record = format!("{{\"{}\":1,\"{}{number}\":2}}", name("x"), name("y"));
                teach(&mut layouts, &record);
                hits(&mut layouts, &record);
            }
            let held: usize = layouts.known.iter().map(|known| known.layout.byte_len()).sum();
            assert!((1..=LAYOUT_BYTES_MAX).contains(&held), "{kernel:?}: {held}");
            teach(&mut layouts, &format!("{{\"{}\":1}}", name("x").repeat(3)));
            assert!(layouts.known.len() <= LAYOUTS_MAX, "{kernel:?}");
        }
    }
}
