//! Which variables the providers' SDKs, and what is built on them, read. `docs/CLI.md` names the source of each.

use crate::config::BaseUrl;
use crate::secret::Secret;

/// A provider of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name: the first segment of its paths.
    pub name: String,
    /// Whose API it speaks.
    pub api: String,
    /// Its region, where one is set.
    pub region: Option<String>,
}

impl Target {
    /// A provider.
    pub fn new(name: &str, api: &str, region: Option<&str>) -> Self {
        Target { name: name.into(), api: api.into(), region: region.map(String::from) }
    }
}

/// What the command gets beyond what this process has.
pub struct Child {
    base: String,
    key: Secret,
    /// Set to a value, or removed, in this order.
    pub variables: Vec<(String, Option<String>)>,
    /// Arguments that go before the command's own.
    pub arguments: Vec<String>,
}

impl Child {
    /// Nothing yet.
    pub fn new(gateway: &BaseUrl, key: &Secret) -> Self {
        Child { base: gateway.to_string(), key: key.clone(), variables: Vec::new(), arguments: Vec::new() }
    }

    /// The gateway's address for a provider, and what follows it.
    pub fn url(&self, target: &Target, rest: &str) -> String {
        format!("{}/{}{rest}", self.base, target.name)
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.push((name.into(), Some(value.into())));
    }

    /// Sets a variable to the key.
    pub fn set_key(&mut self, name: &str) {
        let key = self.key.expose().to_string();
        self.set(name, key);
    }

    /// Removes variables that would lead around the gateway.
    pub fn remove(&mut self, names: &[&str]) {
        self.variables.extend(names.iter().map(|name| (name.to_string(), None)));
    }

    /// Points the SDKs of a provider at the gateway.
    pub fn point(&mut self, target: &Target) {
        match target.api.as_str() {
            "openai" => {
                let url = self.url(target, "/v1");
                self.set("OPENAI_BASE_URL", &*url);
                self.set("OPENAI_API_BASE", url);
                self.set_key("OPENAI_API_KEY");
            }
            "anthropic" => {
                let url = self.url(target, "");
                self.set("ANTHROPIC_BASE_URL", &*url);
                self.set("ANTHROPIC_API_BASE", url);
                self.set_key("ANTHROPIC_API_KEY");
                self.remove(&["ANTHROPIC_AUTH_TOKEN"]);
            }
            "gemini" => {
                let (url, versioned) = (self.url(target, ""), self.url(target, "/v1beta"));
                self.set("GOOGLE_GEMINI_BASE_URL", url);
                self.set("GEMINI_API_BASE", versioned);
                self.set_key("GEMINI_API_KEY");
                self.set_key("GOOGLE_API_KEY");
                self.remove(&["GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE", "GOOGLE_GENAI_USE_GCA"]);
            }
            "mistral" => {
                let url = self.url(target, "/v1");
                self.set("MISTRAL_API_BASE", &*url);
                self.set("MISTRAL_BASE_URL", url);
                self.set_key("MISTRAL_API_KEY");
            }
            "azure" => {
                let url = self.url(target, "");
                self.set("AZURE_OPENAI_ENDPOINT", &*url);
                self.set("AZURE_API_BASE", url);
                self.set_key("AZURE_OPENAI_API_KEY");
                self.set_key("AZURE_API_KEY");
                self.remove(&["AZURE_OPENAI_AD_TOKEN", "AZURE_AD_TOKEN"]);
            }
            "bedrock" => {
                let url = self.url(target, "");
                self.set("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", &*url);
                self.set("ANTHROPIC_BEDROCK_BASE_URL", url);
                self.set_key("AWS_BEARER_TOKEN_BEDROCK");
                if let Some(region) = &target.region {
                    self.set("AWS_REGION", region.clone());
                }
            }
            _ => {}
        }
    }
}
