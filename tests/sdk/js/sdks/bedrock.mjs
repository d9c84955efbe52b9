// AWS's SDK for JavaScript, for Bedrock, over HTTP/2 as it is by default. The key is an API key for Bedrock: nothing is signed.

import { BedrockRuntimeClient, ConverseCommand, ConverseStreamCommand } from '@aws-sdk/client-bedrock-runtime';
import { WEATHER } from '../suite.mjs';

const ask = (text, maxTokens = 1000) => ({
  modelId: 'amazon.nova-lite-v1:0',
  messages: [{ role: 'user', content: [{ text }] }],
  inferenceConfig: { maxTokens },
});
const toolConfig = {
  tools: [{ toolSpec: { name: WEATHER.name, description: WEATHER.description, inputSchema: { json: WEATHER.schema } } }],
};

export default {
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

  status: (error) => error.$metadata.httpStatusCode,
  detail: () => undefined,
};
