//! Where a call stands in a trace, as W3C Trace Context has it.

use crate::secret::random_bytes;

/// The trace that a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub id: [u8; 16],
    /// The client's span, where the client named one.
    pub parent: Option<[u8; 8]>,
    /// Whether spans are recorded.
    pub sampled: bool,
}

impl Trace {
    /// Reads a `traceparent`. `None` for everything that is not exactly one: then the call starts a trace of its own.
    pub fn parse(text: &str) -> Option<Trace> {
        let parts: Vec<&str> = text.split('-').take(5).collect();
        let [version, id, parent, flags, rest @ ..] = parts.as_slice() else { return None };
        let version = hex::<1>(version)?;
        // Version 0 ends here; a later one may add fields.
        if version == [0xff] || (version == [0] && !rest.is_empty()) {
            return None;
        }
        let (id, parent, [flags]) = (hex::<16>(id)?, hex::<8>(parent)?, hex::<1>(flags)?);
        let named = id != [0; 16] && parent != [0; 8];
        named.then_some(Trace { id, parent: Some(parent), sampled: flags & 1 == 1 })
    }

    /// A new trace, recorded for so many of a hundred. `None` when the system has no random numbers.
    pub fn start(sample_percent: u64) -> Option<Trace> {
        let id = random_bytes::<16>().ok()?;
        let dice = id[8..].iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        let sampled = dice * 100 < u128::from(sample_percent) << 64;
        Some(Trace { id, parent: None, sampled })
    }
}

/// Exactly `N` bytes in lower-case hexadecimal.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_strictly() {
        const ID: &str = "0af7651916cd43dd8448eb211c80319c";
        const SPAN: &str = "b7ad6b7169203331";
        let good = Trace::parse(&format!("00-{ID}-{SPAN}-01")).unwrap();
        assert_eq!((good.id[0], good.id[15], good.parent.unwrap()[7], good.sampled), (0x0a, 0x9c, 0x31, true));
        assert!(!Trace::parse(&format!("00-{ID}-{SPAN}-02")).unwrap().sampled);
        assert!(Trace::parse(&format!("01-{ID}-{SPAN}-01-more")).is_some(), "a later version may say more");
        for bad in [
            String::new(),
            format!("ff-{ID}-{SPAN}-01"),
            format!("00-{ID}-{SPAN}-01-more"),
            format!("00-{ID}-{SPAN}"),
            format!("00-{}-{SPAN}-01", ID.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{ID}-{}-01", "0".repeat(16)),
            format!("00-{ID}0-{SPAN}-01"),
            format!("00-{ID}-{SPAN}-1"),
            format!("00-{ID}-{SPAN}-é"),
            format!(" 00-{ID}-{SPAN}-01"),
            "-".repeat(10_000),
        ] {
            assert_eq!(Trace::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn so_many_of_a_hundred_are_sampled() {
        let sampled = |percent| (0..2000).filter(|_| Trace::start(percent).unwrap().sampled).count();
        assert_eq!((sampled(0), sampled(100)), (0, 2000));
        // A thousand are expected; 200 more or fewer are nine standard deviations away.
        assert!((800..1200).contains(&sampled(50)));
    }
}
