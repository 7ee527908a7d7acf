// Histories made by hand: each is wrong in one way and must be rejected, and each has a twin, as near as can be, that a
// right store could have answered and that must be accepted. A checker that finds nothing in good runs has shown
// nothing before it has shown this.

import { BAD_TRANSACTIONS } from './bad-transactions.ts'
import type { Operation } from './history.ts'
import { add, apply, cas, group, ok, read, refusal, set, unknown, type BadHistory } from './made-by-hand.ts'

const first: Operation = ok([1, 2], set('k', 'a'), 1)
const second: Operation = ok([3, 4], set('k', 'b'), 2)

const reads: readonly BadHistory[] = [
  {
    name: 'a stale read: an acknowledged write is not seen by a read that began later',
    check: 'linearizable',
    says: /key k/,
    bad: [first, second, read([5, 6], { k: ['a', 1] })],
    good: [first, second, read([3, 6], { k: ['a', 1] })],
  },
  {
    name: 'a read of a value that nobody wrote',
    check: 'linearizable',
    says: /"c"@1/,
    bad: [first, read([3, 4], { k: ['c', 1] })],
    good: [first, read([3, 4], { k: ['a', 1] })],
  },
  {
    name: 'a value under the version of another',
    check: 'linearizable',
    says: /"a"@2/,
    bad: [first, second, read([3, 6], { k: ['a', 2] })],
    good: [first, second, read([3, 6], { k: ['b', 2] })],
  },
  {
    name: 'a write that is seen before it was sent',
    check: 'linearizable',
    says: /at the beginning/,
    bad: [read([1, 2], { k: ['a', 1] }), ok([3, 4], set('k', 'a'), 1)],
    good: [read([1, 3], { k: ['a', 1] }), ok([2, 4], set('k', 'a'), 1)],
  },
  {
    name: 'reads that go back: the new value, then the old one, while the write is still on its way',
    check: 'linearizable',
    says: /key k/,
    bad: [first, ok([3, 9], set('k', 'b'), 2), read([4, 5], { k: ['b', 2] }), read([6, 7], { k: ['a', 1] })],
    good: [first, ok([3, 9], set('k', 'b'), 2), read([4, 5], { k: ['a', 1] }), read([6, 7], { k: ['b', 2] })],
  },
  {
    name: 'an acknowledged write that is lost: the key is absent afterwards',
    check: 'linearizable',
    says: /k=absent/,
    bad: [first, read([3, 4], { k: null })],
    good: [unknown(1, set('k', 'a')), read([3, 4], { k: null })],
  },
  {
    name: 'a delete that is undone',
    check: 'linearizable',
    says: /key k/,
    bad: [first, ok([3, 4], { delete: ['k'] }, 2), read([5, 6], { k: null }), read([7, 8], { k: ['a', 1] })],
    good: [first, ok([3, 4], { delete: ['k'] }, 2), read([5, 6], { k: null }), ok([6, 9], set('k', 'a'), 3), read([7, 8], { k: ['a', 3] })],
  },
  {
    name: 'a torn snapshot: half of a batch',
    check: 'snapshot',
    says: /whole store/,
    bad: [ok([1, 5], { set: [...set('k', 'a').set!, ...set('m', 'a').set!] }, 1), read([2, 6], { k: ['a', 1], m: null })],
    good: [ok([1, 5], { set: [...set('k', 'a').set!, ...set('m', 'a').set!] }, 1), read([2, 6], { k: ['a', 1], m: ['a', 1] })],
  },
  {
    name: 'a snapshot that has the later of two versions, and not the earlier',
    check: 'snapshot',
    says: /whole store/,
    bad: [ok([1, 9], set('k', 'a'), 2), ok([1, 9], set('m', 'a'), 1), read([2, 3], { k: ['a', 2], m: null })],
    good: [ok([1, 9], set('k', 'a'), 2), ok([1, 9], set('m', 'a'), 1), read([2, 3], { k: null, m: ['a', 1] })],
  },
  {
    name: 'two readers that see two writes of different keys in different orders',
    check: 'snapshot',
    says: /whole store/,
    bad: [
      ok([1, 9], set('k', 'a'), 1),
      ok([1, 9], set('m', 'a'), 2),
      read([2, 8], { k: ['a', 1], m: null }),
      read([2, 8], { k: null, m: ['a', 2] }),
    ],
    good: [
      ok([1, 9], set('k', 'a'), 1),
      ok([1, 9], set('m', 'a'), 2),
      read([2, 8], { k: ['a', 1], m: null }),
      read([2, 8], { k: ['a', 1], m: ['a', 2] }),
    ],
  },
]

const writes: readonly BadHistory[] = [
  {
    name: 'a lost update: two passed a check of the same version',
    check: 'linearizable',
    says: /key k/,
    bad: [first, ok([3, 6], cas('k', 1, 'b'), 2), ok([3, 6], cas('k', 1, 'c'), 3)],
    good: [first, ok([3, 6], cas('k', 1, 'b'), 2), apply([3, 6], cas('k', 1, 'c'), { outcome: 'conflict', which: 'k', version: 2 })],
  },
  {
    name: 'a conflict with a version that the key did not have',
    check: 'linearizable',
    says: /conflict/,
    bad: [first, apply([3, 4], cas('k', 0, 'b'), { outcome: 'conflict', which: 'k', version: 7 })],
    good: [first, apply([3, 4], cas('k', 0, 'b'), { outcome: 'conflict', which: 'k', version: 1 })],
  },
  {
    name: 'a conflict where the check was right',
    check: 'linearizable',
    says: /conflict/,
    bad: [first, apply([3, 4], cas('k', 1, 'b'), { outcome: 'conflict', which: 'k', version: 1 })],
    good: [first, second, apply([5, 6], cas('k', 1, 'b'), { outcome: 'conflict', which: 'k', version: 2 })],
  },
  {
    name: 'two that created the same absent key',
    check: 'linearizable',
    says: /key k/,
    bad: [ok([1, 4], cas('k', 0, 'a'), 1), ok([2, 5], cas('k', 0, 'b'), 2)],
    good: [ok([1, 4], cas('k', 0, 'a'), 1), ok([2, 5], { delete: ['k'] }, 2), ok([2, 5], cas('k', 0, 'b'), 3)],
  },
  {
    name: 'a refused batch that wrote all the same',
    check: 'linearizable',
    says: /"b"@3/,
    bad: [
      ok([1, 2], add('n', 5), 1, 5),
      apply([3, 4], { ...add('n', 1, { max: 5 }), ...set('k', 'b') }, refusal('n', 'max', 5)),
      read([5, 6], { k: ['b', 3] }),
    ],
    good: [
      ok([1, 2], add('n', 5), 1, 5),
      apply([3, 4], { ...add('n', 1, { max: 5 }), ...set('k', 'b') }, refusal('n', 'max', 5)),
      read([5, 6], { k: null }),
    ],
  },
  {
    name: 'a group out of order: its second batch did not see its first',
    check: 'linearizable',
    says: /key n/,
    bad: [
      group([1, 2], [add('n', 5), add('n', 1)], { outcome: 'ok', version: 1, values: [6] }, { outcome: 'ok', version: 2, values: [1] }),
    ],
    good: [
      group([1, 2], [add('n', 5), add('n', 1)], { outcome: 'ok', version: 1, values: [5] }, { outcome: 'ok', version: 2, values: [6] }),
    ],
  },
  {
    name: 'a group with another in the middle of it',
    check: 'linearizable',
    says: /key n/,
    bad: [
      group([1, 4], [add('n', 5), add('n', 1)], { outcome: 'ok', version: 1, values: [5] }, { outcome: 'ok', version: 3, values: [16] }),
      ok([1, 4], add('n', 10), 2, 15),
    ],
    good: [
      group([1, 4], [add('n', 5), add('n', 1)], { outcome: 'ok', version: 1, values: [5] }, { outcome: 'ok', version: 2, values: [6] }),
      ok([1, 4], add('n', 10), 3, 16),
    ],
  },
  {
    name: 'a version that repeats',
    check: 'versions',
    says: /repeats/,
    bad: [ok([1, 4], set('k', 'a'), 1), ok([1, 4], set('m', 'a'), 1)],
    good: [ok([1, 4], set('k', 'a'), 2), ok([1, 4], set('m', 'a'), 1)],
  },
  {
    name: 'a version that goes back: later in time, lower in number, on another key',
    check: 'versions',
    says: /go back/,
    bad: [ok([1, 2], set('k', 'a'), 2), ok([3, 4], set('m', 'a'), 1)],
    good: [ok([1, 3], set('k', 'a'), 2), ok([2, 4], set('m', 'a'), 1)],
  },
  {
    name: 'a lower version that stands last',
    check: 'linearizable',
    says: /key k/,
    bad: [ok([1, 4], set('k', 'a'), 1), ok([1, 4], set('k', 'b'), 2), read([5, 6], { k: ['a', 1] })],
    good: [ok([1, 4], set('k', 'a'), 1), ok([1, 4], set('k', 'b'), 2), read([5, 6], { k: ['b', 2] })],
  },
  {
    name: 'a version that comes again after a delete',
    check: 'linearizable',
    says: /key k/,
    bad: [first, ok([3, 4], { delete: ['k'] }, 2), unknown(5, set('k', 'b')), read([6, 7], { k: ['b', 1] })],
    good: [first, ok([3, 4], { delete: ['k'] }, 2), unknown(5, set('k', 'b')), read([6, 7], { k: ['b', 3] })],
  },
]

const counters: readonly BadHistory[] = [
  {
    name: 'an add that was applied twice',
    check: 'counter',
    says: /read as 2/,
    bad: [ok([1, 2], add('n', 1), 1, 1), read([3, 4], { n: [2, 1] })],
    good: [ok([1, 2], add('n', 1), 1, 1), unknown(2, add('n', 1)), read([3, 4], { n: [2, 2] })],
  },
  {
    name: 'an add that was lost among concurrent ones',
    check: 'counter',
    says: /read as 1/,
    bad: [ok([1, 3], add('n', 1), 1, 1), ok([2, 4], add('n', 1), 2, 1), read([5, 6], { n: [1, 2] })],
    good: [ok([1, 3], add('n', 1), 1, 1), ok([2, 4], add('n', 1), 2, 2), read([5, 6], { n: [2, 2] })],
  },
  {
    name: 'adds beyond the bound: more was granted than there was',
    check: 'counter',
    says: /12 were surely granted by \d+, beyond the bound 10/,
    bad: [ok([1, 3], add('n', 6, { max: 10 }), 1), ok([2, 4], add('n', 6, { max: 10 }), 2), read([5, 6], { m: null })],
    good: [ok([1, 3], add('n', 6, { max: 10 }), 1), ok([2, 4], add('n', 4, { max: 10 }), 2), read([5, 6], { m: null })],
  },
  {
    name: 'more given back than was taken',
    check: 'counter',
    says: /below the bound 0/,
    bad: [ok([1, 2], add('n', 2), 1, 2), ok([3, 4], add('n', -3, { min: 0 }), 2), read([5, 6], { m: null })],
    good: [ok([1, 2], add('n', 3), 1, 3), ok([3, 4], add('n', -3, { min: 0 }), 2), read([5, 6], { m: null })],
  },
  {
    name: 'refused although there was room in every possible order',
    check: 'counter',
    says: /refused, though there was room/,
    bad: [ok([1, 2], add('n', 5, { max: 10 }), 1, 5), apply([3, 4], add('n', 5, { max: 10 }), refusal('n', 'max', 6))],
    good: [
      ok([1, 2], add('n', 5, { max: 10 }), 1, 5),
      unknown(2, add('n', 1, { max: 10 })),
      apply([3, 4], add('n', 5, { max: 10 }), refusal('n', 'max', 6)),
    ],
  },
  {
    name: 'refused by a value with which it fits',
    check: 'linearizable',
    says: /refused/,
    bad: [ok([1, 2], add('n', 5, { max: 10 }), 1, 5), apply([3, 4], add('n', 5, { max: 10 }), refusal('n', 'max', 5))],
    good: [ok([1, 2], add('n', 5, { max: 10 }), 1, 5), apply([3, 4], add('n', 6, { max: 10 }), refusal('n', 'max', 5))],
  },
  {
    name: 'an add to a text that was granted',
    check: 'linearizable',
    says: /key k/,
    bad: [first, ok([3, 4], add('k', 1), 2, 1)],
    good: [first, apply([3, 4], add('k', 1), refusal('k', 'type', 'a'))],
  },
  {
    name: 'values of the right intervals that no order gives: both adds came first',
    check: 'linearizable',
    says: /key n/,
    bad: [ok([1, 5], add('n', 1), 1, 1), ok([1, 5], add('n', 2), 2, 2)],
    good: [ok([1, 5], add('n', 1), 1, 1), ok([1, 5], add('n', 2), 2, 3)],
  },
]

const unknowns: readonly BadHistory[] = [
  {
    name: 'an unknown write that took effect before it was sent',
    check: 'linearizable',
    says: /"b"@2/,
    bad: [first, read([3, 4], { k: ['b', 2] }), unknown(5, set('k', 'b'))],
    good: [first, unknown(2, set('k', 'b')), read([3, 4], { k: ['b', 2] })],
  },
  {
    name: 'an unknown write that took effect twice, with another in between',
    check: 'linearizable',
    says: /key k/,
    bad: [unknown(1, set('k', 'a')), read([2, 3], { k: ['a', 1] }), ok([4, 5], set('k', 'b'), 2), read([6, 7], { k: ['a', 3] })],
    good: [ok([1, 2], set('k', 'b'), 2), read([2, 3], { k: ['b', 2] }), unknown(1, set('k', 'a')), read([6, 7], { k: ['a', 3] })],
  },
  {
    name: 'an unknown add that took effect twice',
    check: 'counter',
    says: /read as 4/,
    bad: [unknown(1, add('n', 2)), read([2, 3], { n: [4, 2] })],
    good: [unknown(1, add('n', 2)), unknown(1, add('n', 2)), read([2, 3], { n: [4, 2] })],
  },
  {
    name: 'an unknown write that was seen, and was gone again',
    check: 'linearizable',
    says: /key k/,
    bad: [first, unknown(3, set('k', 'b')), read([4, 5], { k: ['b', 2] }), read([6, 7], { k: ['a', 1] })],
    good: [first, unknown(3, set('k', 'b')), read([4, 5], { k: ['a', 1] }), read([6, 7], { k: ['b', 2] })],
  },
  {
    name: 'an unknown write that passed a check that no moment passes',
    check: 'linearizable',
    says: /"c"@3/,
    bad: [first, second, unknown(5, cas('k', 1, 'c')), read([6, 7], { k: ['c', 3] })],
    good: [first, second, unknown(5, cas('k', 2, 'c')), read([6, 7], { k: ['c', 3] })],
  },
  {
    name: 'an unknown write that took effect after its client had gone on',
    check: 'linearizable',
    says: /"b"@2/,
    bad: [first, unknown(3, set('k', 'b'), 5), read([6, 7], { k: ['a', 1] }), read([8, 9], { k: ['b', 2] })],
    good: [first, unknown(3, set('k', 'b'), 6), read([6, 7], { k: ['a', 1] }), read([8, 9], { k: ['b', 2] })],
  },
  {
    name: 'an unknown write with a version below that of what it overwrote',
    check: 'linearizable',
    says: /"c"@3/,
    bad: [ok([1, 2], set('k', 'a'), 5), unknown(3, set('k', 'c')), read([4, 5], { k: ['c', 3] })],
    good: [ok([1, 2], set('k', 'a'), 5), unknown(3, set('k', 'c')), read([4, 5], { k: ['c', 6] })],
  },
  {
    name: 'an unknown write with a version from before it was sent, on another key',
    check: 'snapshot',
    says: /"x"@3/,
    bad: [ok([1, 4], set('k', 'a'), 5), unknown(5, set('m', 'x')), read([6, 7], { m: ['x', 3] })],
    good: [ok([1, 4], set('k', 'a'), 5), unknown(3, set('m', 'x')), read([6, 7], { m: ['x', 3] })],
  },
  {
    name: 'an unknown write with the version of somebody else',
    check: 'linearizable',
    says: /key k/,
    bad: [unknown(1, set('k', 'a')), ok([1, 9], set('m', 'x'), 2), read([2, 3], { k: ['a', 2] })],
    good: [unknown(1, set('k', 'a')), ok([1, 9], set('m', 'x'), 2), read([2, 3], { k: ['a', 1] })],
  },
]

/** All of them. */
export const BAD_HISTORIES: readonly BadHistory[] = [...reads, ...writes, ...counters, ...unknowns, ...BAD_TRANSACTIONS]
