// Anthropic's SDK for JavaScript.

import Anthropic from '@anthropic-ai/sdk';
import { WEATHER } from '../suite.mjs';

const ask = (content, maxTokens = 1000) => ({
  model: 'claude-sonnet-4-6',
  max_tokens: maxTokens,
  messages: [{ role: 'user', content }],
});
const tools = [{ name: WEATHER.name, description: WEATHER.description, input_schema: WEATHER.schema }];

export default {
  name: '@anthropic-ai/sdk',
  package: '@anthropic-ai/sdk',
  provider: 'anthropic',
  refused: ['PaymentRequiredError'],
  cut: ['APIError'],
  badRequest: ['BadRequestError'],
  dropped: ['APIError'],
  cutDaily: '0.05',
  open: (baseURL, apiKey) => new Anthropic({ baseURL, apiKey }),

  async plain(client, text) {
    const { content, usage, stop_reason: reason } = await client.messages.create(ask(text));
    return { text: content[0].text, tokens: usage.output_tokens, natural: reason === 'end_turn' };
  },

  async *stream(client, text, { maxTokens = 10_000, signal }) {
    const events = await client.messages.create({ ...ask(text, maxTokens), stream: true }, { signal });
    for await (const event of events) {
      if (event.type === 'content_block_delta') yield { text: event.delta.text };
      if (event.type === 'message_delta') {
        yield { final: { tokens: event.usage.output_tokens, natural: event.delta.stop_reason === 'end_turn' } };
      }
    }
  },

  async tool(client, text, streamed) {
    const asked = { ...ask(text), tools };
    const message = streamed ? await client.messages.stream(asked).finalMessage() : await client.messages.create(asked);
    return message.content.find((block) => block.type === 'tool_use').name;
  },

  async free(client, text) {
    const { model, messages } = ask(text);
    const { input_tokens: tokens } = await client.messages.countTokens({ model, messages });
    return { models: (await client.models.list()).data.map((found) => found.id), tokens };
  },

  status: (error) => error.status,
  detail: (error) => error.error.error.loopers,
};
