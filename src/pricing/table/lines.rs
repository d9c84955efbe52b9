//! A YAML text as a tree that keeps duplicate keys and tells strings from numbers, and the lines on which its keys stand.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// The entries of a map, in order, duplicates included.
pub type Pairs = Vec<(String, Node)>;

/// A YAML value, as far as price files need it.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number that is not negative.
    Whole(u64),
    /// Any other number, in words.
    Number,
    /// A string: quoted, or of a form that is nothing else.
    Text(String),
    /// A list.
    List,
    /// A map.
    Map(Pairs),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map, a string, a whole number or a truth value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Whole(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(u64::try_from(value).map_or(Node::Number, Node::Whole))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Number)
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        while items.next_element::<Node>()?.is_some() {}
        Ok(Node::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut pairs = Pairs::new();
        while let Some(entry) = entries.next_entry()? {
            pairs.push(entry);
        }
        Ok(Node::Map(pairs))
    }
}

/// The line (from 1) of the last of these keys that can be found, each inside the one before. The first is a top-level key.
pub fn find(text: &str, keys: &[&str]) -> usize {
    let Some((model, fields)) = keys.split_first() else { return 1 };
    let lines: Vec<&str> = text.lines().collect();
    let Some(start) = lines.iter().position(|line| is_row(line, model)) else { return 1 };
    let length =
        lines[start + 1..].iter().take_while(|line| line.is_empty() || line.starts_with([' ', '#', '}'])).count();
    let (mut line, mut column) = (start, model.len());
    for field in fields {
        let found = (line..=start + length).find_map(|number| {
            let from = if number == line { column } else { 0 };
            Some((number, key_end(lines[number], from, field)?))
        });
        match found {
            Some(place) => (line, column) = place,
            None => break,
        }
    }
    line + 1
}

/// The line of the last row of that name.
pub fn find_last(text: &str, model: &str) -> usize {
    text.lines().enumerate().filter(|(_, line)| is_row(line, model)).last().map_or(1, |(number, _)| number + 1)
}

fn is_row(line: &str, model: &str) -> bool {
    let line = line.trim_start_matches(['"', '\'', '{', ' ']);
    // A name may go on with a colon (`…-v1:0`): the one that ends it is followed by a space or by nothing.
    let ends = |rest: &str| rest == ":" || rest.starts_with(": ");
    line.strip_prefix(model).is_some_and(|rest| ends(rest.trim_start_matches(['"', '\'', ' '])))
}

/// The column after `key:` in this line at or after `from`.
fn key_end(line: &str, from: usize, key: &str) -> Option<usize> {
    let rest = line.get(from..)?;
    let code = rest.split(" #").next()?;
    code.match_indices(key).find_map(|(at, _)| {
        let is_start = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let after = code[at + key.len()..].trim_start_matches(['"', '\'', ' ']);
        (is_start && after.starts_with(':')).then_some(from + at + key.len())
    })
}
