// What holdfast promises, as data: each claim names the test that fails when it does not hold. The README and
// `holdfast doctor` print this list, and a test checks that every test that it names exists.

/** One promise. */
export interface Claim {
  readonly id: string
  readonly claim: string
  /** Assumptions of the ledger's proof that it stands under, by their number in docs/guarantees.md. */
  readonly assumes: readonly string[]
  /** Test file and words of the test's name. */
  readonly test: string
}

/** The promises of this version. */
export const CLAIMS: readonly Claim[] = [
  {
    id: 'limit',
    claim:
      'Eight processes on one budget, killed and stopped at random, never spend more than its limit, and the provider’s bill never exceeds what is accounted for.',
    assumes: ['A1', 'A2', 'A3', 'A4', 'A5', 'A6', 'A7', 'A8'],
    test: 'test/budget/processes.test.ts > that are killed and stopped at random never bill more than the ledger knows of, nor that more than the limit',
  },
  {
    id: 'equation',
    claim: 'In every budget and dimension, after every operation, `limit = free + spent + suspense + out + kids`.',
    assumes: ['A1', 'A6'],
    test: 'test/budget/ledger.property.test.ts > random histories every counter is what the model says, after every step, and nothing leaks',
  },
  {
    id: 'levels',
    claim: 'A call is set aside at every level of its path, or at none.',
    assumes: ['A1'],
    test: 'test/budget/ledger.test.ts > is held at each of them',
  },
  {
    id: 'window',
    claim:
      'So much a day is granted once a day, and a rolling window never grants more than its limit in any stretch of its length, however many processes look at its edge.',
    assumes: ['A1'],
    test: 'test/budget/windows.test.ts > open one, and grant its limit once, with replies lost',
  },
  {
    id: 'beside',
    claim: 'Further budgets of a scope, such as those of a user and of an account, are debited in the same step as its own, or nothing is.',
    assumes: ['A1'],
    test: 'test/budget/several-budgets.test.ts > bind like its own: the user’s whoever works for her, the account’s whoever uses it',
  },
  {
    id: 'smallest',
    claim:
      'A refusal for money names the smallest limits with which the same call would have passed: with one unit less of any of them it would not.',
    assumes: [],
    test: 'test/budget/refusal.test.ts > is exact in whatever state two levels and two dimensions are',
  },
  {
    id: 'linear',
    claim:
      'A bound on a sum over all agents and processes, such as 1,000 e-mails in all, holds like money: eight processes that are killed at random never send one more.',
    assumes: ['A1', 'A3', 'A4', 'A5', 'A6', 'A7', 'A8'],
    test: 'test/budget/linear-bounds.test.ts > emails <= 1000: eight processes that are killed at random never send one more, and use it up',
  },
  {
    id: 'suspense',
    claim: 'What a killed process held counts as spent until somebody knows better; it never goes back to free by itself.',
    assumes: ['A1', 'A8'],
    test: 'test/audit/trail.test.ts > leaves its hold in doubt: the next kernel charges it, or moves it to suspense when it is none of its own',
  },
  {
    id: 'exact',
    claim: 'An answer is settled at what the provider bills, to the nano-dollar, streamed or not.',
    assumes: ['A2'],
    test: 'src/testing/integration-money.ts > safety: an answer is settled at what the provider bills, to the nano-dollar',
  },
  {
    id: 'no-http',
    claim: 'A refused call sends nothing, and its caller finds the refusal.',
    assumes: ['A7'],
    test: 'src/testing/integration-money.ts > safety: a call that does not fit is refused before any HTTP, and its caller finds the refusal in the error',
  },
  {
    id: 'once',
    claim: 'A stream that is aborted, broken or left early ends its hold exactly once: settled, or charged at worst.',
    assumes: ['A5'],
    test: 'src/testing/integration-faults.ts > safety: ten callers that leave at different moments leave ten holds that end once each',
  },
  {
    id: 'attempts',
    claim: 'Every HTTP attempt, retries included, has a hold of its own.',
    assumes: ['A7'],
    test: 'src/testing/integration-faults.ts > safety: when every attempt fails, every attempt is charged',
  },
  {
    id: 'writes',
    claim: 'No acknowledged write is lost and none is applied twice, by eight processes that are killed at random.',
    assumes: ['A1'],
    test: 'test/stores/file-processes.test.ts > under SIGKILL, SIGSTOP, torn, stale and repeated lines nothing acknowledged is lost and nothing applied twice',
  },
  {
    id: 'damage',
    claim: 'A line of the journal that was changed, removed or swapped freezes the store, and is named.',
    assumes: [],
    test: 'test/stores/journal-damage.test.ts > removing any line but the last is damage at its place',
  },
  {
    id: 'denied',
    claim: 'A tool that is denied, or that no rule names, does not run; the model is told what to do, and nothing else.',
    assumes: ['A7'],
    test: 'src/testing/integration-tools.ts > tools: a denied tool does not run, and the model is told what to do, and nothing else',
  },
  {
    id: 'approval',
    claim: 'An approval opens one call of one tool with exactly its arguments, once.',
    assumes: ['A1'],
    test: 'src/testing/integration-tools.ts > tools: a tool that needs approval does not run without it, and runs once with it',
  },
  {
    id: 'intent',
    claim: 'The record of an action is on disk before the action begins.',
    assumes: [],
    test: 'test/audit/trail.test.ts > has its intent before the effect begins, and its outcome only after the effect',
  },
  {
    id: 'tampering',
    claim:
      'An edit of any field of any record, a deletion, an insertion, a reorder, and a cut tail up to the last head in the store are found, and the first bad record is named.',
    assumes: [],
    test: 'test/audit/attacks.test.ts > of any field of any record, nested ones included, is found in that record',
  },
  {
    id: 'transparent',
    claim: 'With limits far away a request differs by an output cap where it had none and by `include_usage`, and an answer by nothing.',
    assumes: [],
    test: 'src/testing/integration-transparency.ts > transparency: the request of a stream differs by a cap and by asking for usage only',
  },
  {
    id: 'board',
    claim:
      'Of several agents that decided on the same version of a key one commits, and the others are told who it was; between processes too.',
    assumes: ['A1'],
    test: 'test/blackboard/processes.test.ts > four processes that withdraw at once take exactly what the books say',
  },
  {
    id: 'handoff',
    claim: 'A handoff spends what was moved to it and no more, and what is left comes back, whatever is closed in which order.',
    assumes: ['A1', 'A6'],
    test: 'test/handoff/handoff.test.ts > stays in balance through random handoffs, spending and closing, and all of it comes home',
  },
  {
    id: 'orphan',
    claim: 'A handoff that nobody closes comes back too: with its kernel, and when its process was killed or stopped, without its help.',
    assumes: ['A1', 'A6'],
    test: 'test/budget/processes.test.ts > that hand off, one level and two, while they are killed and stopped: the bill is covered at every look, and every allotment comes back',
  },
  {
    id: 'lease',
    claim:
      'A budget that is leased in chunks is spent to the last call that fits, by one process or four: nobody is refused for what lies idle with another.',
    assumes: ['A1', 'A3'],
    test: 'test/budget/leasing.test.ts > is spent to the last call that fits, one caller or sixteen, one process or four',
  },
  {
    id: 'successor',
    claim:
      'What a killed process held comes back with its successor: idle money whole, settled calls as they were, the rest charged at worst. Of one that is only stopped nothing is touched.',
    assumes: ['A1', 'A4'],
    test: 'test/kernel/successor.test.ts > gives back what was idle in its lease, and charges what was under way',
  },
  {
    id: 'narrower',
    claim: 'The rules of a handoff can only narrow what its giver may do.',
    assumes: ['A7'],
    test: 'test/handoff/handoff.test.ts > narrow what the receiver may do, and open nothing that the giver may not',
  },
  {
    id: 'receipt',
    claim: 'An effect under a receipt happens at most once, however often its caller is resumed.',
    assumes: ['A1'],
    test: 'test/effects/once.test.ts > runs once when many ask at the same time',
  },
  {
    id: 'stop',
    claim:
      'A stop refuses what it covers in every process on the store as soon as it is known there, within about a second, before anything is asked or held, until it is lifted.',
    assumes: [],
    test: 'test/kernel/stops.test.ts > in another process ends the work of this one',
  },
  {
    id: 'cut',
    claim:
      'A stream under a transport guard is cut when a stop or a freeze covers it: its caller reads the refusal, and its hold ends once, settled or charged.',
    assumes: ['A7'],
    test: 'test/integrations/stream-cut.test.ts > is cut by a stop that covers it: its reader is told so, the answer is read on to its usage',
  },
  {
    id: 'parallel-tools',
    claim: 'Of many tool calls in one turn exactly those run that may, and every call is answered, so that the next turn is valid.',
    assumes: ['A7'],
    test: 'src/testing/integration-parallel.ts > parallel: with a counter of 6 and 8 calls in one turn exactly 6 run, and all 8 are answered',
  },
  {
    id: 'known-paths',
    claim: 'Every path that the OpenAI SDK can call is metered, free, or refused before it is sent; an unknown one is refused.',
    assumes: ['A7'],
    test: 'test/integrations/media-endpoints.test.ts > each POST has exactly the class that is written here',
  },
  {
    id: 'alarm',
    claim:
      'With `watchEscapes` on, a request of this process to a known host of a provider that nothing held raises an alarm: an event, a record, a line of doctor.',
    assumes: [],
    test: 'test/integrations/escapes.test.ts > reports a client without holdfast, as an event and in the audit chain, and says what to do',
  },
]
