// Bad histories of transactions that append to lists: one for each phenomenon.

import { read, refusedTxn, txn, type BadHistory } from './made-by-hand.ts'

/** Each is wrong in one way, beside a twin that is right. */
export const BAD_TRANSACTIONS: readonly BadHistory[] = [
  {
    name: 'G0: two wrote two lists, each last in one of them',
    check: 'cycles',
    says: /^G0/,
    bad: [
      txn([1, 9], { x: [], y: ['b'] }, 'xy', 'a', 1),
      txn([1, 9], { x: ['a'], y: [] }, 'xy', 'b', 2),
      read([10, 11], { x: [['a', 'b'], 2], y: [['b', 'a'], 1] }),
    ],
    good: [
      txn([1, 9], { x: [], y: [] }, 'xy', 'a', 1),
      txn([1, 9], { x: ['a'], y: ['a'] }, 'xy', 'b', 2),
      read([10, 11], { x: [['a', 'b'], 2], y: [['a', 'b'], 2] }),
    ],
  },
  {
    name: 'G1a: a read of what a refused transaction had written',
    check: 'cycles',
    says: /^G1a/,
    bad: [refusedTxn([1, 2], { x: [], y: [] }, 'x', 'a', 'y'), read([3, 4], { x: [['a'], 1] })],
    good: [txn([1, 2], { x: [], y: [] }, 'x', 'a', 1), read([3, 4], { x: [['a'], 1] })],
  },
  {
    name: 'G1c: two that read what the other wrote',
    check: 'cycles',
    says: /^G1c/,
    bad: [txn([1, 9], { x: [], y: ['b'] }, 'x', 'a', 1), txn([1, 9], { x: ['a'], y: [] }, 'y', 'b', 2)],
    good: [txn([1, 9], { x: [], y: [] }, 'x', 'a', 1), txn([1, 9], { x: ['a'], y: [] }, 'y', 'b', 2)],
  },
  {
    name: 'G-single: one that saw half of another',
    check: 'cycles',
    says: /^G-single/,
    bad: [txn([1, 9], { x: [], y: [] }, 'xy', 'a', 1), read([1, 9], { x: [['a'], 1], y: null })],
    good: [txn([1, 9], { x: [], y: [] }, 'xy', 'a', 1), read([1, 9], { x: null, y: null })],
  },
  {
    name: 'G-single: one that read two lists at different times and was let through',
    check: 'cycles',
    says: /^G-single/,
    bad: [txn([1, 2], { x: [], y: [] }, 'xy', 'a', 1), txn([3, 4], { x: ['a'], y: [] }, 'z', 'b', 2)],
    good: [txn([1, 2], { x: [], y: [] }, 'xy', 'a', 1), refusedTxn([3, 4], { x: ['a'], y: [] }, 'z', 'b', 'y')],
  },
  {
    name: 'an element that is in a list twice',
    check: 'cycles',
    says: /is there twice/,
    bad: [txn([1, 2], { x: [] }, 'x', 'a', 1), read([3, 4], { x: [['a', 'a'], 1] })],
    good: [txn([1, 2], { x: [] }, 'x', 'a', 1), read([3, 4], { x: [['a'], 1] })],
  },
  {
    name: 'G2: write skew, two that read both lists and wrote one each',
    check: 'cycles',
    says: /^G2/,
    bad: [txn([1, 9], { x: [], y: [] }, 'x', 'a', 1), txn([1, 9], { x: [], y: [] }, 'y', 'b', 2)],
    good: [txn([1, 9], { x: [], y: [] }, 'x', 'a', 1), refusedTxn([1, 9], { x: [], y: [] }, 'y', 'b', 'x')],
  },
  {
    name: 'G2 through a lost transaction that somebody saw',
    check: 'cycles',
    says: /^G2/,
    bad: [txn([1, 9], { x: [], y: [] }, 'x', 'a', 1), txn(1, { x: [], y: [] }, 'y', 'b'), read([10, 11], { y: [['b'], 2] })],
    good: [txn([1, 9], { x: [], y: [] }, 'x', 'a', 1), txn(1, { x: [], y: [] }, 'y', 'b'), read([10, 11], { y: null })],
  },
  {
    name: 'a lost update of a list: two orders of its elements',
    check: 'cycles',
    says: /^lost update/,
    bad: [txn([1, 9], { x: [] }, 'x', 'a', 1), txn([1, 9], { x: [] }, 'x', 'b', 2)],
    good: [txn([1, 9], { x: [] }, 'x', 'a', 1), txn([1, 9], { x: ['a'] }, 'x', 'b', 2)],
  },
  {
    name: 'an order of transactions against the versions of the store',
    check: 'cycles',
    says: /^against the versions/,
    bad: [txn([1, 9], { x: [] }, 'x', 'a', 2), txn([1, 9], { x: ['a'] }, 'x', 'b', 1)],
    good: [txn([1, 9], { x: [] }, 'x', 'a', 1), txn([1, 9], { x: ['a'] }, 'x', 'b', 2)],
  },
  {
    name: 'an acknowledged append that a later reader does not see: against real time',
    check: 'cycles',
    says: /^against real time/,
    bad: [txn([1, 2], { x: [] }, 'x', 'a', 1), read([3, 4], { x: null })],
    good: [txn([1, 3], { x: [] }, 'x', 'a', 1), read([2, 4], { x: null })],
  },
]
