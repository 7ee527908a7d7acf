// Formats that are not OpenAI's: Amazon Bedrock and Ollama.

import { perMillion, type Sample } from './sample.ts'

const seen = '2026-11-22'
const SONNET = { model: 'anthropic.claude-sonnet-4-5-20250929-v1:0', provider: 'amazon-bedrock' }

/** Samples of Bedrock and Ollama. */
export const OTHER_SAMPLES: readonly Sample[] = [
  {
    name: 'Bedrock: Converse',
    source: 'https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html',
    seen,
    reader: 'converse',
    answer: {
      output: {},
      stopReason: 'end_turn',
      usage: { inputTokens: 30, outputTokens: 628, totalTokens: 658 },
      metrics: { latencyMs: 1275 },
    },
    used: { inputTokens: 30, outputTokens: 628 },
    total: 658,
    bill: { model: 'amazon.nova-pro-v1:0', provider: 'amazon-bedrock', pico: perMillion(30, '0.8') + perMillion(628, '3.2') },
  },
  {
    name: 'Bedrock: Converse with both lives of a cache',
    source: 'https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html',
    seen,
    reader: 'converse',
    answer: {
      output: {},
      usage: {
        inputTokens: 10,
        outputTokens: 20,
        totalTokens: 1_330,
        cacheReadInputTokens: 500,
        cacheWriteInputTokens: 800,
        cacheDetails: [
          { ttl: '1h', inputTokens: 300 },
          { ttl: '5m', inputTokens: 500 },
        ],
      },
    },
    used: { inputTokens: 10, cacheReadTokens: 500, cacheWrite5mTokens: 500, cacheWrite1hTokens: 300, outputTokens: 20 },
    total: 1_330,
    bill: {
      ...SONNET,
      pico: perMillion(10, '3.3') + perMillion(500, '0.33') + perMillion(500, '4.125') + perMillion(300, '6.6') + perMillion(20, '16.5'),
    },
  },
  {
    name: 'Bedrock: Converse whose total leaves the cache out',
    source: 'https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html',
    seen,
    reader: 'converse',
    answer: { usage: { inputTokens: 10, outputTokens: 20, totalTokens: 30, cacheReadInputTokens: 500, cacheWriteInputTokens: 800 } },
    used: { inputTokens: 10, cacheReadTokens: 500, cacheWrite5mTokens: 800, outputTokens: 20 },
    bill: { ...SONNET, pico: perMillion(10, '3.3') + perMillion(500, '0.33') + perMillion(800, '4.125') + perMillion(20, '16.5') },
  },
  {
    name: 'Bedrock: the last event of a streamed InvokeModel',
    source: 'https://docs.aws.amazon.com/bedrock/latest/userguide/inference-invoke.html',
    reader: 'invokeModel',
    answer: {
      type: 'message_stop',
      'amazon-bedrock-invocationMetrics': {
        inputTokenCount: 3,
        outputTokenCount: 13,
        invocationLatency: 3037,
        firstByteLatency: 2635,
        cacheReadInputTokenCount: 7,
        cacheWriteInputTokenCount: 25,
      },
    },
    used: { inputTokens: 3, cacheReadTokens: 7, cacheWrite1hTokens: 25, outputTokens: 13 },
    total: 48,
    bill: { ...SONNET, pico: perMillion(3, '3.3') + perMillion(7, '0.33') + perMillion(25, '6.6') + perMillion(13, '16.5') },
  },
  {
    name: 'Ollama: an answer of /api/generate',
    source: 'https://www.w3cschool.cn/ollamadocs/ollamadocs-api-usage.html',
    seen,
    reader: 'ollama',
    answer: {
      model: 'gemma3',
      created_at: '2025-10-17T23:14:07.414671Z',
      response: '',
      done: true,
      done_reason: 'stop',
      total_duration: 174_560_334,
      load_duration: 101_397_084,
      prompt_eval_count: 11,
      prompt_eval_cached_count: 8,
      prompt_eval_duration: 13_074_791,
      eval_count: 18,
      eval_duration: 52_479_709,
    },
    used: { inputTokens: 3, cacheReadTokens: 8, outputTokens: 18 },
    total: 29,
  },
  {
    name: 'Ollama: the last line of /api/chat',
    source: 'https://docs.ollama.com/api/usage',
    seen,
    reader: 'ollama',
    answer: {
      model: 'llama3.2',
      message: { role: 'assistant', content: '' },
      done: true,
      prompt_eval_count: 26,
      eval_count: 282,
    },
    used: { inputTokens: 26, outputTokens: 282 },
    total: 308,
  },
]
