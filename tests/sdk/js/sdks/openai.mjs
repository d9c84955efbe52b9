// OpenAI's SDK for JavaScript: chat completions and embeddings, responses, legacy completions; with OpenAI and with Azure.

import OpenAI, { AzureOpenAI } from 'openai';
import { WEATHER } from '../suite.mjs';

const COMPLETION_MODEL = 'gpt-3.5-turbo-instruct';
const ask = (model, content) => ({ model, messages: [{ role: 'user', content }] });
const tools = [
  { type: 'function', function: { name: WEATHER.name, description: WEATHER.description, parameters: WEATHER.schema } },
];

const shared = {
  package: 'openai',
  provider: 'openai',
  refused: ['APIError'],
  cut: ['APIError'],
  badRequest: ['BadRequestError'],
  dropped: ['APIError'],
  open: (base, apiKey) => new OpenAI({ baseURL: `${base}/v1`, apiKey }),
  status: (error) => error.status,
  detail: (error) => error.error.loopers,

  async free(client, input) {
    const { input_tokens: tokens } = await client.responses.inputTokens.count({ model: 'gpt-4o-mini', input });
    return { models: (await client.models.list()).data.map((found) => found.id), tokens };
  },
};

/** Chat completions with a model, or with the name of its deployment. */
const chat = (name, model, embeddingModel) => ({
  ...shared,
  name,
  cutDaily: '0.001',

  async plain(client, text) {
    const { choices, usage } = await client.chat.completions.create(ask(model, text));
    const [{ message, finish_reason: reason }] = choices;
    return { text: message.content, tokens: usage.completion_tokens, natural: reason === 'stop' };
  },

  async *stream(client, text, { maxTokens, signal }) {
    const asked = { ...ask(model, text), stream: true, stream_options: { include_usage: true }, max_tokens: maxTokens };
    let natural = false;
    for await (const { choices, usage } of await client.chat.completions.create(asked, { signal })) {
      if (choices[0]?.finish_reason) natural = choices[0].finish_reason === 'stop';
      yield { text: choices[0]?.delta.content };
      if (usage) yield { final: { tokens: usage.completion_tokens, natural } };
    }
  },

  async tool(client, text, streamed) {
    const asked = { ...ask(model, text), tools };
    const completion = streamed
      ? await client.chat.completions.stream(asked).finalChatCompletion()
      : await client.chat.completions.create(asked);
    return completion.choices[0].message.tool_calls[0].function.name;
  },

  async embed(client, input) {
    return (await client.embeddings.create({ model: embeddingModel, input })).data.map((item) => item.embedding);
  },
});

const respond = (model, input, maxTokens = 1000) => ({ model, input, max_output_tokens: maxTokens });

const responses = (name, model) => ({
  ...shared,
  name,
  cutDaily: '0.001',

  async plain(client, text) {
    const { output_text: found, usage, status } = await client.responses.create(respond(model, text));
    return { text: found, tokens: usage.output_tokens, natural: status === 'completed' };
  },

  async *stream(client, text, { maxTokens = 10_000, signal }) {
    const events = await client.responses.create({ ...respond(model, text, maxTokens), stream: true }, { signal });
    for await (const { type, delta, response } of events) {
      yield { text: type === 'response.output_text.delta' ? delta : undefined };
      if (['response.completed', 'response.incomplete', 'response.failed'].includes(type)) {
        yield { final: { tokens: response.usage?.output_tokens, natural: type === 'response.completed' } };
      }
    }
  },

  async tool(client, text, streamed) {
    const { name, description, schema: parameters } = WEATHER;
    const asked = { ...respond(model, text), tools: [{ type: 'function', name, description, parameters, strict: false }] };
    const response = streamed
      ? await client.responses.stream(asked).finalResponse()
      : await client.responses.create(asked);
    return response.output.find((item) => item.type === 'function_call').name;
  },
});

const complete = (prompt, maxTokens = 1000) => ({ model: COMPLETION_MODEL, prompt, max_tokens: maxTokens });

const completions = {
  ...shared,
  name: 'openai completions',
  cutDaily: '0.004',

  async plain(client, text) {
    const { choices, usage } = await client.completions.create(complete(text));
    return { text: choices[0].text, tokens: usage.completion_tokens, natural: choices[0].finish_reason === 'stop' };
  },

  async *stream(client, text, { maxTokens = 3000, signal }) {
    const asked = { ...complete(text, maxTokens), stream: true, stream_options: { include_usage: true } };
    let natural = false;
    for await (const { choices, usage } of await client.completions.create(asked, { signal })) {
      if (choices[0]?.finish_reason) natural = choices[0].finish_reason === 'stop';
      yield { text: choices[0]?.text };
      if (usage) yield { final: { tokens: usage.completion_tokens, natural } };
    }
  },
};

/** Azure's free routes, and its client: the deployment is in the path. */
const onAzure = {
  provider: 'azure',
  billsErrors: true,
  open: (endpoint, apiKey) => new AzureOpenAI({ endpoint, apiKey, apiVersion: '2025-04-01-preview' }),
  free: async (client) => ({ models: (await client.models.list()).data.map((found) => found.id) }),
};
const azureChat = (name) => chat(name, 'my-gpt-4o-mini', 'my-text-embedding-3-large');

export default [
  chat('openai', 'gpt-4o-mini', 'text-embedding-3-small'),
  responses('openai responses', 'gpt-4o-mini'),
  completions,
  { ...azureChat('openai azure'), ...onAzure },
  { ...responses('openai azure responses', 'my-gpt-4o-mini'), ...onAzure },
  // The plain client: the deployment is in the body.
  {
    ...azureChat('openai azure v1'),
    ...onAzure,
    open: (base, apiKey) => new OpenAI({ baseURL: `${base}/openai/v1`, apiKey }),
  },
];
