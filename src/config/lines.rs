//! On which line of a YAML text something stands.
//!
//! The parser tells where it stands only when something fails. So a second reading walks to the place and fails on purpose.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::file::Step;

/// See [`super::line_of`].
pub(super) fn of_field(text: &str, field: &str) -> Option<usize> {
    let path: Vec<Step> = field.split('.').map(|name| Step::Key(name.to_string())).collect();
    (1..=path.len()).rev().find_map(|steps| line_of(text, &path[..steps]))
}

/// The line on which the node at the end of `path` begins: that of its key, or of the list item.
pub(super) fn line_of(text: &str, path: &[Step]) -> Option<usize> {
    let error = Walk(path).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.location().map(|at| at.line())
}

struct Walk<'p>(&'p [Step]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the place that is looked for")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(name), rest)) = self.0.split_first() else { return Err(A::Error::custom("here")) };
        while let Some(found) = map.next_key_seed(Named { name, stop: rest.is_empty() })? {
            if found {
                map.next_value_seed(Walk(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((Step::Item(place), rest)) = self.0.split_first() else { return Err(A::Error::custom("here")) };
        for _ in 0..*place {
            seq.next_element::<IgnoredAny>()?;
        }
        seq.next_element_seed(Walk(rest))?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

struct Named<'p> {
    name: &'p str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Named<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        let found = key == self.name;
        if found && self.stop { Err(E::custom("here")) } else { Ok(found) }
    }
}

/// The line of the first key that its section has already. The parser itself only tells where the section begins.
pub(super) fn second_of_a_pair(text: &str) -> Option<usize> {
    let error = Pairs.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.location().map(|at| at.line())
}

struct Pairs;

impl<'de> DeserializeSeed<'de> for Pairs {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Values other than maps and lists: nothing to see.
macro_rules! pass_over {
    ($($visit:ident: $value:ty),+) => {
        $(fn $visit<E: serde::de::Error>(self, _: $value) -> Result<(), E> {
            Ok(())
        })+
    };
}

impl<'de> Visitor<'de> for Pairs {
    type Value = ();

    pass_over!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while map.next_key_seed(New(&mut seen))?.is_some() {
            map.next_value_seed(Pairs)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Pairs)?.is_some() {}
        Ok(())
    }
}

/// A key that was not seen before.
struct New<'s>(&'s mut BTreeSet<String>);

impl<'de> DeserializeSeed<'de> for New<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for New<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<(), E> {
        if self.0.insert(key.to_string()) { Ok(()) } else { Err(E::custom("here")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, path: &[&str]) -> Option<usize> {
        let path: Vec<Step> =
            path.iter().map(|step| step.parse().map_or_else(|_| Step::Key(step.to_string()), Step::Item)).collect();
        line_of(text, &path)
    }

    #[test]
    fn a_line_is_found_in_every_style_of_yaml() {
        let text = "# head\na: 1\nb:\n  c: x\n  d: [p,\n      q]\ne: { f: 1,\n  g: { h: 2 } }\n\"k\":\n  - one\n  - two: |\n      text\n    x: 1\n";
        for (path, expected) in [
            (&["a"][..], 2),
            (&["b"], 3),
            (&["b", "c"], 4),
            (&["b", "d"], 5),
            (&["b", "d", "0"], 5),
            (&["b", "d", "1"], 6),
            (&["e", "f"], 7),
            (&["e", "g", "h"], 8),
            (&["k", "0"], 10),
            (&["k", "1", "x"], 13),
        ] {
            assert_eq!(line(text, path), Some(expected), "{path:?}");
        }
    }

    #[test]
    fn the_nearest_section_stands_for_a_field_that_is_not_there() {
        let text = "listen: x\nproviders:\n  openai:\n    key: y\n";
        for (field, expected) in [
            ("providers.openai.key", Some(4)),
            ("providers.openai.ca_file", Some(3)),
            ("providers.gemini.key", Some(2)),
            ("ledger", None),
        ] {
            assert_eq!(of_field(text, field), expected, "{field}");
        }
    }

    #[test]
    fn the_second_of_two_equal_keys_is_found_in_its_own_section() {
        for (text, expected) in [
            ("a: 1\nb: 2\na: 3\n", Some(3)),
            ("p:\n  x: { a: 1 }\n  y: [1, ~, true, -1, 1.5]\n  x: {}\n", Some(4)),
            ("p: { a: 1 }\nq: { a: 1 }\n", None),
        ] {
            assert_eq!(second_of_a_pair(text), expected, "{text}");
        }
    }
}
