//! The fields of Gemini's requests, message by message, and what each does to the bill. Names in camel case; the snake case of each
//! is known too. The whole body counts as prompt, by its bytes, so a field that only adds text is [`Rule::Free`].

use crate::provider::fields::Rule::{self, Denied, Free, Read};

const NOT_KNOWN: &str = "what it adds to the prompt is not known";
const OTHER_MODEL: &str = "it may choose another model than the one that was priced";

/// `generateContent` and `streamGenerateContent`.
pub const REQUEST: &[(&str, Rule)] = &[
    ("model", Read),
    ("contents", Read),
    ("systemInstruction", Read),
    ("tools", Read),
    ("toolConfig", Free),
    ("safetySettings", Free),
    ("generationConfig", Read),
    ("cachedContent", Read),
    ("serviceTier", Read),
    ("continuationToken", Read),
    ("labels", Free),
    ("store", Free),
];

/// A content: what one side says.
pub const CONTENT: &[(&str, Rule)] = &[("parts", Read), ("role", Free)];

/// A part of a content.
pub const PART: &[(&str, Rule)] = &[
    ("text", Free),
    ("inlineData", Read),
    ("fileData", Read),
    ("functionCall", Free),
    ("functionResponse", Read),
    ("executableCode", Free),
    ("codeExecutionResult", Free),
    ("thought", Free),
    ("thoughtSignature", Read),
    ("videoMetadata", Free),
    ("mediaResolution", Read),
    ("toolCall", Free),
    ("toolResponse", Free),
    ("partMetadata", Free),
    ("mediaProcessing", Denied("the model may look at the media again and again")),
    ("audioTranscription", Denied(NOT_KNOWN)),
    ("speechMetadata", Denied(NOT_KNOWN)),
    ("documentMetadata", Denied(NOT_KNOWN)),
    ("spreadsheetMetadata", Denied(NOT_KNOWN)),
    ("audioMetadata", Denied(NOT_KNOWN)),
];

/// Media inside the request.
pub const BLOB: &[(&str, Rule)] = &[("mimeType", Read), ("data", Read), ("displayName", Free)];

/// Media outside it.
pub const FILE: &[(&str, Rule)] = &[("mimeType", Free), ("fileUri", Free), ("displayName", Free)];

/// How closely media is looked at.
pub const RESOLUTION: &[(&str, Rule)] = &[("level", Free), ("numTokens", Read)];

/// What a function of the client returned.
pub const FUNCTION_RESPONSE: &[(&str, Rule)] =
    &[("id", Free), ("name", Free), ("response", Free), ("parts", Read), ("willContinue", Free), ("scheduling", Free)];

/// A tool.
pub const TOOL: &[(&str, Rule)] = &[
    ("functionDeclarations", Read),
    ("googleSearch", Read),
    ("googleMaps", Read),
    ("urlContext", Read),
    ("codeExecution", Read),
    ("fileSearch", Read),
    ("googleSearchRetrieval", Denied("it is the search tool of models that are gone; use `googleSearch`")),
    ("computerUse", Denied("what it adds to the prompt has no bound")),
    ("mcpServers", Denied("what the servers answer is billed as input, and has no bound")),
    ("retrieval", Denied(NOT_KNOWN)),
    ("enterpriseWebSearch", Denied("it is billed by the call")),
    ("parallelAiSearch", Denied("it is billed by the call")),
    ("exaAiSearch", Denied("it is billed by the call")),
];

/// A function that the client runs.
pub const FUNCTION: &[(&str, Rule)] = &[
    ("name", Free),
    ("description", Free),
    ("parameters", Read),
    ("parametersJsonSchema", Read),
    ("response", Read),
    ("responseJsonSchema", Read),
    ("behavior", Free),
];

/// The settings of a generation.
pub const CONFIG: &[(&str, Rule)] = &[
    ("maxOutputTokens", Read),
    ("candidateCount", Read),
    ("thinkingConfig", Read),
    ("responseModalities", Read),
    ("responseSchema", Read),
    ("responseJsonSchema", Read),
    ("temperature", Free),
    ("topP", Free),
    ("topK", Free),
    ("stopSequences", Free),
    ("responseLogprobs", Free),
    ("logprobs", Free),
    ("presencePenalty", Free),
    ("frequencyPenalty", Free),
    ("seed", Free),
    ("responseMimeType", Free),
    ("mediaResolution", Free),
    ("speechConfig", Free),
    ("imageConfig", Free),
    ("audioTimestamp", Free),
    ("enableEnhancedCivicAnswers", Free),
    ("audioTranscriptionConfig", Free),
    (
        "responseFormat",
        Denied("it may ask for media; use `responseModalities`, `responseMimeType` and `responseSchema`"),
    ),
    ("routingConfig", Denied(OTHER_MODEL)),
    ("modelConfig", Denied(OTHER_MODEL)),
    ("modelSelectionConfig", Denied(OTHER_MODEL)),
];

/// Thinking is inside `maxOutputTokens`, whatever its budget or level.
pub const THINKING: &[(&str, Rule)] = &[("includeThoughts", Free), ("thinkingBudget", Free), ("thinkingLevel", Free)];

/// `embedContent`, and one entry of `batchEmbedContents`.
pub const EMBED: &[(&str, Rule)] =
    &[("model", Read), ("content", Read), ("taskType", Free), ("title", Free), ("outputDimensionality", Free)];

/// `batchEmbedContents`.
pub const BATCH_EMBED: &[(&str, Rule)] = &[("model", Read), ("requests", Read)];
