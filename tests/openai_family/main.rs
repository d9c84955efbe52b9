//! The OpenAI family: answers of every API, cut at every byte; invoices against holds; paths that must be no routes.

mod fixtures;
mod invoices;
mod paths;
mod support;
