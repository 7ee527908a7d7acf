// `npm run demo`: two agents in two OS processes on one budget, over real HTTP; a tool that is denied, one that
// needs a person, a process that is killed in mid-call, a budget that runs out, and an audit trail that shows
// where it was touched. The exit code is 0 only if every figure agrees.

import { fork, type ChildProcess } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatUsd, openKernel, verifyAudit, type BudgetLine, type Kernel } from 'holdfast'
import { startProvider, type SimulatedProvider } from 'holdfast/testing'
import { openStore } from './store.ts'
import { BUDGET, BUDGETS, RULES, answer, type WorkerMessage } from './story.ts'
import { createView, printTable, type Speaker } from './view.ts'

const view = createView()
const data = mkdtempSync(join(tmpdir(), 'holdfast-demo-'))
const real = process.env['OPENAI_API_KEY'] !== undefined
const provider = real ? undefined : await startProvider({ script: answer })
const baseURL = provider?.baseURL ?? process.env['OPENAI_BASE_URL'] ?? ''
const address = process.argv.includes('--store') ? process.argv[process.argv.indexOf('--store') + 1]! : 'file'
const opened = await openStore(address, data)
const kernel = await openKernel({
  store: opened.store,
  data,
  budgets: BUDGETS,
  rules: RULES,
  leaseTtlMs: 1_000,
  onEvent: ({ message }) => view.say('demo', message),
})
/** What the workers have told: who was first on the blackboard, and what the handoff cost. */
const told = { reading: [] as ChildProcess[], firsts: [] as boolean[], handed: 0 }
const refusals = new Map<string, { count: number; reason: string }>()

view.say('demo', `budget ${BUDGET}: at most ${formatUsd(5_000_000)}, for everybody together`)
view.say('demo', real ? 'talking to the endpoint of your OPENAI_API_KEY' : `a provider of our own listens on ${baseURL}`)
const following = setInterval(() => void kernel.budgets(BUDGET).then(([line]) => view.bar(line)), 100)

const agents = [run('researcher'), run('writer')]
await killInMidCall(provider)
agents.push(run('successor'))
await Promise.all(agents)
await ended(kernel)
clearInterval(following)
view.end()

const faults = [...(await closingTable(kernel, provider)), ...(await auditVerdicts(kernel))]
await kernel.close()
await opened.close()
await provider?.close()
rmSync(data, { recursive: true, force: true })
for (const fault of faults) console.error(`NOT AS IT SHOULD BE: ${fault}`)
console.log(faults.length === 0 ? '\nEvery figure agrees.' : '\nSome figures do not agree.')
process.exitCode = faults.length === 0 ? 0 : 1

/** Starts a worker and follows it to its end. */
function run(role: Speaker): Promise<void> {
  const child = start(role)
  return new Promise((resolve) => child.once('exit', () => resolve()))
}

function start(role: Speaker): ChildProcess {
  const child = fork(new URL('worker.ts', import.meta.url), [role, data, baseURL, address], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  child.on('message', (message) => void hear(role, child, message as WorkerMessage))
  return child
}

async function hear(role: Speaker, child: ChildProcess, message: WorkerMessage): Promise<void> {
  if (message.type === 'say') return view.say(role, message.text)
  if (message.type === 'refused') {
    const { count = 0, reason = message.reason } = refusals.get(message.code) ?? {}
    refusals.set(message.code, { count: count + 1, reason })
    return view.say(role, `refused, ${message.code}`)
  }
  if (message.type === 'read') {
    // Only when both have read the key are they let go: so one of them writes on what is not so any more.
    if (told.reading.push(child) === 2) for (const reader of told.reading) reader.send('go')
    return
  }
  if (message.type === 'wrote') return void told.firsts.push(message.first)
  if (message.type === 'handed') {
    told.handed += message.spent + message.returned
    return
  }
  const { agent, tool, argsHash } = message
  view.say('demo', `a person looks at ${tool} of ${agent}, and approves exactly this call`)
  await kernel.approve({ agent, tool, argsHash, by: 'the person at the demo', expiresInMs: 60_000 })
  child.send('approved')
}

/** SIGKILL while the provider works on the answer: nobody will ever know in time what it cost. */
async function killInMidCall(server: SimulatedProvider | undefined): Promise<void> {
  const child = start('doomed')
  const gone = new Promise((resolve) => child.once('exit', resolve))
  const thinking = (): boolean => server?.requests().some(({ body }) => JSON.stringify(body).includes('very long think')) ?? false
  for (let waited = 0; waited < 10_000 && !thinking(); waited += 50) {
    // A real endpoint does not say what it is working on; two seconds are enough for the request to be there.
    if (server === undefined && waited >= 2_000) break
    await sleep(50)
  }
  child.kill('SIGKILL')
  await gone
  view.say('demo', 'killed “doomed” with SIGKILL in mid-call; a fresh process takes over')
}

/** Waits until nothing is held any more: what the killed process held has been charged at worst by then. */
async function ended(watcher: Kernel): Promise<void> {
  for (let waited = 0; waited < 10_000; waited += 200) {
    await watcher.sweep()
    if ((await watcher.budgets()).every(({ out, suspense }) => out + suspense === 0)) return
    await sleep(200)
  }
}

/** What was spent by calls whose use is known. */
function settled({ spent, assumed }: BudgetLine): number {
  return spent - assumed
}

/** All nine decimals: to the nano-dollar, and one below the other. */
function exact(nanoUsd: number): string {
  const [whole, fraction = ''] = formatUsd(nanoUsd).split('.')
  return `${whole}.${fraction.padEnd(9, '0')}`
}

async function closingTable(reader: Kernel, server: SimulatedProvider | undefined): Promise<string[]> {
  const lines = await reader.budgets()
  // Without a bill of the provider's own, what its answers said is the only witness.
  const bill = server?.bill().nanoUsd
  console.log()
  printTable(
    ['budget', 'limit', 'spent', 'assumed', 'held', 'suspense', bill === undefined ? 'usage bodies' : 'provider’s bill'],
    lines.map((line) => [
      line.budget,
      ...[line.limit, line.spent, line.assumed, line.out, line.suspense, bill ?? settled(line)].map(exact),
    ]),
  )
  console.log()
  for (const [code, { count, reason }] of refusals) console.log(`${String(count).padStart(3)} x ${code}: ${reason}`)
  const faults = lines.filter(({ balanced }) => !balanced).map(({ budget }) => `${budget}: the columns do not add up to the limit`)
  if (server === undefined) return faults
  const completed = server
    .bill()
    .lines.filter((line) => line.completed)
    .reduce((sum, line) => sum + line.nanoUsd, 0)
  for (const line of lines) {
    const { budget, spent, out, suspense, limit } = line
    if (bill! > spent + out + suspense) faults.push(`${budget}: the provider billed more than spent + held + suspense`)
    if (spent + out + suspense > limit) faults.push(`${budget}: more than the limit`)
    if (completed !== settled(line))
      faults.push(`${budget}: settled ${settled(line)}, but the provider billed ${completed} nano-USD for those calls`)
    if (suspense > 0) faults.push(`${budget}: what the killed process held is in suspense still`)
  }
  console.log(`\nThe calls that were settled: ${exact(completed)} on the provider’s bill, ${exact(settled(lines[0]!))} in the ledger.`)
  if (told.firsts.length !== 2 || told.firsts.filter(Boolean).length !== 1) faults.push('not exactly one agent wrote the headline')
  if (told.handed !== 600_000) faults.push(`of a handoff of 600,000 nano-USD ${told.handed} were accounted for`)
  if (!endings().some(({ charged }) => charged === 1)) faults.push('nobody has charged the call that the killed process left')
  if (lines.some(({ kids }) => kids !== 0)) faults.push('money is still with a handoff that was closed')
  for (const code of ['ERR_PERMISSION_DENIED', 'ERR_APPROVAL_REQUIRED', 'ERR_BUDGET_EXCEEDED', 'ERR_CONFLICT'])
    if (!refusals.has(code)) faults.push(`nobody was refused with ${code}`)
  return faults
}

/** What successors have written of the dead. */
function endings(): readonly { readonly charged: number }[] {
  const folder = join(data, 'chains')
  const lines = readdirSync(folder)
    .filter((name) => name.endsWith('.jsonl'))
    .flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n'))
  return lines.filter((line) => line.includes('"type":"succeeded"')).map((line) => JSON.parse(line) as { charged: number })
}

/** Verifies the trail, then changes one amount in a copy and verifies that. */
async function auditVerdicts({ store }: Kernel): Promise<string[]> {
  const verdicts = await verifyAudit(data, store)
  const records = verdicts.reduce((sum, verdict) => sum + verdict.records, 0)
  console.log(`\naudit: ${verdicts.length} chains, ${records} records, ${verdicts.every(({ ok }) => ok) ? 'all of them hold' : 'BROKEN'}`)
  const copy = `${data}-tampered`
  cpSync(data, copy, { recursive: true })
  try {
    const name = readdirSync(join(copy, 'chains')).find((file) =>
      readFileSync(join(copy, 'chains', file), 'utf8').includes('"outcome":"settled"'),
    )!
    const file = join(copy, 'chains', name)
    writeFileSync(
      file,
      readFileSync(file, 'utf8').replace(
        /("outcome":"settled".*?"usd":)(\d)/,
        (_all, before: string, digit: string) => `${before}${(Number(digit) + 1) % 10}`,
      ),
    )
    const bad = (await verifyAudit(copy, store)).find(({ ok }) => !ok)
    console.log(`audit of a copy in which one digit was changed: ${bad?.fault ?? 'NOTHING WAS NOTICED'}`)
    return [
      ...verdicts.filter(({ ok }) => !ok).map(({ chain, fault }) => `chain ${chain}: ${fault}`),
      ...(bad === undefined ? ['a changed digit was not noticed'] : []),
    ]
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}
