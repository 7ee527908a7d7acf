// `holdfast prices set`: writes a price of your own into a file that `readPrices` reads.

import { InvalidArgumentError, type Command } from 'commander'
import { readOverride, type PriceOverride } from '../metering/override.ts'
import { reports, type Report } from './output.ts'
import { priceFileOf, setPrice, withPriceFile } from './price-file.ts'
import { otherWords, rateWords } from './price-words.ts'

/** What `holdfast prices set --json` prints. */
export interface PricesSetJson {
  readonly file: string
  /** Of the file, after this change. */
  readonly version: number
  readonly model: string
  readonly price: PriceOverride
}

/** Options by the field of a price that each sets. */
const FLAGS: Readonly<Record<string, readonly [flag: string, description: string]>> = {
  inputUsdPerMillion: ['--input <usd>', 'a million input tokens'],
  outputUsdPerMillion: ['--output <usd>', 'a million output tokens, reasoning included'],
  cacheReadUsdPerMillion: ['--cache-read <usd>', 'a million tokens read from the cache'],
  cacheWriteUsdPerMillion: ['--cache-write <usd>', 'a million tokens written to the cache'],
  cacheWrite1hUsdPerMillion: ['--cache-write-1h <usd>', 'the same for an hour or more'],
  inputAudioUsdPerMillion: ['--input-audio <usd>', 'a million tokens of sound in'],
  outputAudioUsdPerMillion: ['--output-audio <usd>', 'a million tokens of sound out'],
  inputImageUsdPerMillion: ['--input-image <usd>', 'a million tokens of images in'],
  outputImageUsdPerMillion: ['--output-image <usd>', 'a million tokens of images out'],
  usdPerImage: ['--per-image <usd>', 'one image, where images are billed by the piece'],
  usdPerAudioMinute: ['--per-audio-minute <usd>', 'a minute of sound'],
  usdPerVideoSecond: ['--per-video-second <usd>', 'a second of video'],
  usdPerMillionCharacters: ['--per-million-characters <usd>', 'a million characters'],
  usdPerThousandPages: ['--per-thousand-pages <usd>', 'a thousand pages'],
  usdPerThousandSearches: ['--per-thousand-searches <usd>', 'a thousand searches'],
}

/** Adds the command to `holdfast prices`. */
export function addPricesSet(parent: Command): void {
  const command = withPriceFile(
    parent
      .command('set')
      .description('write a price of your own, in US dollars, into a price file')
      .argument('<model>', 'such as my-model, azure/gpt-4o, gpt-5.5@batch, or * for models that nobody knows'),
  )
  for (const [field, [flag, description]] of Object.entries(FLAGS))
    command.addOption(command.createOption(flag, description).argParser((text) => [field, text.replace(/^\$/, '')]))
  command
    .option('--fee <tool=usd>', 'a thousand calls of a hosted tool; may be given several times', addFee, {})
    .option('--context-window <tokens>', 'input and output together', wholeNumber)
    .option('--max-output <tokens>', 'output of one answer', wholeNumber)
    .option('--as-of <day>', 'the day you looked, YYYY-MM-DD', new Date().toISOString().slice(0, 10))
  command.addHelpText(
    'after',
    `
It replaces the whole price of the model, in one step, and raises the version of the file. Your program reads it:
openKernel({ prices: await readPrices('holdfast.prices.json') })

Examples:
  $ holdfast prices set my-model --input 1.25 --output 10
  $ holdfast prices set dall-e-3 --per-image 0.12 --as-of 2026-11-20
  $ holdfast prices set '*' --input 50 --output 200`,
  )
  reports(command, async () => set(priceFileOf(command), command.processedArgs[0] as string, priceOf(command)))
}

function priceOf(command: Command): PriceOverride {
  const { fee, contextWindow, maxOutput, asOf, ...rest } = command.opts<{
    fee: Readonly<Record<string, string>>
    contextWindow?: number
    maxOutput?: number
    asOf: string
  }>()
  const usd = Object.values(rest as Readonly<Record<string, unknown>>).filter((value) => Array.isArray(value))
  return {
    ...(Object.fromEntries(usd as [string, string][]) as PriceOverride),
    ...(Object.keys(fee).length === 0 ? {} : { toolUsdPerThousand: fee }),
    ...(contextWindow === undefined ? {} : { contextWindow }),
    ...(maxOutput === undefined ? {} : { maxOutputTokens: maxOutput }),
    asOf,
  }
}

function set(file: string, model: string, price: PriceOverride): Report {
  const { rates } = understood(model, price)
  const { version } = setPrice(file, model, price)
  const { inputTokens, outputTokens } = rates.tokens
  const words = [
    ...(inputTokens === undefined ? [] : [`${rateWords(inputTokens)} in`]),
    ...(outputTokens === undefined ? [] : [`${rateWords(outputTokens)} out per million tokens`]),
    ...otherWords(rates),
  ]
  return {
    json: { file, version, model, price } satisfies PricesSetJson,
    text: () => `${model}: ${words.join(', ')}\n${file} is at version ${version}.\n`,
  }
}

/** The same code reads it that `openKernel` reads prices with, before anything is written. @throws {InvalidArgumentError} */
function understood(model: string, price: PriceOverride): ReturnType<typeof readOverride> {
  try {
    if (model.trim() === '' || model.length > 256) throw new TypeError('Give the name of a model, at most 256 characters.')
    return readOverride(model, price)
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message)
  }
}

function addFee(text: string, fees: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const [, tool = '', usd = ''] = /^([\w.-]{1,64})=\$?(.+)$/.exec(text) ?? []
  if (tool === '') throw new InvalidArgumentError(`\`${text}\` is no fee; write web_search=10.`)
  if (Object.hasOwn(fees, tool)) throw new InvalidArgumentError(`\`${tool}\` is given twice.`)
  return { ...fees, [tool]: usd }
}

function wholeNumber(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError(`\`${text}\` is no whole number.`)
  return Number(text)
}
