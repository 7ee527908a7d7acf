// The examples of the repository run as they stand, without a key, and say themselves whether what they show is so.

import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const folder = join(import.meta.dirname, '..', 'examples')
const examples = readdirSync(folder).filter((name) => name.endsWith('.ts'))

test.each(examples)('examples/%s runs without a key, and its figures agree', (name) => {
  const { OPENAI_API_KEY: _openai, ANTHROPIC_API_KEY: _anthropic, ...env } = process.env
  const output = execFileSync(process.execPath, [join(folder, name)], { encoding: 'utf8', env, timeout: 60_000 })
  expect(output.trim().split('\n').length).toBeGreaterThan(3)
})

test('the bank run loses money without a kernel and none with it', () => {
  const output = execFileSync(process.execPath, [join(folder, 'bank-run.ts')], { encoding: 'utf8' })
  expect(output).toMatch(/Without: .* are gone\./)
  expect(output).toMatch(/With a kernel:\n(?:.*\n)*.*is refused: `balance` in `accounts` was at version \d+ .* written by `agent-[ab]`/)
})
