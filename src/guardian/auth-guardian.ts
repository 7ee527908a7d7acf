// AuthGuardian: may this agent use this tool with these arguments? Rules decide, deterministically; deny beats
// ask, ask beats allow, and what no rule names is denied. `ask` waits for a person: the approval is a record
// that the next `begin` with exactly these arguments uses up in its own commit.

import { assertName } from '../lib/names.ts'
import type { Store } from '../stores/store.ts'
import type { ProposedAction } from '../waist/action.ts'
import type { Gate, Verdict } from '../waist/gate.ts'
import { assertConstraint, meets, type Constraint, type StandardSchema } from './constraints.ts'

/** One rule. `*` stands for every agent or every tool. */
export interface Rule {
  readonly effect: 'allow' | 'ask' | 'deny'
  /** Agents that it is about. @default '*' */
  readonly agent?: string | readonly string[]
  /** Tools that it is about. */
  readonly tool: string | readonly string[]
  /** It applies only to calls whose arguments meet all of these; arguments that are not named are free. */
  readonly where?: Readonly<Record<string, Constraint>>
  /** It applies only to calls whose arguments pass this schema (zod and others). */
  readonly schema?: StandardSchema
}

/** An approval, as it lies in the store until it is used. */
export interface Approval {
  readonly agent: string
  readonly tool: string
  readonly argsHash: string
  /** Who approved, for the record. */
  readonly by: string
}

/** The key of an approval: single use, for one agent, one tool and exactly these arguments. */
export const approvalKey = ({ agent, tool, argsHash }: Omit<Approval, 'by'>): string => `approval/${agent}/${tool}/${argsHash}`

const MAX_RULES = 1_000
const STRENGTH = { allow: 0, ask: 1, deny: 2 } as const

/** The gate of permissions. */
export class AuthGuardian implements Gate {
  readonly name = 'guardian'
  readonly #rules: readonly Rule[]
  readonly #store: Pick<Store, 'read'>

  /** @throws {TypeError} {RangeError} For a rule that cannot be understood. */
  constructor(rules: readonly Rule[], store: Pick<Store, 'read'>) {
    if (rules.length > MAX_RULES) throw new RangeError(`At most ${MAX_RULES} rules, got ${rules.length}.`)
    for (const [index, rule] of rules.entries()) assertRule(`rules[${index}]`, rule)
    this.#rules = rules
    this.#store = store
  }

  /** Decides on tools; other kinds of action are not its business. */
  async decide(action: ProposedAction): Promise<Verdict> {
    if (action.kind !== 'tool') return { verdict: 'allow' }
    const { agent, resource: tool, argsHash } = action
    const matching = await this.#matching(action)
    const strongest = matching.reduce<Rule['effect'] | undefined>(
      (effect, rule) => (effect === undefined || STRENGTH[rule.effect] > STRENGTH[effect] ? rule.effect : effect),
      undefined,
    )
    if (strongest === 'allow') return { verdict: 'allow' }
    if (strongest === 'ask') return this.#askFor({ agent, tool, argsHash })
    const known = this.#rules.some((rule) => rule.effect !== 'deny' && names(rule.tool, tool) && names(rule.agent ?? '*', agent))
    const reason =
      strongest === 'deny'
        ? `A rule denies \`${tool}\` to \`${agent}\`.`
        : known
          ? `No rule allows \`${tool}\` to \`${agent}\` with these arguments.`
          : `No rule names \`${tool}\` for \`${agent}\`, and unknown tools are denied.`
    return { verdict: 'deny', reason, wouldPass: `a rule { effect: 'allow', agent: '${agent}', tool: '${tool}' }` }
  }

  async #matching(action: ProposedAction): Promise<readonly Rule[]> {
    const args = action.args ?? {}
    const found: Rule[] = []
    for (const rule of this.#rules) {
      if (!names(rule.tool, action.resource) || !names(rule.agent ?? '*', action.agent)) continue
      if (!Object.entries(rule.where ?? {}).every(([name, constraint]) => meets(own(args, name), constraint))) continue
      if (rule.schema !== undefined && (await rule.schema['~standard'].validate(args)).issues !== undefined) continue
      found.push(rule)
    }
    return found
  }

  async #askFor(wanted: Omit<Approval, 'by'>): Promise<Verdict> {
    const key = approvalKey(wanted)
    const [approval] = await this.#store.read([key])
    if (approval === null || approval === undefined) {
      return {
        verdict: 'ask',
        reason: `\`${wanted.tool}\` by \`${wanted.agent}\` needs an approval of exactly these arguments (${wanted.argsHash}).`,
      }
    }
    // Used up together with the money: two holders of one approval cannot both pass.
    return { verdict: 'allow', fragment: { check: [{ key, version: approval.version }], delete: [key] } }
  }
}

function assertRule(field: string, rule: Rule): void {
  const unknown = Object.keys(rule).filter((key) => !['effect', 'agent', 'tool', 'where', 'schema'].includes(key))
  if (unknown.length > 0) throw new TypeError(`\`${field}.${unknown[0]}\` is not a field of a rule.`)
  if (!Object.hasOwn(STRENGTH, rule.effect))
    throw new TypeError(`\`${field}.effect\` must be 'allow', 'ask' or 'deny', got ${JSON.stringify(rule.effect)}.`)
  for (const [key, value] of Object.entries({ agent: rule.agent ?? '*', tool: rule.tool })) {
    for (const name of [value].flat()) if (name !== '*') assertName(`${field}.${key}`, name)
  }
  for (const [name, constraint] of Object.entries(rule.where ?? {})) assertConstraint(`${field}.where.${name}`, constraint)
  if (rule.schema !== undefined && typeof rule.schema['~standard']?.validate !== 'function') {
    throw new TypeError(`\`${field}.schema\` must be a Standard Schema, such as one of zod.`)
  }
}

function names(pattern: string | readonly string[], name: string): boolean {
  return [pattern].flat().some((candidate) => candidate === '*' || candidate === name)
}

function own(args: unknown, name: string): unknown {
  return typeof args === 'object' && args !== null && Object.hasOwn(args, name) ? (args as Record<string, unknown>)[name] : undefined
}
