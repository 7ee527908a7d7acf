// What providers say of answers with an error: which statuses they bill, and which they do not.

/** What one provider documents. */
export interface BillingRule {
  readonly provider: string
  /** Hosts that it is served from. */
  readonly hosts: RegExp
  /** Whether an answer with this status, of 400 or more, costs nothing. */
  readonly isUnbilled: (status: number) => boolean
  readonly says: string
  readonly source: string
  /** The day on which that was looked up. */
  readonly asOf: string
}

/**
 * Statuses that cost nothing where a provider says nothing of them, as OpenAI and Anthropic do: the request was turned
 * down before any work. A timeout (408) may have been worked on, and 5xx always may.
 */
export function isUnbilledByDefault(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408
}

/** Providers whose documents say otherwise than the default, or more. */
export const BILLING_RULES: readonly BillingRule[] = [
  {
    provider: 'azure',
    hosts: /\.(?:openai\.azure\.com|cognitiveservices\.azure\.com|services\.ai\.azure\.com)$/,
    isUnbilled: (status) => status !== 400 && isUnbilledByDefault(status),
    says: 'A prompt that the content filter stops (400) and a timeout (408) are charged; 401 and 429 are not.',
    source: 'https://learn.microsoft.com/azure/foundry-classic/openai/faq',
    asOf: '2026-11-22',
  },
  {
    provider: 'vertex',
    hosts: /(?:^|[.-])aiplatform\.googleapis\.com$/,
    isUnbilled: (status) => status >= 400,
    says: 'Only requests that return 200 are charged.',
    source: 'https://cloud.google.com/vertex-ai/generative-ai/pricing',
    asOf: '2026-11-22',
  },
  {
    provider: 'gemini',
    hosts: /^generativelanguage\.googleapis\.com$/,
    isUnbilled: (status) => status === 500 || isUnbilledByDefault(status),
    says: 'A request that fails with 400 or 500 is not charged for its tokens.',
    source: 'https://ai.google.dev/gemini-api/docs/billing',
    asOf: '2026-11-22',
  },
  {
    provider: 'openrouter',
    hosts: /^openrouter\.ai$/,
    isUnbilled: (status) => status >= 400,
    says: 'The status is an error only where no model has begun to answer, and an answer without a token costs nothing.',
    source: 'https://openrouter.ai/docs/errors, https://openrouter.ai/docs/features/zero-completion-insurance',
    asOf: '2026-11-22',
  },
  {
    provider: 'novita',
    hosts: /^api\.novita\.ai$/,
    isUnbilled: (status) => status !== 499 && (isUnbilledByDefault(status) || [500, 503, 504].includes(status)),
    says: '400, 401, 403, 429, 500, 503 and 504 are not charged; 499, for a caller who left, is.',
    source: 'https://novita.ai/docs/guides/llm-billing.md',
    asOf: '2026-11-22',
  },
]

/** The statuses from 400 to 599 that cost nothing at the provider of this host. */
export function unbilledStatusesOf(host: string): readonly number[] {
  return BY_PROVIDER.find(([{ hosts }]) => hosts.test(host))?.[1] ?? DEFAULT_STATUSES
}

const ERRORS = Array.from({ length: 200 }, (_, at) => 400 + at)
const DEFAULT_STATUSES = ERRORS.filter(isUnbilledByDefault)
const BY_PROVIDER = BILLING_RULES.map((rule) => [rule, ERRORS.filter(rule.isUnbilled)] as const)
