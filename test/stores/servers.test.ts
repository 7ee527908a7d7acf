// A server that is missing is said aloud, and is a failure where everything must run.

import { expect, onTestFinished, test, vi } from 'vitest'
import { findProgram, requireServer } from './servers.ts'

const MISSING = 'no-such-server-of-ours'

test('a missing server is one line on stderr, and a failure under CI', () => {
  onTestFinished(() => void vi.unstubAllEnvs())
  const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  onTestFinished(() => said.mockRestore())
  vi.stubEnv('CI', '')
  expect(requireServer(MISSING, 'the store')).toBe(false)
  expect(said.mock.calls).toEqual([[`NOT RUN: the store: ${MISSING} is not installed\n`]])
  vi.stubEnv('CI', 'true')
  expect(() => requireServer(MISSING, 'the store')).toThrow(`NOT RUN: the store: ${MISSING} is not installed`)
})

test('a server that is there is required without a word, wherever it was found', () => {
  expect(findProgram('sh')).toMatch(/\/sh$/)
  expect(requireServer('sh', 'the shell')).toBe(true)
  expect(requireServer(MISSING, 'the store', true)).toBe(true)
})
