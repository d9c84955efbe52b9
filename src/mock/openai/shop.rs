//! Whose models OpenAI's routes sell: OpenAI's own, or Azure's, where deployments name them.

use serde_json::Value;

use super::super::error::ApiError;
use super::super::flow::Order;
use super::super::generate::Plan;
use super::super::prices::{Model, Provider};
use super::super::read::bare_model;
use super::super::script::Script;

/// A seller of OpenAI's models.
pub struct Shop {
    /// Whose prices.
    pub provider: Provider,
    /// The deployment that the path names.
    pub deployment: Option<String>,
}

impl Shop {
    /// OpenAI itself.
    pub fn openai() -> Shop {
        Shop { provider: Provider::Openai, deployment: None }
    }

    /// The model as the request names it.
    pub fn named(&self, body: &Value) -> Result<String, ApiError> {
        if let Some(deployment) = &self.deployment {
            return Ok(deployment.clone());
        }
        match body["model"].as_str().filter(|name| !name.is_empty()) {
            Some(name) => Ok(name.to_owned()),
            None => Err(ApiError::bad("model", None, "you must provide a model parameter")),
        }
    }

    /// The model of that name, and the name without a script in it.
    pub fn model(&self, named: &str, script: &Script) -> Result<(String, &'static Model), ApiError> {
        let name = bare_model(named);
        let scripted = script.model_as.as_deref().and_then(|name| self.provider.find(name));
        match (self.find(name), scripted) {
            (Ok(model), _) => Ok((name.to_owned(), model)),
            (Err(_), Some(model)) if self.provider == Provider::Azure => Ok((name.to_owned(), model)),
            (Err(error), _) => Err(error),
        }
    }

    /// The model of that name. A deployment stands for the model with the longest name that occurs in its own; if it
    /// starts with `us-` or `eu-`, in that data zone.
    pub fn find(&self, name: &str) -> Result<&'static Model, ApiError> {
        if let Some(model) = self.provider.find(name) {
            return Ok(model);
        }
        if self.provider == Provider::Azure {
            let zone = ["us", "eu"].into_iter().find(|zone| name.starts_with(&format!("{zone}-")));
            let inside = Provider::Azure.models().iter().filter(|m| name.contains(m.name));
            let Some(model) = inside.max_by_key(|m| m.name.len()) else {
                let message = "The API deployment for this resource does not exist. If you created the deployment \
                               within the last 5 minutes, please wait a moment and try again.";
                return Err(ApiError::bad("", Some("DeploymentNotFound"), message).with_status(404));
            };
            let zoned = zone.and_then(|zone| Provider::Azure.find(&format!("{zone}/{}", model.name)));
            return Ok(zoned.unwrap_or(model));
        }
        let message = format!("The model `{name}` does not exist or you do not have access to it.");
        Err(ApiError::bad("model", Some("model_not_found"), message).with_status(404))
    }

    /// What this seller does to every order: Azure's content filter refuses a prompt after having read it.
    pub fn finish(&self, order: &mut Order) {
        if self.provider == Provider::Azure && order.script.content_filter {
            let message = "The response was filtered due to the prompt triggering Azure OpenAI's content management \
                           policy. Please modify your prompt and retry.";
            order.refusal = Some(ApiError::bad("prompt", Some("content_filter"), message));
            order.facts.plan = Plan::nothing(order.facts.plan.seed);
        }
    }
}
