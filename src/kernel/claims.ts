// What holdfast promises, as data: each claim names the test that fails when it does not hold. The README, the
// documentation and `holdfast doctor` print this list, and a test checks that every id exists and runs.

/** One promise. */
export interface Claim {
  readonly id: string
  readonly claim: string
  /** Assumptions of the ledger's proof that it stands under, by their number in docs/guarantees.md. */
  readonly assumes: readonly string[]
  /** Test file and the words its name begins with. */
  readonly test: string
}

/** The promises of this version. */
export const CLAIMS: readonly Claim[] = []
