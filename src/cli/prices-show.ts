// `holdfast prices show`: all that is known of what one model costs.

import type { Command } from 'commander'
import { formatUsd } from '../lib/amounts.ts'
import { costNanoUsd, unknownPriceFix } from '../metering/prices.ts'
import type { ModelPrice, Rate, RateName, Unit, Usage } from '../waist/price.ts'
import { reports, type Report } from './output.ts'
import { pricesOf, withPriceFile } from './price-file.ts'
import { findNamed, perMillion, rateWords, unitWords, usdOf } from './price-words.ts'
import { table, type Cell } from './table.ts'
import { NOTHING_USED } from '../metering/usage/totals.ts'

/** A rate per token, in exact US dollars for a million of them. */
export interface RateJson {
  readonly usdPerMillion: string
  /** For the whole request, once its input exceeds `above` tokens; ascending. */
  readonly tiers: readonly { readonly above: number; readonly usdPerMillion: string }[]
}

/** What `holdfast prices show --json` prints. */
export interface PriceJson {
  readonly model: string
  readonly provider?: string
  /** Absent with all that follows when it has no price. */
  readonly source?: string
  readonly tokens?: Readonly<Partial<Record<RateName, RateJson>>>
  /** True where the price changes within the next 24 hours; calls are then held at the dearest. */
  readonly changes?: boolean
  /** US dollars for a thousand calls of a hosted tool. */
  readonly toolUsdPerThousand?: Readonly<Record<string, string>>
  /** US dollars for so many units. */
  readonly units?: Readonly<Partial<Record<Unit, { readonly usd: string; readonly per: number }>>>
  readonly usdPerRequest?: string
  readonly contextWindow?: number
  readonly maxOutputTokens?: number
  /** What 1,000 tokens in and 1,000 out cost, in nano-USD; `null` where they have no price. */
  readonly exampleNanoUsd?: number | null
}

const EXAMPLE: Usage = { ...NOTHING_USED, inputTokens: 1_000, outputTokens: 1_000 }

const LABELS: readonly (readonly [RateName, string, sameAs?: RateName])[] = [
  ['inputTokens', 'input'],
  ['inputTextTokens', 'input, text', 'inputTokens'],
  ['inputImageTokens', 'input, images', 'inputTokens'],
  ['inputAudioTokens', 'input, audio'],
  ['cacheReadTokens', 'read from the cache'],
  ['cacheWrite5mTokens', 'written to the cache'],
  ['cacheWrite1hTokens', 'written for an hour or more'],
  ['outputTokens', 'output'],
  ['outputTextTokens', 'output, text', 'outputTokens'],
  ['outputImageTokens', 'output, images', 'outputTokens'],
  ['reasoningTokens', 'reasoning', 'outputTokens'],
  ['outputAudioTokens', 'output, audio'],
]

/** Adds the command to `holdfast prices`. */
export function addPricesShow(parent: Command): void {
  const command = withPriceFile(
    parent
      .command('show')
      .description('show every price of a model')
      .argument('<model>', 'such as gpt-5.5, openai/gpt-5.5, or gpt-5.5@priority for a service tier')
      .option('--provider <id>', 'as the AI SDK names it: openai, azure, amazon-bedrock'),
  )
  command.addHelpText(
    'after',
    `
Exit code 1 when the model has no price.

Examples:
  $ holdfast prices show gpt-5.5
  $ holdfast prices show gpt-4o --provider azure --json`,
  )
  reports(command, async () => {
    const { provider } = command.opts<{ provider?: string }>()
    const model = command.processedArgs[0] as string
    const { prices } = await pricesOf(command)
    return show(model, provider, findNamed(prices, model, provider))
  })
}

function show(model: string, provider: string | undefined, price: ModelPrice | undefined): Report {
  const about = { model, ...(provider === undefined ? {} : { provider }) }
  if (price === undefined)
    return {
      json: about satisfies PriceJson,
      text: () => '',
      fault: { code: 'ERR_UNKNOWN_PRICE', message: `The price of \`${model}\` is not known. ${unknownPriceFix(model)}` },
    }
  return {
    json: { ...about, ...factsOf(price) } satisfies PriceJson,
    text: (style) => {
      const rows = rowsOf(price).map(([label, value]): readonly Cell[] => [['dim', label], value])
      return table([{}, {}], [[['bold', model], ''], ...rows], style)
    },
  }
}

function factsOf(price: ModelPrice): Omit<PriceJson, 'model' | 'provider'> {
  const { rates, source, contextWindow, maxOutputTokens, dearest } = price
  return {
    source,
    tokens: Object.fromEntries(Object.entries(rates.tokens).map(([name, rate]) => [name, rateJson(rate)])),
    changes: dearest !== undefined,
    toolUsdPerThousand: Object.fromEntries(Object.entries(rates.tools).map(([tool, pico]) => [tool, usdOf(pico, 9)])),
    units: Object.fromEntries(Object.entries(rates.units).map(([unit, { pico, per }]) => [unit, { usd: usdOf(pico), per }])),
    usdPerRequest: usdOf(rates.request),
    ...(contextWindow === undefined ? {} : { contextWindow }),
    ...(maxOutputTokens === undefined ? {} : { maxOutputTokens }),
    exampleNanoUsd: costNanoUsd(price, EXAMPLE) ?? null,
  }
}

const rateJson = ({ pico, tiers }: Rate): RateJson => ({
  usdPerMillion: perMillion(pico),
  tiers: tiers.map((tier) => ({ above: tier.above, usdPerMillion: perMillion(tier.pico) })),
})

function rowsOf(price: ModelPrice): readonly (readonly [string, string])[] {
  const { rates, source, contextWindow, maxOutputTokens, dearest } = price
  const tokens = LABELS.flatMap(([name, label, sameAs]): readonly (readonly [string, string])[] => {
    const rate = rates.tokens[name]
    const words = rate && `${rateWords(rate)} per million tokens`
    const other = sameAs && rates.tokens[sameAs]
    return words === undefined || (other !== undefined && rateWords(other) === rateWords(rate!)) ? [] : [[label, words]]
  })
  const cost = costNanoUsd(price, EXAMPLE)
  return [
    ...tokens,
    ...Object.entries(rates.units).map(([unit, rate]) => ['billed by', unitWords(unit as Unit, rate)] as const),
    ...Object.entries(rates.tools).map(([tool, pico]) => [`tool ${tool}`, `$${usdOf(pico, 9)} per thousand calls`] as const),
    ...(rates.request === 0n ? [] : [['each request', `$${usdOf(rates.request)}`] as const]),
    ...(contextWindow === undefined ? [] : [['context window', `${contextWindow.toLocaleString('en-US')} tokens`] as const]),
    ...(maxOutputTokens === undefined ? [] : [['most output', `${maxOutputTokens.toLocaleString('en-US')} tokens`] as const]),
    ...(dearest === undefined ? [] : [['changes', 'within the next 24 hours; calls are held at the dearest'] as const]),
    ['source', source],
    ...(cost === undefined ? [] : [['1,000 in and 1,000 out', formatUsd(cost)] as const]),
  ]
}
