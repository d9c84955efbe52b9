// OpenAI's SDK for JavaScript.

import OpenAI from 'openai';
import { WEATHER } from '../suite.mjs';

const MODEL = 'gpt-4o-mini';
const EMBEDDING_MODEL = 'text-embedding-3-small';
const ask = (content) => ({ model: MODEL, messages: [{ role: 'user', content }] });
const tools = [
  { type: 'function', function: { name: WEATHER.name, description: WEATHER.description, parameters: WEATHER.schema } },
];

export default {
  name: 'openai',
  package: 'openai',
  provider: 'openai',
  refused: ['APIError'],
  cut: ['APIError'],
  badRequest: ['BadRequestError'],
  dropped: ['APIError'],
  cutDaily: '0.001',
  open: (base, apiKey) => new OpenAI({ baseURL: `${base}/v1`, apiKey }),

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

  status: (error) => error.status,
  detail: (error) => error.error.loopers,
};
