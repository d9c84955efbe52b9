// AWS's SDK for JavaScript, for Bedrock, over HTTP/2 as it is by default. The key is an API key for Bedrock: nothing is signed.

import {
  BedrockRuntimeClient,
  ConverseCommand,
  ConverseStreamCommand,
  CountTokensCommand,
  InvokeModelCommand,
  InvokeModelWithResponseStreamCommand,
} from '@aws-sdk/client-bedrock-runtime';
import { WEATHER } from '../suite.mjs';

const ask = (text, maxTokens = 1000) => ({
  modelId: 'amazon.nova-lite-v1:0',
  messages: [{ role: 'user', content: [{ text }] }],
  inferenceConfig: { maxTokens },
});
const toolConfig = {
  tools: [{ toolSpec: { name: WEATHER.name, description: WEATHER.description, inputSchema: { json: WEATHER.schema } } }],
};

const converse = {
  name: '@aws-sdk/client-bedrock-runtime',
  package: '@aws-sdk/client-bedrock-runtime',
  provider: 'bedrock',
  refused: ['AccessDeniedException'],
  refusedStatus: 403,
  cut: ['ModelStreamErrorException', 'InternalServerException', 'ThrottlingException', 'ValidationException'],
  badRequest: ['ValidationException'],
  dropped: ['ModelStreamErrorException', 'InternalServerException', 'ServiceUnavailableException'],

  open(endpoint, key) {
    process.env.AWS_BEARER_TOKEN_BEDROCK = key;
    return new BedrockRuntimeClient({ endpoint, region: 'us-east-1' });
  },

  hangUp: (client) => client.destroy(),

  async plain(client, text) {
    const { output, usage, stopReason } = await client.send(new ConverseCommand(ask(text)));
    return { text: output.message.content[0].text, tokens: usage.outputTokens, natural: stopReason === 'end_turn' };
  },

  async *stream(client, text, { maxTokens = 5000, signal }) {
    const { stream } = await client.send(new ConverseStreamCommand(ask(text, maxTokens)), { abortSignal: signal });
    let natural = false;
    for await (const event of stream) {
      yield { text: event.contentBlockDelta?.delta.text };
      if (event.messageStop) natural = event.messageStop.stopReason === 'end_turn';
      if (event.metadata) yield { final: { tokens: event.metadata.usage.outputTokens, natural } };
    }
  },

  async tool(client, text, streamed) {
    const asked = { ...ask(text), toolConfig };
    if (!streamed) {
      const { output } = await client.send(new ConverseCommand(asked));
      return output.message.content.find((block) => block.toolUse).toolUse.name;
    }
    const { stream } = await client.send(new ConverseStreamCommand(asked));
    let name;
    for await (const event of stream) name ??= event.contentBlockStart?.start?.toolUse?.name;
    return name;
  },

  async free(client, text) {
    const { modelId, messages } = ask(text);
    return { tokens: (await client.send(new CountTokensCommand({ modelId, input: { converse: { messages } } }))).inputTokens };
  },

  status: (error) => error.$metadata.httpStatusCode,
  detail: () => undefined,
};

const invocation = (text, maxTokens = 1000, more = {}) => ({
  modelId: 'us.anthropic.claude-sonnet-4-6',
  contentType: 'application/json',
  body: JSON.stringify({
    anthropic_version: 'bedrock-2023-05-31',
    max_tokens: maxTokens,
    messages: [{ role: 'user', content: text }],
    ...more,
  }),
});
const claudeTools = [{ name: WEATHER.name, description: WEATHER.description, input_schema: WEATHER.schema }];
const decoded = (bytes) => JSON.parse(new TextDecoder().decode(bytes));

async function* nativeEvents(client, asked, signal) {
  const { body } = await client.send(new InvokeModelWithResponseStreamCommand(asked), { abortSignal: signal });
  for await (const { chunk } of body) yield decoded(chunk.bytes);
}

/** The calls whose body is the vendor's own: Claude's, and Titan's for embeddings. */
const invoke = {
  ...converse,
  name: '@aws-sdk invoke',

  async plain(client, text) {
    const { content, usage, stop_reason: reason } = decoded((await client.send(new InvokeModelCommand(invocation(text)))).body);
    return { text: content[0].text, tokens: usage.output_tokens, natural: reason === 'end_turn' };
  },

  async *stream(client, text, { maxTokens = 5000, signal }) {
    for await (const { type, delta, usage } of nativeEvents(client, invocation(text, maxTokens), signal)) {
      yield { text: type === 'content_block_delta' ? delta.text : undefined };
      if (type === 'message_delta') {
        yield { final: { tokens: usage.output_tokens, natural: delta.stop_reason === 'end_turn' } };
      }
    }
  },

  async tool(client, text, streamed) {
    const asked = invocation(text, 1000, { tools: claudeTools });
    const blocks = [];
    if (streamed) for await (const event of nativeEvents(client, asked)) blocks.push(event.content_block ?? {});
    else blocks.push(...decoded((await client.send(new InvokeModelCommand(asked))).body).content);
    return blocks.find((block) => block.type === 'tool_use').name;
  },

  async embed(client, texts) {
    const modelId = 'amazon.titan-embed-text-v2:0';
    const vectors = [];
    for (const inputText of texts) {
      const asked = { modelId, contentType: 'application/json', body: JSON.stringify({ inputText }) };
      vectors.push(decoded((await client.send(new InvokeModelCommand(asked))).body).embedding);
    }
    return vectors;
  },

  async free(client, text) {
    const { modelId, body } = invocation(text);
    const input = { invokeModel: { body: new TextEncoder().encode(body) } };
    return { tokens: (await client.send(new CountTokensCommand({ modelId, input }))).inputTokens };
  },
};

export default [converse, invoke];
