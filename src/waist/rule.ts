// Rules on tools, as types: AuthGuardian decides by them, and a handoff hands them on.

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

/** What a rule demands of one argument. */
export type Constraint =
  /** Exactly this value. */
  | string
  | number
  | boolean
  | null
  /** One of these values. */
  | { readonly oneOf: readonly (string | number | boolean | null)[] }
  /** A string below this prefix. The prefix ends at a separator, so that `/data/` never lets `/database` pass. */
  | { readonly prefix: string }
  /** A finite number within these bounds, both included. At least one of them. */
  | { readonly min?: number; readonly max?: number }

/** A schema as zod (3.24 and later), valibot and arktype have it: the Standard Schema interface. */
export interface StandardSchema {
  readonly '~standard': {
    readonly validate: (
      value: unknown,
    ) => { readonly issues?: readonly unknown[] | undefined } | Promise<{ readonly issues?: readonly unknown[] | undefined }>
  }
}
