// AuthGuardian: may this agent use this tool with these arguments? Rules decide, deterministically; deny beats
// ask, ask beats allow, and what no rule names is denied. Where it is unclear whether a rule applies, it applies if
// that makes the answer stricter, and only then. `ask` waits for a person: the approval is a record
// that the next `begin` with exactly these arguments uses up in its own commit.

import { inspect } from 'node:util'
import { sha256 } from '../lib/ids.ts'
import { assertPlainObject } from '../lib/plain-object.ts'
import { assertName } from '../lib/names.ts'
import type { Store } from '../stores/store.ts'
import type { ProposedAction } from '../waist/action.ts'
import type { Gate, Verdict } from '../waist/gate.ts'
import type { Constraint, Rule } from '../waist/rule.ts'
import { assertConstraint, meets, type Match } from './constraints.ts'

/** An approval, as it lies in the store until it is used. */
export interface Approval {
  readonly agent: string
  readonly tool: string
  readonly argsHash: string
  /** Who approved, for the record. */
  readonly by: string
}

/** The key of an approval: single use, for one agent, one tool and exactly these arguments. */
export function approvalKey({ agent, tool, argsHash }: Omit<Approval, 'by'>): string {
  // A model may name a tool in any way; what is no plain word is told by its hash.
  return `approval/${agent}/${PLAIN_TOOL.test(tool) ? tool : `#${sha256(tool)}`}/${argsHash}`
}

const PLAIN_TOOL = /^[\w.:-]{1,128}$/

const MAX_RULES = 1_000
const FIELDS = ['effect', 'agent', 'tool', 'where', 'schema']
const EFFECTS = ['allow', 'ask', 'deny']

/** A rule as it was when the gate was made, whatever becomes of the caller's object. */
interface KnownRule extends Pick<Rule, 'effect' | 'schema'> {
  readonly agents: ReadonlySet<string>
  readonly tools: ReadonlySet<string>
  readonly where: readonly (readonly [name: string, constraint: Constraint])[]
}

/** The gate of permissions. */
export class AuthGuardian implements Gate {
  readonly name = 'guardian'
  readonly #rules: readonly KnownRule[]
  readonly #store: Pick<Store, 'read'>

  /** @throws {TypeError} {RangeError} For a rule that cannot be understood. */
  constructor(rules: readonly Rule[], store: Pick<Store, 'read'>) {
    if (rules.length > MAX_RULES) throw new RangeError(`At most ${MAX_RULES} rules, got ${rules.length}.`)
    this.#rules = rules.map((rule, index) => readRule(`rules[${index}]`, rule))
    this.#store = store
  }

  /** Decides on tools; other kinds of action are not its business. */
  async decide(action: ProposedAction): Promise<Verdict> {
    if (action.kind !== 'tool') return { verdict: 'allow' }
    const { agent, resource: tool, argsHash } = action
    const { certain, unclear } = await this.#matching(action)
    const either = new Set([...certain, ...unclear])
    if (certain.size > 0 && !either.has('deny')) return either.has('ask') ? this.#askFor({ agent, tool, argsHash }) : { verdict: 'allow' }
    const [who, what] = [printable(agent), printable(tool)]
    const known = this.#rules.some((rule) => rule.effect !== 'deny' && names(rule.tools, tool) && names(rule.agents, agent))
    const reason = either.has('deny')
      ? `A rule denies \`${what}\` to \`${who}\`.`
      : known
        ? `No rule allows \`${what}\` to \`${who}\` with these arguments.`
        : `No rule names \`${what}\` for \`${who}\`, and unknown tools are denied.`
    return { verdict: 'deny', reason, wouldPass: `a rule { effect: 'allow', agent: '${who}', tool: '${what}' }` }
  }

  /** Effects of the rules that certainly apply, and of those that may. */
  async #matching({ agent, resource: tool, args }: ProposedAction): Promise<Record<'certain' | 'unclear', Set<Rule['effect']>>> {
    const certain = new Set<Rule['effect']>()
    const unclear = new Set<Rule['effect']>()
    for (const { effect, agents, tools, where, schema } of this.#rules) {
      if (!names(tools, tool) || !names(agents, agent)) continue
      const matches = where.map(([name, constraint]) => argumentMeets(args, name, constraint))
      if (matches.includes('no')) continue
      if (schema !== undefined && (await schema['~standard'].validate(args ?? {})).issues !== undefined) continue
      if (matches.includes('unclear')) unclear.add(effect)
      else certain.add(effect)
    }
    return { certain, unclear }
  }

  async #askFor(wanted: Omit<Approval, 'by'>): Promise<Verdict> {
    const key = approvalKey(wanted)
    const [approval] = await this.#store.read([key])
    if (approval === null || approval === undefined) {
      return {
        verdict: 'ask',
        reason: `\`${printable(wanted.tool)}\` by \`${printable(wanted.agent)}\` needs an approval of exactly these arguments (${wanted.argsHash}).`,
      }
    }
    // Used up together with the money: two holders of one approval cannot both pass.
    return { verdict: 'allow', fragment: { check: [{ key, version: approval.version }], delete: [key] } }
  }
}

function readRule(field: string, rule: Rule): KnownRule {
  assertPlainObject(field, rule)
  const unknown = Object.keys(rule).find((key) => !FIELDS.includes(key))
  if (unknown !== undefined) throw new TypeError(`\`${field}.${unknown}\` is not a field of a rule.`)
  const { effect, agent = '*', tool, where = {}, schema } = rule
  if (!EFFECTS.includes(effect)) throw new TypeError(`\`${field}.effect\` must be 'allow', 'ask' or 'deny', got ${inspect(effect)}.`)
  assertPlainObject(`${field}.where`, where)
  for (const [name, constraint] of Object.entries(where)) assertConstraint(`${field}.where.${name}`, constraint)
  if (schema !== undefined && typeof schema?.['~standard']?.validate !== 'function') {
    throw new TypeError(`\`${field}.schema\` must be a Standard Schema, such as one of zod.`)
  }
  return {
    effect,
    agents: readNames(`${field}.agent`, agent),
    tools: readNames(`${field}.tool`, tool),
    where: Object.entries(structuredClone(where)),
    ...(schema === undefined ? {} : { schema }),
  }
}

function readNames(field: string, value: string | readonly string[]): ReadonlySet<string> {
  const list = [value].flat()
  for (const name of list) if (name !== '*') assertName(field, name)
  return new Set(list)
}

function names(known: ReadonlySet<string>, name: string): boolean {
  return known.has('*') || known.has(name)
}

/** Only an object has named arguments, and only its own members are arguments: those that are in its hash. */
function argumentMeets(args: unknown, name: string, constraint: Constraint): Match {
  if (args === undefined || args === null) return meets(undefined, constraint)
  if (typeof args !== 'object' || Array.isArray(args)) return 'unclear'
  const own = Object.prototype.propertyIsEnumerable.call(args, name)
  return meets(own ? (args as Record<string, unknown>)[name] : undefined, constraint)
}

/** The name of a tool may be the invention of a model: it must not end the quotes that it is shown in. */
function printable(name: string): string {
  return JSON.stringify(name).slice(1, -1).replaceAll("'", "\\'")
}
