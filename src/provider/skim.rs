//! The top level of a JSON object of any size, in constant memory.

/// The most that is kept.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Copies a JSON object with the content of its top-level arrays left out: `{"data":[],"usage":{…}}`.
#[derive(Debug, Default)]
pub struct Skim {
    /// What is kept. Cut short, and so no JSON, when it would be too much.
    pub kept: Vec<u8>,
    /// The bytes that came in all.
    pub bytes: u64,
    /// True when something stood in the arrays, which was left out.
    pub has_gaps: bool,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// Inside a top-level array.
    in_array: bool,
}

impl Skim {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for &byte in bytes {
            let was_in_array = self.in_array;
            self.byte(byte);
            // An array's own brackets are kept.
            if was_in_array && self.in_array {
                self.has_gaps |= !byte.is_ascii_whitespace();
            } else if self.kept.len() < KEPT_BYTES_MAX {
                self.kept.push(byte);
            }
        }
    }

    fn byte(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.depth += 1;
                self.in_array |= self.depth == 2 && byte == b'[';
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.in_array &= self.depth >= 2;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_top_level_is_kept() {
        let text = r#"{"a":[[1,"]"],{"x":[2]}],"b":{"c":[3]},"s":"[\"{","d":[],"usage":{"n":1}}"#;
        let want = r#"{"a":[],"b":{"c":[3]},"s":"[\"{","d":[],"usage":{"n":1}}"#;
        let mut whole = Skim::default();
        whole.push(text.as_bytes());
        assert_eq!(String::from_utf8_lossy(&whole.kept), want);
        let mut split = Skim::default();
        text.as_bytes().iter().for_each(|byte| split.push(&[*byte]));
        assert_eq!(split.kept, whole.kept);
        assert_eq!(split.bytes, text.len() as u64);
        assert!(whole.has_gaps && split.has_gaps);
    }

    #[test]
    fn what_is_kept_whole_has_no_gaps() {
        let text = r#"{"a":[ ],"b":{"c":[3]},"s":"[1]"}"#;
        let mut skim = Skim::default();
        skim.push(text.as_bytes());
        assert!(!skim.has_gaps);
        skim.push(br#"{"a":[0]}"#);
        assert!(skim.has_gaps);
    }
}
