//! How long a JSON schema becomes when every `$ref` is written out, as a provider may do when it puts a schema into the prompt.

use std::collections::HashMap;

use crate::wire::json::Value;

/// More different targets than this are not followed.
const TARGETS_MAX: usize = 256;

/// The bytes that full expansion adds to a schema. `None`: it has no end (recursion), or cannot be followed.
pub fn expansion(schema: Value<'_>) -> Option<u64> {
    if !schema.raw().contains("ref\"") && !schema.raw().contains("\\u") {
        return Some(0);
    }
    let mut walk = Walk { root: schema, known: HashMap::new() };
    walk.references(schema)
}

struct Walk<'a> {
    root: Value<'a>,
    /// The expanded size of each target; `None` while it is being expanded.
    known: HashMap<String, Option<u64>>,
}

impl<'a> Walk<'a> {
    /// The expanded size of all references in a value.
    fn references(&mut self, value: Value<'a>) -> Option<u64> {
        let mut targets = Vec::new();
        value.each_string(&mut |key, text| {
            if key == "$ref" || key == "$dynamicRef" || key == "$recursiveRef" {
                targets.extend(text.as_str());
            }
        });
        let mut sum: u64 = 0;
        for target in targets {
            sum = sum.checked_add(self.target(&target)?)?;
        }
        Some(sum)
    }

    fn target(&mut self, pointer: &str) -> Option<u64> {
        if let Some(size) = self.known.get(pointer) {
            return *size;
        }
        if self.known.len() >= TARGETS_MAX {
            return None;
        }
        let mut value = self.root;
        for step in pointer.strip_prefix("#/")?.split('/') {
            let step = step.replace("~1", "/").replace("~0", "~");
            value = value.get(&step)?;
        }
        self.known.insert(pointer.into(), None);
        let size = (value.raw().len() as u64).checked_add(self.references(value)?)?;
        self.known.insert(pointer.into(), Some(size));
        Some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::Document;

    fn expanded(text: &str) -> Option<u64> {
        expansion(Document::parse(bytes::Bytes::copy_from_slice(text.as_bytes())).unwrap().root())
    }

    #[test]
    fn references_are_written_out() {
        assert_eq!(expanded(r#"{"type":"object"}"#), Some(0));
        // {"type":"string"} has 17 bytes and stands twice.
        assert_eq!(
            expanded(r##"{"a":{"$ref":"#/$defs/X"},"b":{"$ref":"#/$defs/X"},"$defs":{"X":{"type":"string"}}}"##),
            Some(34)
        );
        // Y = {"$ref":"#/$defs/X"} (20) + X (17); the schema holds Y twice (74), and Y's own reference once (17).
        let nested = r##"{"a":[{"$ref":"#/$defs/Y"},{"$ref":"#/$defs/Y"}],"$defs":{"Y":{"$ref":"#/$defs/X"},"X":{"type":"string"}}}"##;
        assert_eq!(expanded(nested), Some(91));
        for endless in [
            r##"{"a":{"$ref":"#"}}"##,
            r##"{"$defs":{"X":{"x":{"$ref":"#/$defs/X"}}},"a":{"$ref":"#/$defs/X"}}"##,
            r##"{"$ref":"https://example.com/schema"}"##,
            r##"{"a":{"$r\u0065f":"#/a"}}"##,
        ] {
            assert_eq!(expanded(endless), None, "{endless}");
        }
    }

    #[test]
    fn a_bomb_of_references_is_counted_without_being_built() {
        let mut defs = String::from(r#""d0":{"type":"string"}"#);
        for level in 1..60 {
            let below = format!(r##"{{"$ref":"#/$defs/d{}"}}"##, level - 1);
            defs += &format!(r#","d{level}":[{below},{below},{below},{below}]"#);
        }
        let size = expanded(&format!(r##"{{"$ref":"#/$defs/d20","$defs":{{{defs}}}}}"##));
        assert!(size.is_none_or(|size| size > 1 << 40));
    }
}
