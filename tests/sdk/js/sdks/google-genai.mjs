// Google's SDK for JavaScript, for the Gemini API.

import { GoogleGenAI } from '@google/genai';
import { WEATHER } from '../suite.mjs';

const MODEL = 'gemini-3.8-flash';
const EMBEDDING_MODEL = 'gemini-embedding-001';
const ask = (contents, config) => ({ model: MODEL, contents, config });
const functionDeclarations = [
  { name: WEATHER.name, description: WEATHER.description, parametersJsonSchema: WEATHER.schema },
];

function read(chunk) {
  const reason = chunk.candidates?.[0]?.finishReason;
  const usage = chunk.usageMetadata;
  const tokens = (usage?.candidatesTokenCount ?? 0) + (usage?.thoughtsTokenCount ?? 0);
  return { text: chunk.text, final: reason && { tokens, natural: reason === 'STOP' } };
}

export default {
  name: '@google/genai',
  package: '@google/genai',
  provider: 'gemini',
  refused: ['ApiError'],
  cut: ['ApiError'],
  badRequest: ['ApiError'],
  dropped: ['ApiError'],
  open: (baseUrl, apiKey) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl } }),

  async plain(client, text) {
    const { text: found, final } = read(await client.models.generateContent(ask(text, { maxOutputTokens: 1000 })));
    return { text: found, ...final };
  },

  async *stream(client, text, { maxTokens = 10_000, signal }) {
    const config = { maxOutputTokens: maxTokens, abortSignal: signal };
    for await (const chunk of await client.models.generateContentStream(ask(text, config))) yield read(chunk);
  },

  async tool(client, text, streamed) {
    const asked = ask(text, { maxOutputTokens: 1000, tools: [{ functionDeclarations }] });
    if (!streamed) return (await client.models.generateContent(asked)).functionCalls[0].name;
    const calls = [];
    for await (const chunk of await client.models.generateContentStream(asked)) calls.push(...(chunk.functionCalls ?? []));
    return calls[0].name;
  },

  async embed(client, contents) {
    const { embeddings } = await client.models.embedContent({ model: EMBEDDING_MODEL, contents });
    return embeddings.map((embedding) => embedding.values);
  },

  async free(client, contents) {
    const models = [];
    for await (const found of await client.models.list()) models.push(found.name);
    return { models, tokens: (await client.models.countTokens({ model: MODEL, contents })).totalTokens };
  },

  status: (error) => error.status,
  // The SDK puts the body, as text, into the message.
  detail: (error) => JSON.parse(error.message.slice(error.message.indexOf('{'))).error.loopers,
};
