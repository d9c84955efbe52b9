// OpenAI's SDK for JavaScript: chat completions and embeddings, responses, legacy completions.

import OpenAI from 'openai';
import { WEATHER } from '../suite.mjs';

const MODEL = 'gpt-4o-mini';
const COMPLETION_MODEL = 'gpt-3.5-turbo-instruct';
const EMBEDDING_MODEL = 'text-embedding-3-small';
const ask = (content) => ({ model: MODEL, messages: [{ role: 'user', content }] });
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
};

const chat = {
  ...shared,
  name: 'openai',
  cutDaily: '0.001',

  async plain(client, text) {
    const { choices, usage } = await client.chat.completions.create(ask(text));
    const [{ message, finish_reason: reason }] = choices;
    return { text: message.content, tokens: usage.completion_tokens, natural: reason === 'stop' };
  },

  async *stream(client, text, { maxTokens, signal }) {
    const asked = { ...ask(text), stream: true, stream_options: { include_usage: true }, max_tokens: maxTokens };
    let natural = false;
    for await (const { choices, usage } of await client.chat.completions.create(asked, { signal })) {
      if (choices[0]?.finish_reason) natural = choices[0].finish_reason === 'stop';
      yield { text: choices[0]?.delta.content };
      if (usage) yield { final: { tokens: usage.completion_tokens, natural } };
    }
  },

  async tool(client, text, streamed) {
    const asked = { ...ask(text), tools };
    const completion = streamed
      ? await client.chat.completions.stream(asked).finalChatCompletion()
      : await client.chat.completions.create(asked);
    return completion.choices[0].message.tool_calls[0].function.name;
  },

  async embed(client, input) {
    return (await client.embeddings.create({ model: EMBEDDING_MODEL, input })).data.map((item) => item.embedding);
  },
};

const respond = (input, maxTokens = 1000) => ({ model: MODEL, input, max_output_tokens: maxTokens });

const responses = {
  ...shared,
  name: 'openai responses',
  cutDaily: '0.001',

  async plain(client, text) {
    const { output_text: found, usage, status } = await client.responses.create(respond(text));
    return { text: found, tokens: usage.output_tokens, natural: status === 'completed' };
  },

  async *stream(client, text, { maxTokens = 10_000, signal }) {
    const events = await client.responses.create({ ...respond(text, maxTokens), stream: true }, { signal });
    for await (const { type, delta, response } of events) {
      yield { text: type === 'response.output_text.delta' ? delta : undefined };
      if (['response.completed', 'response.incomplete', 'response.failed'].includes(type)) {
        yield { final: { tokens: response.usage?.output_tokens, natural: type === 'response.completed' } };
      }
    }
  },

  async tool(client, text, streamed) {
    const { name, description, schema: parameters } = WEATHER;
    const asked = { ...respond(text), tools: [{ type: 'function', name, description, parameters, strict: false }] };
    const response = streamed
      ? await client.responses.stream(asked).finalResponse()
      : await client.responses.create(asked);
    return response.output.find((item) => item.type === 'function_call').name;
  },
};

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

export default [chat, responses, completions];
