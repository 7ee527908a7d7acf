// Tools of the Agents SDK behind the gates: what runs, what is answered, and what opens a call that has to be approved.

import {
  Agent,
  RunContext,
  RunState,
  applyPatchTool,
  shellTool,
  tool,
  toolSearchTool,
  type ApplyPatchTool,
  type FunctionTool,
  type MCPServer,
  type ShellTool,
  type Tool,
} from '@openai/agents'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { approvalOf, guardAgent } from '../../integrations/openai-agents.ts'
import { SUITE_MODEL, errorOf } from '../../src/testing/integration-bench.ts'
import { findRefusal, type Rule } from '../../src/index.ts'
import { asking, guardedRunner, noting, onAgentsBench, outputsIn, runnerOn } from './openai-agents-bench.ts'

const agentWith = (tools: readonly object[], more: object = {}) =>
  new Agent({ name: 'suite-agent', model: SUITE_MODEL, tools: [...tools] as Tool[], ...more })
const call = (name: string, args: unknown = {}) => ({ name, arguments: args })
const BY = { by: 'operator', expiresInMs: 60_000 }

describe('parallel calls', () => {
  test('of eight calls on a counter of six, six run and two are told that it is used up', async () => {
    const toolCalls = Array.from({ length: 8 }, (_, nth) => call('send', { nth }))
    await onAgentsBench({ counters: { emails: 6 }, answers: asking(toolCalls) }, async (bench) => {
      const ran: unknown[] = []
      const runner = guardedRunner(bench, { toolAmounts: { send: { emails: 1 } } })
      const { finalOutput } = await runner.run(agentWith([noting('send', ran)]), 'Send eight.')
      expect(finalOutput).toBe('Done.')
      expect(ran).toHaveLength(6)
      const outputs = outputsIn(bench.provider.requests().at(-1)!)
      expect(outputs).toHaveLength(8)
      expect(outputs.filter((output) => output === 'send is done')).toHaveLength(6)
    })
  })

  test('two that have to be approved and one that is denied leave the other five running, and each is answered in the end', async () => {
    const rules: readonly Rule[] = [
      { effect: 'allow', tool: 'read' },
      { effect: 'ask', tool: 'pay' },
      { effect: 'deny', tool: 'drop' },
    ]
    const calls = [
      ...Array.from({ length: 5 }, (_, nth) => call('read', { nth })),
      call('pay', { to: 'a' }),
      call('pay', { to: 'b' }),
      call('drop'),
    ]
    await onAgentsBench({ rules, answers: asking(calls) }, async (bench) => {
      const [read, paid, dropped]: [unknown[], unknown[], unknown[]] = [[], [], []]
      const agent = agentWith([noting('read', read), noting('pay', paid), noting('drop', dropped)])
      const runner = guardedRunner(bench)
      const asked = await runner.run(agent, 'Go.')
      expect(asked.interruptions).toHaveLength(2)
      expect([read.length, paid, dropped]).toEqual([5, [], []])
      for (const question of asked.interruptions) asked.state.approve(question)
      await bench.kernel.approve({ ...approvalOf(asked.interruptions[1]!, bench.scope.agent), ...BY })
      const { finalOutput } = await runner.run(agent, asked.state)
      expect(finalOutput).toBe('Done.')
      expect([read.length, paid, dropped]).toEqual([5, [{ to: 'b' }], []])
      expect(outputsIn(bench.provider.requests().at(-1)!)).toHaveLength(8)
    })
  })
})

describe('a call that has to be approved', () => {
  const rules: readonly Rule[] = [{ effect: 'ask', tool: 'pay' }]
  const options = { rules, answers: asking([call('pay', { to: 'ann' })]) }

  test('runs once the kernel has its approval, and the run is resumed', async () => {
    await onAgentsBench(options, async (bench) => {
      const paid: unknown[] = []
      const agent = agentWith([noting('pay', paid)])
      const runner = guardedRunner(bench)
      const { interruptions, state } = await runner.run(agent, 'Pay.')
      await bench.kernel.approve({ ...approvalOf(interruptions[0]!, bench.scope.agent), ...BY })
      state.approve(interruptions[0]!)
      await runner.run(agent, state)
      expect(paid).toEqual([{ to: 'ann' }])
    })
  })

  test('does not run on the word of the state alone, and the model is told', async () => {
    await onAgentsBench(options, async (bench) => {
      const paid: unknown[] = []
      const agent = agentWith([noting('pay', paid)])
      const runner = guardedRunner(bench)
      const { interruptions, state } = await runner.run(agent, 'Pay.')
      state.approve(interruptions[0]!, { alwaysApprove: true })
      await runner.run(agent, state)
      expect(paid).toEqual([])
      expect(outputsIn(bench.provider.requests().at(-1)!)).toEqual([bench.scope.refusal!.toModelMessage()])
    })
  })

  test('does not run with other arguments than were approved, whatever a restored state says', async () => {
    await onAgentsBench(options, async (bench) => {
      const paid: unknown[] = []
      const agent = agentWith([noting('pay', paid)])
      const runner = guardedRunner(bench)
      const guarded = guardAgent(agent, runner)
      const { interruptions, state } = await runner.run(agent, 'Pay.')
      await bench.kernel.approve({ ...approvalOf(interruptions[0]!, bench.scope.agent), ...BY })
      const forged = state.toString().replaceAll('ann', 'eve')
      const restored = await RunState.fromString(guarded, forged)
      restored.approve(restored.getInterruptions()[0]!)
      await runner.run(agent, restored)
      expect(paid).toEqual([])
      const honest = await RunState.fromString(guarded, state.toString())
      honest.approve(honest.getInterruptions()[0]!)
      await runner.run(agent, honest)
      expect(paid).toEqual([{ to: 'ann' }])
    })
  })

  test('is not taken from a state of an agent that is not guarded', async () => {
    await onAgentsBench(options, async (bench) => {
      const paid: unknown[] = []
      const agent = agentWith([noting('pay', paid)])
      const runner = guardedRunner(bench)
      const { state } = await runner.run(agent, 'Pay.')
      const restored = await RunState.fromString(agent, state.toString())
      restored.approve(restored.getInterruptions()[0]!)
      await expect(runner.run(agent, restored)).rejects.toThrow('RunState.fromString(guardAgent(agent, runner), text)')
      expect(paid).toEqual([])
    })
  })

  test('is still asked about where the tool itself wants it, and the gates do not', async () => {
    const answers = asking([call('pay', { to: 'ann' })])
    await onAgentsBench({ answers }, async (bench) => {
      const paid: unknown[] = []
      const own = Object.assign(noting('pay', paid), { needsApproval: async () => true })
      const runner = guardedRunner(bench)
      const { interruptions, state } = await runner.run(agentWith([own]), 'Pay.')
      expect(interruptions).toHaveLength(1)
      expect(paid).toEqual([])
      state.approve(interruptions[0]!)
      await runner.run(agentWith([own]), state)
      expect(paid).toEqual([{ to: 'ann' }])
    })
  })
})

describe('what the model reads', () => {
  const rules: readonly Rule[] = [{ effect: 'deny', tool: 'drop' }]

  test('of a denied tool is what to do, also where the tool lets its errors through', async () => {
    await onAgentsBench({ rules, answers: asking([call('drop')]) }, async (bench) => {
      const ran: unknown[] = []
      const strict = tool({ name: 'drop', description: '', parameters: z.object({}), execute: () => ran.push(1), errorFunction: null })
      await guardedRunner(bench).run(agentWith([strict]), 'Go.')
      expect(ran).toEqual([])
      expect(outputsIn(bench.provider.requests().at(-1)!)).toEqual([bench.scope.refusal!.toModelMessage()])
    })
  })

  test.each([
    ['an errorFunction', { errorFunction: (_context: unknown, error: unknown) => `It failed: ${String(error)}` }],
    ['the SDK’s own text for errors', {}],
  ])('of a refusal inside of a tool is not the text for operators, nor to try again, with %s', async (_, more) => {
    await onAgentsBench({ answers: asking([call('outer')]) }, async (bench) => {
      const inner = new Agent({ name: 'inner', model: 'a-model-without-a-price' })
      const runner = guardedRunner(bench)
      const outer = tool({
        name: 'outer',
        description: '',
        parameters: z.object({}),
        execute: async () => (await runner.run(inner, 'Go.')).finalOutput ?? '',
        ...more,
      })
      await runner.run(agentWith([outer]), 'Go.')
      const [output] = outputsIn(bench.provider.requests().at(-1)!)
      expect(output).toBe(bench.scope.refusal!.toModelMessage())
    })
  })
})

describe('a schema that makes other arguments of those that were sent', () => {
  const rules: readonly Rule[] = [
    { effect: 'allow', tool: 'pay' },
    { effect: 'deny', tool: 'pay', where: { to: 'eve' } },
  ]
  const parameters = z.object({ to: z.string().trim() })

  test('gets no denied ones past the gates', async () => {
    await onAgentsBench({ rules, answers: asking([call('pay', { to: ' eve ' }), call('pay', { to: ' ann ' })]) }, async (bench) => {
      const paid: unknown[] = []
      const pay = tool({ name: 'pay', description: '', parameters, execute: ({ to }) => (paid.push(to), 'done') })
      await guardedRunner(bench).run(agentWith([pay]), 'Pay.')
      expect(paid).toEqual(['ann'])
      const outputs = outputsIn(bench.provider.requests().at(-1)!)
      expect(outputs).toEqual([bench.scope.refusal!.toModelMessage(), 'done'])
    })
  })

  test('counts the call once', async () => {
    const counted = { counters: { payments: 1 }, toolAmounts: { pay: { payments: 1 } } }
    await onAgentsBench({ ...counted, answers: asking([call('pay', { to: ' ann ' })]) }, async (bench) => {
      const paid: unknown[] = []
      const pay = tool({ name: 'pay', description: '', parameters, execute: ({ to }) => (paid.push(to), 'done') })
      await guardedRunner(bench, { toolAmounts: { pay: { payments: 1 } } }).run(agentWith([pay]), 'Pay.')
      expect(paid).toEqual(['ann'])
    })
  })
})

describe('tools that come from elsewhere', () => {
  test('those of an MCP server ask the gates like any other', async () => {
    const rules: readonly Rule[] = [
      { effect: 'allow', tool: 'look' },
      { effect: 'deny', tool: 'wipe' },
    ]
    await onAgentsBench({ rules, answers: asking([call('look'), call('wipe')]) }, async (bench) => {
      const called: string[] = []
      const schema = { type: 'object' as const, properties: {}, required: [], additionalProperties: false }
      const server = {
        name: 'harbour',
        cacheToolsList: false,
        connect: async () => {},
        close: async () => {},
        invalidateToolsCache: async () => {},
        listTools: async () => ['look', 'wipe'].map((name) => ({ name, description: name, inputSchema: schema })),
        callTool: async (name: string) => {
          called.push(name)
          return [{ type: 'text', text: 'seen' }]
        },
      }
      await guardedRunner(bench).run(agentWith([], { mcpServers: [server as unknown as MCPServer] }), 'Go.')
      expect(called).toEqual(['look'])
      expect(outputsIn(bench.provider.requests().at(-1)!)).toHaveLength(2)
    })
  })

  test('those that a search of the application finds ask the gates, too', async () => {
    await onAgentsBench({ rules: [{ effect: 'deny', tool: 'wipe' }] }, async (bench) => {
      const wiped: unknown[] = []
      const search = toolSearchTool({ execution: 'client', execute: async () => [noting('wipe', wiped)] })
      const [guarded] = guardAgent(agentWith([search]), bench.scope).tools
      const key = Object.getOwnPropertySymbols(guarded!).find(({ description }) => description?.includes('oolSearch'))!
      const [found] = await (guarded as unknown as Record<symbol, () => Promise<FunctionTool[]>>)[key]!()
      expect(await found!.invoke(new RunContext(), '{}')).toBe(bench.scope.refusal!.toModelMessage())
      expect(wiped).toEqual([])
    })
  })

  test('an agent as a tool has to be guarded itself, and then its own tools ask, too', async () => {
    const rules: readonly Rule[] = [
      { effect: 'allow', tool: 'helper' },
      { effect: 'deny', tool: 'drop' },
    ]
    const answers = ({ index }: { index: number }) =>
      [{ toolCalls: [call('helper', { input: 'Go.' })] }, { toolCalls: [call('drop')] }, { text: 'Helped.' }][index] ?? { text: 'Done.' }
    await onAgentsBench({ rules, answers }, async (bench) => {
      const dropped: unknown[] = []
      const helper = new Agent({ name: 'helper', model: SUITE_MODEL, tools: [noting('drop', dropped)] })
      const runner = guardedRunner(bench)
      const asTool = { toolName: 'helper', toolDescription: 'helps' }
      await expect(runner.run(agentWith([helper.asTool(asTool)]), 'Go.')).rejects.toThrow('guardAgent(agent, scope).asTool(…)')
      const { finalOutput } = await runner.run(agentWith([guardAgent(helper, runner).asTool(asTool)]), 'Go.')
      expect(finalOutput).toBe('Done.')
      expect(dropped).toEqual([])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    })
  })

  test('a shell and an editor of the application ask the gates at each action', async () => {
    const rules: readonly Rule[] = [
      { effect: 'allow', tool: 'apply_patch' },
      { effect: 'deny', tool: 'apply_patch', where: { path: 'secret.txt' } },
      { effect: 'deny', tool: 'shell' },
    ]
    await onAgentsBench({ rules }, async ({ scope }) => {
      const did: string[] = []
      const shell = { run: async () => (did.push('run'), { output: [] }) }
      const noted = async ({ path }: { path: string }) => void did.push(path)
      const editor = { createFile: noted, updateFile: noted, deleteFile: noted }
      const given = [shellTool({ shell }), applyPatchTool({ editor })]
      const tools = guardAgent(agentWith(given), scope).tools as unknown as [ShellTool, ApplyPatchTool]
      const denied = await errorOf(() => tools[0].shell!.run({ commands: ['ls'] }))
      expect((denied as Error).message).toBe(scope.refusal!.toModelMessage())
      await tools[1].editor.deleteFile({ type: 'delete_file', path: 'notes.txt' })
      const secret = await errorOf(async () => tools[1].editor.deleteFile({ type: 'delete_file', path: 'secret.txt' }))
      expect(findRefusal(secret)?.code).toBe('ERR_PERMISSION_DENIED')
      expect(did).toEqual(['notes.txt'])
    })
  })

  test('a computer is refused, since no gate can be asked about what it does', async () => {
    await onAgentsBench({}, async ({ scope }) => {
      const computer = { type: 'computer', name: 'computer_use_preview', computer: {}, needsApproval: async () => false }
      expect(() => guardAgent(agentWith([computer]), scope)).toThrow('acts step by step on a computer')
    })
  })

  test('a provider that an agent as a tool is given for its own run is guarded, too', async () => {
    const answers = ({ index }: { index: number }) =>
      index === 0 ? { toolCalls: [call('helper', { input: 'Go.' })] } : { text: index === 1 ? 'Helped.' : 'Done.' }
    await onAgentsBench({ answers }, async (bench) => {
      const runner = guardedRunner(bench)
      const runConfig = { modelProvider: runnerOn(bench).config.modelProvider }
      const helper = guardAgent(new Agent({ name: 'helper', model: SUITE_MODEL }), runner)
      const asTool = helper.asTool({ toolName: 'helper', toolDescription: 'helps', runConfig })
      await runner.run(agentWith([asTool]), 'Go.')
      expect(bench.provider.bill().requests).toBe(3)
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    })
  })

  test('a copy of a guarded agent is guarded, with the listeners of the given one on the first', async () => {
    const rules: readonly Rule[] = [{ effect: 'deny', tool: 'drop' }]
    await onAgentsBench({ rules, answers: asking([call('drop')]) }, async (bench) => {
      const dropped: unknown[] = []
      const agent = agentWith([noting('drop', dropped)])
      let started = 0
      agent.on('agent_start', () => started++)
      const runner = guardedRunner(bench)
      await runner.run(guardAgent(agent, runner).clone({ instructions: 'Be brief.' }), 'Go.')
      expect([dropped, started]).toEqual([[], 0])
      await runner.run(agent, 'Go.')
      expect([dropped, started]).toEqual([[], 1])
    })
  })
})
