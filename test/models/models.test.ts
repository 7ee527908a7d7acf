// The Spin models: what must hold holds in a complete search, and every variant that is broken on purpose breaks. A
// model that cannot fail says nothing, so the runner has to notice one.

import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { MODELS, isQuick, judge, main, missingPrograms, rowsOf, searchRow, searchRows, type Row } from '../../models/run.ts'
import { requireServer } from '../stores/servers.ts'

const missing = missingPrograms()
const present = requireServer(missing[0] ?? 'spin', 'the Spin models', missing.length === 0)
/** Each model takes some seconds of both cores, and other tests run beside it. */
const MODEL_MS = 600_000

/** A row that the tables do not have. */
function rowOf(model: string, flags: readonly string[], expected: Row['expected']): Row {
  return { ...rowsOf(model)[0]!, flags, expected, states: 1 }
}

describe.skipIf(!present)('in every order of its steps', () => {
  for (const model of MODELS) {
    test(
      `the model \`${model}\` does what its table says`,
      async () => {
        const outcomes = await searchRows(rowsOf(model).filter(isQuick))
        expect(outcomes.filter(({ expected }) => !expected)).toEqual([])
        expect(new Set(outcomes.map(({ row }) => row.expected))).toContain('holds')
        expect(outcomes.filter(({ row, found }) => row.expected === 'fails' && found === 'violated').length).toBeGreaterThanOrEqual(3)
      },
      MODEL_MS,
    )
  }

  test(
    'NEGATIVE CONTROL: a broken variant that does not break is a surprise, and so is a protocol that does',
    async () => {
      const [unbroken, broken] = await searchRows([
        rowOf('journal', [], 'fails'),
        rowOf('lease', ['-DLIMIT=2', '-DBILL', '-DREFUND'], 'holds'),
      ])
      expect(unbroken).toMatchObject({ found: 'holds', expected: false })
      expect(broken).toMatchObject({ found: 'violated', expected: false, detail: expect.stringContaining('assertion violated') })
    },
    MODEL_MS,
  )

  test(
    'NEGATIVE CONTROL: a flaw that is gone, and a model that cannot be built, are surprises',
    async () => {
      expect(await searchRow(rowOf('journal', ['-DNOFREEZE', '-DGLUED'], 'flaw'))).toMatchObject({ found: 'holds', expected: false })
      expect(await searchRow(rowOf('lease', ['-DN=9'], 'fails'))).toMatchObject({ found: 'incomplete', expected: false })
    },
    MODEL_MS,
  )
})

describe('the runner', () => {
  const row: Row = { file: '', model: 'any', flags: [], expected: 'holds', states: 1 }

  test('believes a search only when it was complete', () => {
    const whole = 'State-vector 96 byte, depth reached 42, errors: 0\n      123 states, stored\n'
    expect(judge(row, whole, 0)).toMatchObject({ found: 'holds', states: 123, expected: true, detail: '' })
    expect(judge(row, `error: max search depth too small\n${whole}`, 0)).toMatchObject({ found: 'incomplete', expected: false })
    expect(judge(row, `Warning: Search not completed\n${whole}`, 0)).toMatchObject({ found: 'incomplete', expected: false })
    expect(judge(row, '', 0)).toMatchObject({ found: 'incomplete', expected: false })
    const deadlock = 'pan:1: invalid end state (at depth 3)\nerrors: 1\n 2 states, stored'
    expect(judge({ ...row, expected: 'fails' }, deadlock, 0)).toMatchObject({ found: 'incomplete', expected: false })
  })

  test('finds a row for each line of a table, and refuses a table that shows nothing', () => {
    const table = (...rows: readonly string[]): string => `/* \n${rows.map((line) => `   ${line}\n`).join('')}*/`
    const good = [
      'default | holds | 1,234 | what',
      '-DA | fails | 1 | a',
      '-DA -DB=2 | fails | 2 | b',
      '-DC | fails | 3 | c',
      '-DD | flaw | 4 | d',
    ]
    expect(rowsOf('any', table(...good)).map(({ flags, expected, states }) => [flags, expected, states])).toEqual([
      [[], 'holds', 1_234],
      [['-DA'], 'fails', 1],
      [['-DA', '-DB=2'], 'fails', 2],
      [['-DC'], 'fails', 3],
      [['-DD'], 'flaw', 4],
    ])
    expect(() => rowsOf('any', table(...good.slice(1)))).toThrow('one row that holds and three that fail')
    expect(() => rowsOf('any', table(...good.slice(0, 3)))).toThrow('one row that holds and three that fail')
  })

  test('every variant that a model knows has a row, and every row names variants that it knows', () => {
    for (const model of MODELS) {
      const rows = rowsOf(model)
      const named = new Set(rows.flatMap(({ flags }) => flags.map((flag) => flag.replace(/^-D|=.*/g, ''))))
      expect(macrosOf(rows[0]!.file).filter((macro) => !named.has(macro))).toEqual([])
      expect([...named].filter((macro) => !macrosOf(rows[0]!.file, true).includes(macro))).toEqual([])
    }
  })

  test('says loudly what is missing, and names a model that is not there', async () => {
    expect(missingPrograms('/nowhere')).toEqual(['spin', 'gcc'])
    expect(await main(['--model', 'none'])).toBe(1)
  })
})

/** What a model asks the preprocessor for: its broken variants, and on request its sizes too. */
function macrosOf(file: string, withSizes = false): readonly string[] {
  const text = readFileSync(file, 'utf8')
  const asked = [...text.matchAll(/^#(?:ifdef|ifndef) (\w+)$/gm)].map(([, macro]) => macro!)
  return [...new Set(asked)].filter((macro) => withSizes || !new RegExp(`^#define ${macro} \\d`, 'm').test(text))
}
