// The package as a stranger gets it: packed, installed into an empty project without any peer, every export
// loaded by import and by require, types checked, an old Node answered in plain words.

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { gzipSync } from 'node:zlib'
import { build } from 'vite'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GENAI_PRICES_VERSION } from '../src/metering/prices.ts'
import { VERSION } from '../src/kernel/open-kernel.ts'

const ROOT = resolve(import.meta.dirname, '..')
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  version: string
  exports: Record<string, unknown>
  dependencies: Record<string, string>
}
const entries = Object.keys(manifest.exports).filter((entry) => entry !== './package.json')
/** LangChain recognises its own classes only, so what makes messages and middleware needs it. */
const WITH_PEERS = ['./langchain', './langgraph']
const MAX_INTEGRATION_BYTES = 40 * 1024

let project: string
let tarball: string

describe('package', () => {
  beforeAll(() => {
    project = mkdtempSync(join(tmpdir(), 'holdfast-package-'))
    const [packed] = JSON.parse(run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', project], ROOT)) as [
      { filename: string },
    ]
    tarball = join(project, packed.filename)
    writeFileSync(join(project, 'package.json'), '{"name":"stranger","private":true}\n')
    run('npm', ['install', '--no-audit', '--no-fund', '--omit=peer', '--omit=optional', tarball], project)
  }, 120_000)

  afterAll(() => rmSync(project, { recursive: true, force: true }))

  test('none of the frameworks is installed with it', () => {
    for (const peer of ['ai', 'openai', '@anthropic-ai/sdk', '@ai-sdk/provider', 'zod', 'langchain', '@langchain/core'])
      expect(existsSync(join(project, 'node_modules', peer))).toBe(false)
  })

  test.each(entries)('%s loads by import and by require, without any peer unless it is made of its classes', (entry) => {
    if (WITH_PEERS.includes(entry)) linkPeers()
    const specifier = JSON.stringify(entry.replace('.', 'holdfast'))
    const imported = run(
      process.execPath,
      ['--input-type=module', '-e', `console.log(Object.keys(await import(${specifier})).sort().join())`],
      project,
    )
    const required = run(
      process.execPath,
      ['-e', `console.log(Object.keys(require(${specifier})).filter((name) => name !== '__esModule').sort().join())`],
      project,
    )
    expect(imported.trim().length).toBeGreaterThan(0)
    expect(required).toBe(imported)
  })

  test.each(WITH_PEERS)('%s says which package is missing', (entry) => {
    rmSync(join(project, 'node_modules/@langchain'), { recursive: true, force: true })
    const program = `import(${JSON.stringify(entry.replace('.', 'holdfast'))}).catch((error) => console.log(error.message))`
    expect(run(process.execPath, ['--input-type=module', '-e', program], project)).toContain("Cannot find package '@langchain/")
  })

  test('the README’s kernel works in it, prices included', () => {
    const program = `
      import { memoryStore, openKernel } from 'holdfast'
      await using kernel = await openKernel({ store: memoryStore(), budgets: { acme: { usd: 1 } } })
      const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
      const price = (await scope.prices()).find('gpt-4o-mini')
      console.log(price.source)`
    expect(run(process.execPath, ['--input-type=module', '-e', program], project)).toContain('genai-prices')
  })

  test('the command line tool runs from node_modules/.bin', () => {
    expect(run(process.execPath, [join(project, 'node_modules/.bin/holdfast'), '--version'], project).trim()).toBe(manifest.version)
  })

  test('an old Node is told which one is needed', () => {
    const program = `Object.defineProperty(process.versions, 'node', { value: '22.12.0' }); import('holdfast').catch((error) => console.log(error.message))`
    expect(run(process.execPath, ['-e', program], project)).toContain('needs Node.js 22.13 or later; this is 22.12.0')
  })

  test('publint has nothing to say', () => {
    expect(run(process.execPath, [join(ROOT, 'node_modules/publint/src/cli.js'), '--strict', tarball], ROOT)).toContain('All good')
  })

  test('the types of the packed tarball resolve, from ESM and from bundlers', () => {
    const attw = join(ROOT, 'node_modules/@arethetypeswrong/cli/dist/index.js')
    const { problems } = JSON.parse(run(process.execPath, [attw, tarball, '--profile', 'esm-only', '--format', 'json'], ROOT)) as {
      problems: Record<string, { resolutionKind?: string }[]>
    }
    const counted = Object.values(problems)
      .flat()
      .filter(({ resolutionKind }) => resolutionKind === 'node16-esm' || resolutionKind === 'bundler')
    expect(counted).toEqual([])
  }, 120_000)

  test.each(['ai-sdk', 'anthropic', 'openai'])(
    'holdfast/%s needs no file system, and is below 40 KB gzipped',
    async (name) => {
      const outDir = join(project, `bundle-${name}`)
      mkdirSync(outDir)
      const external: string[] = []
      await build({
        root: ROOT,
        configFile: false,
        logLevel: 'silent',
        build: {
          outDir,
          minify: true,
          lib: { entry: join(ROOT, `dist/integrations/${name}.js`), formats: ['es'], fileName: 'bundle' },
          rolldownOptions: {
            external(id) {
              const outside = id.startsWith('node:') || id === '@pydantic/genai-prices'
              if (outside) external.push(id)
              return outside
            },
          },
        },
      })
      expect(external).not.toContain('node:fs')
      expect(gzipSync(readFileSync(join(outDir, 'bundle.js'))).length).toBeLessThan(MAX_INTEGRATION_BYTES)
    },
    60_000,
  )

  test.each([
    ['edge-light', 'holdfast/ai-sdk', 'holdfastMiddleware'],
    ['workerd', 'holdfast/openai', 'wrapOpenAI'],
    ['edge-light', 'holdfast', 'openKernel'],
  ])(
    'a bundle for %s that has %s in it says that it needs Node.js, and asks for nothing of Node',
    async (condition, entry, name) => {
      const bundle = await bundled(condition, `import { ${name} } from '${entry}'; export default ${name}`)
      expect(bundle).not.toMatch(/node:|from ['"]/)
      const program = `import(${JSON.stringify(`data:text/javascript,${encodeURIComponent(bundle)}`)}).catch((error) => console.log(error.message))`
      expect(run(process.execPath, ['-e', program], project)).toContain('holdfast runs on the Node.js runtime only')
    },
    60_000,
  )

  test('a bundle for Node has the entry itself', async () => {
    expect(await bundled('node', `import { wrapOpenAI } from 'holdfast/openai'; export default wrapOpenAI`)).toMatch(/node:async_hooks/)
  }, 60_000)

  test('what bundles for edge runtimes get in the place of an entry has every name of it, so that they link', async () => {
    const stub = readFileSync(join(ROOT, 'src/lib/node-only.ts'), 'utf8')
    for (const entry of entries.filter((one) => one !== './testing')) {
      const { default: file, 'edge-light': edge, workerd } = manifest.exports[entry] as Record<string, string>
      expect([edge, workerd]).toEqual(['./dist/src/lib/node-only.js', './dist/src/lib/node-only.js'])
      const names = Object.keys((await import(join(ROOT, file!))) as object)
      expect(names.filter((name) => !stub.includes(` as ${name},`))).toEqual([])
    }
  })

  test('versions that the code names are those of the manifests', () => {
    expect(VERSION).toBe(manifest.version)
    expect(GENAI_PRICES_VERSION).toBe(manifest.dependencies['@pydantic/genai-prices'])
  })
})

/** A program of the stranger's project, bundled under a condition of resolution. */
async function bundled(condition: string, program: string): Promise<string> {
  const entry = join(project, `${condition}.mjs`)
  writeFileSync(entry, program)
  const result = await build({
    root: project,
    configFile: false,
    logLevel: 'silent',
    resolve: { conditions: [condition, 'import', 'default'] },
    build: {
      write: false,
      lib: { entry, formats: ['es'], fileName: 'bundle' },
      rolldownOptions: { external: (id) => id.startsWith('node:') || id === '@pydantic/genai-prices' },
    },
  })
  const [{ output }] = result as unknown as [{ output: readonly { code: string }[] }]
  return output.map(({ code }) => code).join('\n')
}

/** The peers as their owner would have installed them, from this repository. */
function linkPeers(): void {
  for (const peer of ['langchain', '@langchain']) {
    const place = join(project, 'node_modules', peer)
    if (!existsSync(place)) symlinkSync(join(ROOT, 'node_modules', peer), place)
  }
}

function run(command: string, args: readonly string[], cwd: string): string {
  return execFileSync(command, [...args], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1' },
  })
}
