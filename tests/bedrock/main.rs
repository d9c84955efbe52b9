//! Bedrock's answers and bounds, judged from outside: fixtures cut at every byte, and a provider that makes the most of every request.

mod bound;
mod streams;
mod wire;
