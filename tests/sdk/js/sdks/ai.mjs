// Vercel's AI SDK with its own six providers. It does not throw what ends a stream: it hands out a part of type `error`.

import { createAmazonBedrock } from '@ai-sdk/amazon-bedrock';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createAzure } from '@ai-sdk/azure';
import { createGoogleGenerativeAI } from '@ai-sdk/google';
import { createMistral } from '@ai-sdk/mistral';
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
  {
    ...shared,
    name: 'ai+azure',
    provider: 'azure',
    billsErrors: true,
    cutDaily: '0.001',
    embed,
    open(base, apiKey) {
      const provider = createAzure({ baseURL: `${base}/openai/v1`, apiKey });
      return { model: provider('my-gpt-4o-mini'), embedding: provider.embedding('my-text-embedding-3-large') };
    },
  },
  {
    ...shared,
    name: 'ai+mistral',
    provider: 'mistral',
    cutDaily: '0.003',
    // There is no error event: what is not a chunk fails its validation.
    cut: ['TypeValidationError'],
    dropped: ['TypeValidationError'],
    embed,
    open(base, apiKey) {
      const provider = createMistral({ baseURL: `${base}/v1`, apiKey });
      return { model: provider('codestral-latest'), embedding: provider.embedding('mistral-embed') };
    },
    detail: (error) => JSON.parse(error.responseBody).loopers,
  },
  {
    ...shared,
    name: 'ai+bedrock',
    provider: 'bedrock',
    refusedStatus: 403,
    embed,
    open(baseURL, apiKey) {
      const provider = createAmazonBedrock({ baseURL, apiKey, region: 'us-east-1' });
      const embedding = provider.embedding('amazon.titan-embed-text-v2:0');
      return { model: provider('amazon.nova-lite-v1:0'), embedding };
    },
    detail: (error) => JSON.parse(error.responseBody).loopers,
  },
];
