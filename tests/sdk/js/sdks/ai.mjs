// Vercel's AI SDK with its own three providers. It does not throw what ends a stream: it hands out a part of type `error`.

import { createAnthropic } from '@ai-sdk/anthropic';
import { createGoogleGenerativeAI } from '@ai-sdk/google';
import { createOpenAI } from '@ai-sdk/openai';
import { embedMany, generateText, jsonSchema, streamText, tool } from 'ai';
import { WEATHER } from '../suite.mjs';

const tools = { [WEATHER.name]: tool({ description: WEATHER.description, inputSchema: jsonSchema(WEATHER.schema) }) };

const shared = {
  package: 'ai',
  refused: ['APICallError'],
  cut: ['StreamProviderError'],
  dropped: ['StreamProviderError'],
  badRequest: ['APICallError'],

  async plain({ model }, prompt) {
    const { text, usage, finishReason } = await generateText({ model, prompt, maxOutputTokens: 1000 });
    return { text, tokens: usage.outputTokens, natural: finishReason === 'stop' };
  },

  async *stream({ model }, prompt, { maxTokens = 10_000, signal }) {
    const asked = { model, prompt, maxOutputTokens: maxTokens, abortSignal: signal, onError: () => {} };
    for await (const part of streamText(asked).fullStream) {
      if (part.type === 'error') throw part.error;
      if (part.type === 'text-delta') yield { text: part.text };
      if (part.type === 'finish') {
        yield { final: { tokens: part.totalUsage.outputTokens, natural: part.finishReason === 'stop' } };
      }
    }
  },

  async tool({ model }, prompt, streamed) {
    const asked = { model, prompt, tools, maxOutputTokens: 1000 };
    const calls = streamed ? await streamText(asked).toolCalls : (await generateText(asked)).toolCalls;
    return calls[0].toolName;
  },

  status: (error) => error.statusCode,
  detail: (error) => JSON.parse(error.responseBody).error.loopers,
};

async function embed({ embedding }, values) {
  return (await embedMany({ model: embedding, values })).embeddings;
}

export default [
  {
    ...shared,
    name: 'ai+openai',
    provider: 'openai',
    cutDaily: '0.001',
    // What the provider uses when it is given only a model: the responses.
    open: (base, apiKey) => ({ model: createOpenAI({ baseURL: `${base}/v1`, apiKey })('gpt-4o-mini') }),
  },
  {
    ...shared,
    name: 'ai+openai chat',
    provider: 'openai',
    cutDaily: '0.001',
    embed,
    open(base, apiKey) {
      const provider = createOpenAI({ baseURL: `${base}/v1`, apiKey });
      return { model: provider.chat('gpt-4o-mini'), embedding: provider.embedding('text-embedding-3-small') };
    },
  },
  {
    ...shared,
    name: 'ai+anthropic',
    provider: 'anthropic',
    cutDaily: '0.05',
    open: (base, apiKey) => ({ model: createAnthropic({ baseURL: `${base}/v1`, apiKey })('claude-sonnet-4-6') }),
  },
  {
    ...shared,
    name: 'ai+google',
    provider: 'gemini',
    embed,
    open(base, apiKey) {
      const provider = createGoogleGenerativeAI({ baseURL: `${base}/v1beta`, apiKey });
      return { model: provider('gemini-3.8-flash'), embedding: provider.embedding('gemini-embedding-001') };
    },
  },
];
