//! What a request did wrong, before any dialect has given it a shape.

/// An error answer. The fields are those of OpenAI's error object; the other dialects make theirs of it.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// For people.
    pub message: String,
    /// OpenAI's `type` field.
    pub kind: &'static str,
    /// The request field at fault.
    pub param: Option<String>,
    /// For programs.
    pub code: Option<&'static str>,
}

impl ApiError {
    /// A 400 that blames `param`.
    pub fn bad(param: &str, code: Option<&'static str>, message: impl Into<String>) -> ApiError {
        let param = (!param.is_empty()).then(|| param.to_owned());
        ApiError { status: 400, message: message.into(), kind: "invalid_request_error", param, code }
    }

    /// No such path.
    pub fn no_route(method: &str, path: &str) -> ApiError {
        ApiError::bad("", None, format!("Invalid URL ({method} {path})")).with_status(404)
    }

    /// What a script's `status=` asks for.
    pub fn scripted(status: u16) -> ApiError {
        let (kind, code) = match status {
            429 => ("requests", Some("rate_limit_exceeded")),
            500.. => ("server_error", None),
            _ => ("invalid_request_error", None),
        };
        let message = format!("mock: status {status}, as the script asks");
        ApiError { status, message, kind, param: None, code }
    }

    /// The provider fails while it generates.
    pub fn failing() -> ApiError {
        let message = "The server had an error while processing your request. Sorry about that!";
        ApiError { status: 500, message: message.into(), kind: "server_error", param: None, code: None }
    }

    /// Another status.
    pub fn with_status(mut self, status: u16) -> ApiError {
        self.status = status;
        self
    }
}
