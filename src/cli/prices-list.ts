// `holdfast prices list`: what models cost, as far as anybody knows.

import type { Command } from 'commander'
import { listedModels } from '../metering/listed-models.ts'
import type { ModelPrice } from '../waist/price.ts'
import { reports, type Report } from './output.ts'
import { pricesOf, withPriceFile } from './price-file.ts'
import { otherWords, perMillion } from './price-words.ts'
import { table } from './table.ts'
import { plural } from './text.ts'

/** One line of `holdfast prices list --json`. */
export interface PriceLineJson {
  /** `provider/model` of the list, or the name that your own price has. */
  readonly model: string
  /** US dollars, exact; `null` where it is not billed by tokens. */
  readonly inputUsdPerMillion: string | null
  /** The same; `null` also where it puts out none. */
  readonly outputUsdPerMillion: string | null
  /** Prices by other units, in words. */
  readonly other: readonly string[]
  readonly source: string
}

/** What `holdfast prices list --json` prints. */
export interface PriceListJson {
  readonly models: readonly PriceLineJson[]
}

/** Adds the command to `holdfast prices`. */
export function addPricesList(parent: Command): void {
  const command = withPriceFile(
    parent.command('list').description('list models and what they cost').argument('[filter]', 'a part of the name'),
  )
  command.addHelpText(
    'after',
    `
Prices are those of short requests, in US dollars for a million tokens; a model may have tiers, and more: holdfast prices show

Examples:
  $ holdfast prices list gpt-5
  $ holdfast prices list anthropic/ --json`,
  )
  reports(command, () => list(command, (command.processedArgs[0] as string | undefined) ?? ''))
}

async function list(command: Command, filter: string): Promise<Report> {
  const { prices, own } = await pricesOf(command)
  const yours = Object.keys(own).map((model) => lineOf(model, prices.find(model)!))
  const listed = (await listedModels()).flatMap(({ provider, model }) => {
    const price = prices.find(model, provider)
    // Your own price has a line of its own, and what stands in for the unknown is no price of a model of the list.
    return price === undefined || !price.source.startsWith('genai-prices') ? [] : [lineOf(`${provider}/${model}`, price)]
  })
  const wanted = filter.toLowerCase()
  const models = [...yours, ...listed].filter(({ model }) => model.toLowerCase().includes(wanted))
  return {
    json: { models } satisfies PriceListJson,
    text: (style) =>
      models.length === 0
        ? 'No such model.\n'
        : `${table(
            [
              { title: 'model' },
              { title: 'in', align: 'right' },
              { title: 'out', align: 'right' },
              { title: 'other' },
              { title: 'source' },
            ],
            models.map((line) => [
              line.model,
              usd(line.inputUsdPerMillion),
              usd(line.outputUsdPerMillion),
              line.other.join(', '),
              line.source,
            ]),
            style,
          )}${plural(models.length, 'model')}; US dollars for a million tokens.\n`,
  }
}

function lineOf(model: string, { rates, source }: ModelPrice): PriceLineJson {
  const { inputTokens, outputTokens } = rates.tokens
  return {
    model,
    inputUsdPerMillion: inputTokens === undefined ? null : perMillion(inputTokens.pico),
    outputUsdPerMillion: outputTokens === undefined ? null : perMillion(outputTokens.pico),
    other: otherWords(rates),
    source,
  }
}

const usd = (amount: string | null): string => (amount === null ? '-' : `$${amount}`)
