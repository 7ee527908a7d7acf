// Which endpoints of Google cost nothing. Whatever is neither here nor metered is refused: drawing, filming, speaking
// live, batches, and caches, which cost by the hour that they live.

/** Counting, cancelling and asking how far a long operation is; uploading a file to the Gemini API. */
const UNBILLED = [/:(?:countTokens|computeTokens|cancel|fetchPredictOperation)$/, /\/v1(?:alpha|beta)\/files(?::register)?$/]

/**
 * Whether a request to Google is known to cost nothing.
 *
 * @see https://ai.google.dev/gemini-api/docs/pricing (2026-11-22: counting tokens and the storage of files are free)
 */
export function isUnbilledByGoogle(path: string): boolean {
  return UNBILLED.some((form) => form.test(path))
}
