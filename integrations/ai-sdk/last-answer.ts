// What a model is told of its budget: that most of it is used up, or that this is its last answer.

import type { LanguageModelV4CallOptions } from '@ai-sdk/provider'

/**
 * The call with a sentence for the model: a system message after those that begin the prompt, since several providers
 * take them nowhere else. It is part of the parameters, so what it costs is held with the call.
 */
export function withNotice(params: LanguageModelV4CallOptions, notice: string | undefined): LanguageModelV4CallOptions {
  if (notice === undefined) return params
  const { prompt } = params
  const first = prompt.findIndex(({ role }) => role !== 'system')
  const at = first === -1 ? prompt.length : first
  return { ...params, prompt: [...prompt.slice(0, at), { role: 'system', content: notice }, ...prompt.slice(at)] }
}

/** The call as the last one of its work: its tools stay declared, which some providers need for a history with calls in it, but none may be called. */
export function asLastAnswer(params: LanguageModelV4CallOptions, notice: string): LanguageModelV4CallOptions {
  const told = withNotice(params, notice)
  return params.tools === undefined ? told : { ...told, toolChoice: { type: 'none' } }
}
