// Mistral's SDK for JavaScript.

import { Mistral } from '@mistralai/mistralai';
import { WEATHER } from '../suite.mjs';

const ask = (content, maxTokens = 1000) => ({
  model: 'codestral-latest',
  maxTokens,
  messages: [{ role: 'user', content }],
});
const tools = [
  { type: 'function', function: { name: WEATHER.name, description: WEATHER.description, parameters: WEATHER.schema } },
];

export default {
  name: '@mistralai/mistralai',
  package: '@mistralai/mistralai',
  provider: 'mistral',
  refused: ['SDKError'],
  // The SDK has no error event: what is not a chunk fails its validation.
  cut: ['SDKValidationError', 'ResponseValidationError', 'ZodError'],
  badRequest: ['SDKError'],
  dropped: ['SDKValidationError', 'ResponseValidationError', 'ZodError'],
  cutDaily: '0.003',
  open: (serverURL, apiKey) => new Mistral({ serverURL, apiKey }),

  async plain(client, text) {
    const { choices, usage } = await client.chat.complete(ask(text));
    const [{ message, finishReason }] = choices;
    return { text: message.content, tokens: usage.completionTokens, natural: finishReason === 'stop' };
  },

  async *stream(client, text, { maxTokens = 10_000, signal }) {
    for await (const { data } of await client.chat.stream(ask(text, maxTokens), { fetchOptions: { signal } })) {
      const [{ delta, finishReason }] = data.choices;
      yield { text: delta.content };
      if (finishReason) yield { final: { tokens: data.usage.completionTokens, natural: finishReason === 'stop' } };
    }
  },

  async tool(client, text, streamed) {
    const asked = { ...ask(text), tools };
    if (!streamed) return (await client.chat.complete(asked)).choices[0].message.toolCalls[0].function.name;
    const calls = [];
    for await (const { data } of await client.chat.stream(asked)) calls.push(...(data.choices[0].delta.toolCalls ?? []));
    return calls[0].function.name;
  },

  async embed(client, inputs) {
    return (await client.embeddings.create({ model: 'mistral-embed', inputs })).data.map((item) => item.embedding);
  },

  free: async (client) => ({ models: (await client.models.list()).data.map((found) => found.id) }),

  status: (error) => error.statusCode,
  detail: (error) => JSON.parse(error.body).loopers,
};
