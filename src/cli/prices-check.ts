// `holdfast prices check`: does everything that a program will call have a price?

import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { unknownPriceFix } from '../metering/prices.ts'
import { reports, type Report } from './output.ts'
import { priceFileOf, pricesOf, readPriceFile, withPriceFile } from './price-file.ts'
import { findNamed } from './price-words.ts'
import { table, type Cell } from './table.ts'
import { plural } from './text.ts'

/** What `holdfast prices check --json` prints. */
export interface PricesCheckJson {
  readonly models: readonly {
    readonly model: string
    /** Where its price comes from; absent when it has none. */
    readonly source?: string
    /** The line that gives it one. */
    readonly fix?: string
  }[]
  /** The price file, where no models were named: it is sound, or this is not printed. */
  readonly file?: { readonly path: string; readonly version: number; readonly prices: number }
}

/** Most names in a file of them. */
const MAX_NAMES = 10_000

/** Adds the command to `holdfast prices`. */
export function addPricesCheck(parent: Command): void {
  const command = withPriceFile(
    parent
      .command('check')
      .description('say whether models have a price: exit code 0, or 1 when one has none')
      .argument('[models...]', 'names of models')
      .option('--from <names>', 'a file of names, one on each line; # begins a comment')
      .option('--provider <id>', 'as the AI SDK names it: openai, azure, amazon-bedrock'),
  )
  command.addHelpText(
    'after',
    `
Without any name the price file itself is checked.

Examples:
  $ holdfast prices check gpt-5.5 claude-opus-4-8
  $ holdfast prices check --from models.txt && npm run deploy`,
  )
  reports(command, async () => {
    const { from, provider } = command.opts<{ from?: string; provider?: string }>()
    const names = [...(command.processedArgs[0] as string[]), ...(from === undefined ? [] : readNames(from))]
    return names.length === 0 && from === undefined ? checkFile(priceFileOf(command)) : checkModels(command, names, provider)
  })
}

function readNames(path: string): readonly string[] {
  const names = readFileSync(path, 'utf8')
    .split('\n')
    .map((line) => line.replace(/(?:^|\s)#.*$/, '').trim())
    .filter((name) => name !== '')
  if (names.length > MAX_NAMES) throw new RangeError(`\`${path}\` has ${names.length} names; at most ${MAX_NAMES} are checked at once.`)
  return names
}

function checkFile(path: string): Report {
  const { version, prices } = readPriceFile(path)
  const file = { path, version, prices: Object.keys(prices).length }
  return {
    json: { models: [], file } satisfies PricesCheckJson,
    text: () => `${path}: version ${version}, ${plural(file.prices, 'price')}, all sound.\n`,
  }
}

async function checkModels(command: Command, names: readonly string[], provider: string | undefined): Promise<Report> {
  const { prices } = await pricesOf(command)
  const models = [...new Set(names)].map((model) => {
    const price = findNamed(prices, model, provider)
    return price === undefined ? { model, fix: unknownPriceFix(model) } : { model, source: price.source }
  })
  const unpriced = models.filter((one) => 'fix' in one).length
  return {
    json: { models } satisfies PricesCheckJson,
    text: (style) =>
      table(
        [{}, {}],
        models.map((one): readonly Cell[] => [one.model, 'fix' in one ? ['red', `no price. ${one.fix}`] : one.source]),
        style,
      ),
    fault:
      unpriced === 0
        ? undefined
        : {
            code: 'ERR_UNKNOWN_PRICE',
            message: `${unpriced} of ${plural(models.length, 'model')} ${unpriced === 1 ? 'has' : 'have'} no price.`,
          },
  }
}
