#!/usr/bin/env node
// The command `holdfast`. It looks at the version of Node before anything else is loaded: an old one would stop
// at the first module that it does not know, with a stack instead of a sentence.

async function main(): Promise<void> {
  await import('../lib/runtime.ts')
  const { run } = await import('./program.ts')
  await run(process.argv.slice(2))
}

/** What an old Node is told; everything later goes through `run`, which never throws. */
function refuseToStart(error: unknown): void {
  const message = (error instanceof Error ? error.message : String(error)).replace(/^holdfast /, '')
  const asJson = process.argv.includes('--json')
  process.stderr.write(asJson ? `${JSON.stringify({ error: { code: 'ERR_RUNTIME', message } })}\n` : `holdfast: ${message}\n`)
  process.exitCode = 1
}

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // A reader that has seen enough, as in `| head`, is no failure.
  if (error.code !== 'EPIPE') {
    process.stderr.write(`holdfast: the output could not be written: ${error.message}\n`)
    process.exitCode = 1
  }
  process.exit()
})

main().catch(refuseToStart)
