//! What kind of mistake a problem is: a short name that programs can go by, and tests.

/// Something wrong with one value, before it is known where the value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub code: &'static str,
    /// What is wrong, and what to write instead.
    pub text: String,
}

/// A value that is not of the form that its field needs. What no other code fits.
pub const INVALID_VALUE: &str = "invalid_value";
/// The config cannot be read.
pub const CONFIG_UNREADABLE: &str = "config_unreadable";
/// The text is not YAML.
pub const INVALID_YAML: &str = "invalid_yaml";
/// A field is given twice in one section: a provider, a limit.
pub const DUPLICATE_FIELD: &str = "duplicate_field";
/// A field that nobody asked for.
pub const UNKNOWN_FIELD: &str = "unknown_field";
/// An environment variable that is referred to is not set, or empty.
pub const MISSING_ENV: &str = "missing_env";
/// A secret stands in the config itself.
pub const SECRET_IN_CONFIG: &str = "secret_in_config";
/// A secret is there but cannot be used as one.
pub const UNUSABLE_SECRET: &str = "unusable_secret";
/// A file that is referred to cannot be read.
pub const UNREADABLE_FILE: &str = "unreadable_file";
/// An address of a provider that is none, or probably not meant.
pub const INVALID_BASE_URL: &str = "invalid_base_url";
/// A ledger that is none.
pub const INVALID_LEDGER: &str = "invalid_ledger";
/// Something wrong in a price file.
pub const INVALID_PRICE: &str = "invalid_price";
/// Two listeners on one port.
pub const SAME_PORT: &str = "same_port";
/// An admin token that may be guessed.
pub const WEAK_TOKEN: &str = "weak_token";

impl Fault {
    /// A fault of this kind.
    pub fn new(code: &'static str, text: impl Into<String>) -> Self {
        Fault { code, text: text.into() }
    }
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Fault::new(INVALID_VALUE, text)
    }
}

impl From<&str> for Fault {
    fn from(text: &str) -> Self {
        Fault::new(INVALID_VALUE, text)
    }
}
