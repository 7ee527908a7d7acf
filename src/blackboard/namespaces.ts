// Who may read and write which part of the blackboard.

import { Refusal } from '../lib/errors.ts'
import { assertName } from '../lib/names.ts'
import { assertPlainObject } from '../lib/plain-object.ts'
import type { Gate } from '../waist/gate.ts'

/** Agents that may read and write a namespace; `*` is every agent. */
export interface NamespaceAccess {
  /** @default ['*'] */
  readonly readers?: readonly string[]
  /** A writer may read too. @default ['*'] */
  readonly writers?: readonly string[]
}

/** The namespaces of a kernel. */
export interface Namespaces {
  /** @throws {Refusal} `ERR_PERMISSION_DENIED` */
  assertMay(what: 'read' | 'write', agent: string, namespace: string): void
  /** Asks the same of every action of kind `write`, whose resource is the namespace. */
  readonly gate: Gate
}

/**
 * Reads the declared namespaces. With none declared every agent may use any.
 *
 * @throws {TypeError} Naming the field.
 */
export function createNamespaces(declared: Readonly<Record<string, NamespaceAccess>> | undefined): Namespaces {
  for (const [namespace, access] of Object.entries(declared ?? {})) assertAccess(namespace, access)

  function fault(what: 'read' | 'write', agent: string, namespace: string): string | undefined {
    if (declared === undefined) return undefined
    if (!Object.hasOwn(declared, namespace)) return `There is no namespace \`${namespace}\` on the blackboard.`
    const { readers = ['*'], writers = ['*'] } = declared[namespace]!
    const allowed = what === 'write' ? writers : [...readers, ...writers]
    return allowed.includes('*') || allowed.includes(agent) ? undefined : `\`${agent}\` may not ${what} the namespace \`${namespace}\`.`
  }

  return {
    assertMay(what, agent, namespace) {
      const reason = fault(what, agent, namespace)
      if (reason !== undefined)
        throw new Refusal('ERR_PERMISSION_DENIED', reason, { agent, resource: namespace, wouldPass: wouldPass(what, agent, namespace) })
    },
    gate: {
      name: 'blackboard',
      decide({ kind, agent, resource }) {
        const reason = kind === 'write' ? fault('write', agent, resource) : undefined
        if (reason === undefined) return { verdict: 'allow' }
        return { verdict: 'deny', reason, wouldPass: wouldPass('write', agent, resource) }
      },
    },
  }
}

const wouldPass = (what: 'read' | 'write', agent: string, namespace: string): string =>
  `openKernel({ namespaces: { '${namespace}': { ${what}ers: ['${agent}'] } } })`

function assertAccess(namespace: string, access: NamespaceAccess): void {
  assertName('namespace', namespace)
  assertPlainObject(`namespaces.${namespace}`, access)
  if (access.readers !== undefined && access.writers === undefined)
    throw new TypeError(
      `\`namespaces.${namespace}\` has readers and no writers: every agent could write, and so read it. Name the writers too.`,
    )
  for (const [field, agents] of Object.entries(access)) {
    if (field !== 'readers' && field !== 'writers')
      throw new TypeError(`\`namespaces.${namespace}.${field}\` is not a field of a namespace.`)
    if (!Array.isArray(agents)) throw new TypeError(`\`namespaces.${namespace}.${field}\` must be a list of agents.`)
    for (const agent of agents as readonly unknown[]) if (agent !== '*') assertName(`namespaces.${namespace}.${field}`, agent)
  }
}
