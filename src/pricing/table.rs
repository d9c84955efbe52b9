//! The price table. Stub.

use std::sync::Arc;

use super::ModelPrice;

/// All prices in force, by `provider/model`.
#[derive(Clone, Debug, Default)]
pub struct PriceTable {}

impl PriceTable {
    /// The row of `provider/model`.
    pub fn get(&self, _id: &str) -> Option<&Arc<ModelPrice>> {
        None
    }
}
