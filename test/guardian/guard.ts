// What the tests of permissions share: one question to the guardian, and one to a kernel that has nothing else to say.

import { onTestFinished } from 'vitest'
import { AuthGuardian } from '../../src/guardian/auth-guardian.ts'
import type { Constraint, Rule } from '../../src/waist/rule.ts'
import { openKernel, type Kernel, type KernelOptions } from '../../src/kernel/open-kernel.ts'
import { canonicalJson } from '../../src/lib/canonical-json.ts'
import { sha256 } from '../../src/lib/ids.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Verdict } from '../../src/waist/gate.ts'
import type { Scope } from '../../src/waist/scope.ts'

/** Who asks for what. */
export interface Question {
  readonly agent?: string
  readonly tool?: string
  readonly args?: unknown
}

/** The guardian's whole answer to one question, under these rules. */
export async function answerOf(rules: readonly Rule[], { agent = 'ann', tool = 'read', args }: Question = {}): Promise<Verdict> {
  const guardian = new AuthGuardian(rules, memoryStore())
  return guardian.decide({ kind: 'tool', agent, task: 't', resource: tool, args, argsHash: 'hash' })
}

/** The guardian's verdict on one question, under these rules. */
export async function verdictOf(rules: readonly Rule[], question: Question = {}): Promise<Verdict['verdict']> {
  return (await answerOf(rules, question)).verdict
}

/** Whether a rule that allows with this constraint lets an argument pass, and whether one that denies with it stops it. */
export async function judged(constraint: Constraint, value: unknown): Promise<'passes' | 'neither' | 'is stopped' | 'both'> {
  const where = { arg: constraint }
  const args = value === undefined ? {} : { arg: value }
  const allows = (await verdictOf([{ effect: 'allow', tool: 'read', where }], { args })) === 'allow'
  const rules = [{ effect: 'allow', tool: 'read' } as const, { effect: 'deny', tool: 'read', where } as const]
  const denies = (await verdictOf(rules, { args })) === 'deny'
  if (allows && denies) return 'both'
  if (allows) return 'passes'
  return denies ? 'is stopped' : 'neither'
}

/** The hash of arguments, as a refusal carries it. */
export function hashOf(args: unknown): string {
  return sha256(canonicalJson(args))
}

/** Opens a kernel with plenty of money; it is closed with its test. */
export async function openWith(rules: readonly Rule[] | undefined, options: Partial<KernelOptions> = {}): Promise<Kernel> {
  const kernel = await openKernel({
    store: memoryStore(),
    budgets: { acme: { calls: 1_000_000 }, poor: { calls: 0 } },
    waitMs: 0,
    onEvent: () => {},
    ...(rules === undefined ? {} : { rules }),
    ...options,
  })
  onTestFinished(() => kernel.close())
  return kernel
}

/** The scope of an agent at work. */
export function scopeOf(kernel: Kernel, agent = 'ann', budget = 'acme'): Scope {
  return kernel.scope({ agent, task: 't', budget })
}

/** The code with which a tool is refused, or `passed`. */
export async function tried(scope: Scope, tool: string, args?: unknown): Promise<string> {
  try {
    await (await scope.begin({ kind: 'tool', resource: tool, args, worst: { calls: 1 } })).settle({ calls: 1 })
    return 'passed'
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}
