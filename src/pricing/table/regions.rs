//! Bedrock: the same model has another price in another region.

use std::ops::Bound;
use std::sync::Arc;

use super::PriceTable;
use crate::money::Rate;
use crate::pricing::ModelPrice;

/// Regions in which a model costs what its row without a region says.
const LIST_REGIONS: [&str; 3] = ["us-east-1", "us-east-2", "us-west-2"];

/// Geographies of inference profiles, as model ids begin with them.
const GEOGRAPHIES: [&str; 8] = ["us.", "eu.", "apac.", "jp.", "au.", "in.", "us-gov.", "global."];

impl PriceTable {
    /// The row that prices a Bedrock model id as it stands in the path of a request to `region`; `api` is `bedrock` or
    /// `bedrock_mantle`.
    ///
    /// A row of that region wins (`bedrock/eu-west-2/MODEL`). A geography in the id says all (`us.MODEL`, `global.MODEL`). Otherwise the
    /// dearest row is taken of the bare id, of the region's geographies and, outside the regions of the list price, of the model's other
    /// regions. Government regions have rows of their own, or no price.
    pub fn for_region(&self, api: &str, region: &str, model: &str) -> Option<&Arc<ModelPrice>> {
        if let Some(row) = self.get(&format!("{api}/{region}/{model}")) {
            return Some(row);
        }
        let is_gov = region.starts_with("us-gov-");
        if GEOGRAPHIES.iter().any(|geography| model.starts_with(geography)) {
            return self.get(&format!("{api}/{model}"));
        }
        if is_gov {
            return self.get(&format!("{api}/us-gov.{model}"));
        }
        let bare = self.get(&format!("{api}/{model}"));
        let in_geography =
            geographies(region).iter().filter_map(|geography| self.get(&format!("{api}/{geography}{model}")));
        let is_list = LIST_REGIONS.contains(&region);
        let start = format!("{api}/");
        let from = (Bound::Included(start.as_str()), Bound::Unbounded);
        let elsewhere =
            self.rows.range::<str, _>(from).map(|(_, row)| row).take_while(|row| row.id.starts_with(&start));
        let elsewhere = elsewhere.filter(|row| {
            let place = row.id[start.len()..].strip_suffix(model).and_then(|place| place.strip_suffix('/'));
            !is_list && place.is_some_and(|place| !place.is_empty() && !place.starts_with("us-gov-"))
        });
        bare.into_iter().chain(in_geography).chain(elsewhere).max_by_key(|row| dearness(row))
    }
}

fn geographies(region: &str) -> &'static [&'static str] {
    let begins = |start: &str| region.starts_with(start);
    match () {
        () if begins("us-") || begins("ca-") => &["us."],
        () if begins("eu-") => &["eu."],
        () if begins("ap-northeast-") => &["jp.", "apac."],
        () if begins("ap-southeast-") => &["au.", "apac."],
        () if begins("ap-south-") => &["in.", "apac."],
        () if begins("ap-") => &["apac."],
        () => &["us.", "eu.", "apac.", "jp.", "au.", "in."],
    }
}

fn dearness(row: &ModelPrice) -> (Rate, Rate) {
    (row.standard.short.output, row.standard.short.input)
}
