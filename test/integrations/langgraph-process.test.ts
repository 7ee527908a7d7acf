// A graph that is begun in one process of the operating system and resumed in another, on one store and one saver.

import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryDirectory } from '../stores/journal.ts'

const start = (folder: string, what: string): ChildProcess => fork(new URL('langgraph-worker.ts', import.meta.url), [folder, what])

/** What the tools had answered when a worker was done. */
async function answersOf(worker: ChildProcess): Promise<readonly string[]> {
  let answers: readonly string[] | undefined
  worker.on('message', (message: unknown) => {
    if (typeof message === 'object') answers = (message as { answers: readonly string[] }).answers
  })
  const [code] = (await once(worker, 'exit')) as [number]
  expect(code).toBe(0)
  return answers!
}

const sentIn = (folder: string): string => readFileSync(join(folder, 'sent'), 'utf8')

test('a graph that is resumed in another process does not repeat what the first one did', async () => {
  const folder = temporaryDirectory()
  expect(await answersOf(start(folder, 'start'))).toEqual([])
  expect(await answersOf(start(folder, 'resume'))).toEqual(['success: sent to ann', 'success: confirmed: yes'])
  expect(sentIn(folder)).toBe('ann\n')
})

test('what a process was doing when it was killed is not repeated by its successor: the model is told that nobody knows', async () => {
  const folder = temporaryDirectory()
  const doomed = start(folder, 'hang')
  await once(doomed, 'message')
  doomed.kill('SIGKILL')
  await once(doomed, 'exit')
  const [answer] = await answersOf(start(folder, 'again'))
  expect(answer).toMatch(/^error: This was begun before, and it is not known whether it went through/)
  expect(sentIn(folder)).toBe('ann\n')
})
