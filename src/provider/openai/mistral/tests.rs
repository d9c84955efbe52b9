//! Mistral.
