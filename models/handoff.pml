/* Allotments: src/budget/allotment.ts, and what ending.ts does when the allotment of a hold was closed meanwhile.

   A root gives an allotment, and that gives one of its own. Workers take holds from either, end them, are taken for
   dead, charge at worst and correct the charge later. Two closers close either allotment at any moment, follow what
   has come back to one that was closed, and stand for its parent, its child and whoever sweeps orphans; each reads
   and commits in separate steps. The root spends whatever is free at once, so money that comes back twice is spent
   twice. A third allotment of one unit stands beside the first: what is raised twice would be taken from it.

   Asserted at every step:
     bill <= LIMIT
     limit == free + spent + suspense + out + kids, of every budget that has counters; closing lowers the limit
     kids is what the children's records say, and every hold is counted where it was taken
     no closing finds less in kids than its child gives back
   and when the holds have ended and both closers find nothing to do: all of it has come back.

   variant                            | expected |     states | what it is
   -----------------------------------+----------+------------+---
   -DWORKERS=1 -DTAKES=1              | holds    |    193,864 | the protocol, one hold
   -DWORKERS=1                        | holds    |    709,457 | two holds, one after the other
   -DTAKES=1                          | holds    |  8,750,955 | two holds at once
   -DWORKERS=1 -DBILL -DFORGETOUT     | fails    |         38 | a closing gives back what is still out
   -DWORKERS=1 -DBILL -DTWICE         | fails    |        170 | a closing can be applied twice
   -DWORKERS=1 -DBILL -DLASTUNCHECKED | fails    |      4,126 | the last closing does not check the counters that it removes
   -DWORKERS=1 -DFORGETKIDS           | fails    |          9 | a closing forgets what its own children hold

   With BILL only the bill is asserted. */

#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef LIMIT
#define LIMIT 4
#endif
#ifndef TAKES
#define TAKES 2     /* of each worker */
#endif
#ifndef INNER
#define INNER 1
#endif
#define OUTER 2
#define BESIDE 1

#define NONE 0
#define OPEN 1
#define CLOSED 2
#define GONE 3      /* its counters are removed; its record says for a while that it was closed */

#define NOWHERE 0
#define HELD 1
#define SUSPENDED 2

byte state[3], limit[3], free[3], spent[3], suspense[3], out[3], kids[3]
byte bill = BESIDE

byte place[WORKERS], at[WORKERS]
bit charged[WORKERS]

/* Of each closer: the budget that it closes, and whether its record and its counters are as they were read. */
byte closes[2]
bit recordSame[2], countersSame[2]
byte idle, over

#define HOLDS(where, node) ((place[0] == where && at[0] == node -> 1 : 0) + (place[WORKERS - 1] == where && at[WORKERS - 1] == node && WORKERS > 1 -> 1 : 0))
#define SUM(node) (free[node] + spent[node] + suspense[node] + out[node] + kids[node])
#ifdef BILL
#define BOOKS skip
#define THERE(amount, column) column >= amount
#else
#define THERE(amount, column) assert(column >= amount)
#define BOOKS assert(SUM(0) == LIMIT && SUM(1) == limit[1] && SUM(2) == limit[2] && kids[0] == BESIDE + limit[1] && kids[1] == limit[2] && out[1] == HOLDS(HELD, 1) && out[2] == HOLDS(HELD, 2) && suspense[1] == HOLDS(SUSPENDED, 1) && suspense[2] == HOLDS(SUSPENDED, 2))
#endif

inline counted(node) {
  if :: closes[0] == node -> countersSame[0] = 0 :: else fi
  if :: closes[1] == node -> countersSame[1] = 0 :: else fi
}
inline rewritten(node) {
  if :: closes[0] == node -> recordSame[0] = 0 :: else fi
  if :: closes[1] == node -> recordSame[1] = 0 :: else fi
}

/* Money moves from a budget to a new child of it, and the child's record is written, in one commit. */
inline allot(from, node, amount) {
  free[from] = free[from] - amount; kids[from] = kids[from] + amount
  state[node] = OPEN; limit[node] = amount; free[node] = amount
  counted(from); counted(node); rewritten(node)
  BOOKS
}

proctype Worker(byte me) {
  bit act, corrects
  byte node, takes

  do
  /* A hold of one unit, under the version of the record: a budget that was closed gives nothing. */
  :: atomic { place[me] == NOWHERE && !charged[me] && takes < TAKES ->
       if :: state[1] == OPEN && free[1] > 0 -> node = 1 :: state[2] == OPEN && free[2] > 0 -> node = 2 fi
       takes++
       free[node]--; out[node]++; place[me] = HELD; at[me] = node
       counted(node)
       if :: act = 0 :: act = 1 fi
       bill = bill + act
       assert(bill <= LIMIT)
       BOOKS }
  /* Its end, wherever it lies by now; with its use, or at worst since nobody knows. */
  :: atomic { place[me] != NOWHERE ->
       node = at[me]
       if
       :: place[me] == HELD -> THERE(1, out[node]); out[node]--
       :: place[me] == SUSPENDED -> THERE(1, suspense[node]); suspense[node]--
       fi
       if
       :: spent[node] = spent[node] + act; free[node] = free[node] + 1 - act
       :: act == 0 -> spent[node]++; charged[me] = 1
       fi
       place[me] = NOWHERE; act = 0
       counted(node)
       BOOKS }
  /* The real use becomes known: taken off where the charge stands now, which is higher up once a budget was closed. */
  :: atomic { charged[me] && !corrects -> corrects = 1; node = at[me] }
  :: atomic { corrects && node > 0 && state[node] != OPEN && free[node] + spent[node] == 0 -> node-- }
  /* Found in one step, committed in another. What is not there any more was raised meanwhile: it is found anew. */
  :: corrects && (node == 0 || state[node] == OPEN) -> atomic {
       if
       :: spent[node] > 0 -> spent[node]--; free[node]++; charged[me] = 0; counted(node)
          BOOKS
       :: else
       fi
       corrects = 0; node = 0 }
  :: place[me] == NOWHERE && !corrects -> break
  od
  atomic { node = 0; takes = 0; over++ }
}

proctype Closer(byte me) {
  byte up, down
  bit last

  do
  :: closes[me] == 0 -> atomic {
       if
       :: state[1] == OPEN || state[1] == CLOSED -> closes[me] = 1
       :: state[2] == OPEN || state[2] == CLOSED -> closes[me] = 2
       fi }
  :: atomic { closes[me] == 0 && (state[1] == NONE || state[1] == GONE) && (state[2] == NONE || state[2] == GONE) && over == WORKERS -> idle++; break }
  /* One snapshot of the record and its counters. */
  :: closes[me] != 0 -> atomic {
       if
       :: state[closes[me]] == GONE || (state[closes[me]] == CLOSED && free[closes[me]] + spent[closes[me]] == 0) ->
            /* Nothing to raise; an earlier closing may not have come so far as the budget above. */
            closes[me] = (closes[me] == 2 && state[1] == CLOSED -> 1 : 0)
            goto next
       :: else ->
            up = free[closes[me]]; down = spent[closes[me]]
            last = (out[closes[me]] + suspense[closes[me]] + kids[closes[me]] == 0)
#ifdef FORGETKIDS
            last = (out[closes[me]] + suspense[closes[me]] == 0)
#endif
#ifdef FORGETOUT
            last = 1; up = limit[closes[me]] - down
#endif
            recordSame[me] = 1; countersSame[me] = 1
       fi }
     /* The commit: what was read goes up; the last one removes the counters, and so checks that they are the same. */
     atomic {
       if
#ifdef TWICE
       :: last ->
#else
#ifdef LASTUNCHECKED
       :: last && recordSame[me] ->
#else
       :: last && recordSame[me] && countersSame[me] ->
#endif
#endif
            THERE(up + down, kids[closes[me] - 1])
            kids[closes[me] - 1] = kids[closes[me] - 1] - up - down
            free[closes[me] - 1] = free[closes[me] - 1] + up; spent[closes[me] - 1] = spent[closes[me] - 1] + down
            state[closes[me]] = GONE; limit[closes[me]] = 0
            free[closes[me]] = 0; spent[closes[me]] = 0; out[closes[me]] = 0; suspense[closes[me]] = 0; kids[closes[me]] = 0
            counted(closes[me] - 1); counted(closes[me]); rewritten(closes[me])
            BOOKS
            closes[me] = (closes[me] == 2 && state[1] == CLOSED -> 1 : 0)
       :: !last && recordSame[me] && free[closes[me]] >= up && spent[closes[me]] >= down ->
            THERE(up + down, kids[closes[me] - 1])
            kids[closes[me] - 1] = kids[closes[me] - 1] - up - down
            free[closes[me] - 1] = free[closes[me] - 1] + up; spent[closes[me] - 1] = spent[closes[me] - 1] + down
            state[closes[me]] = CLOSED; limit[closes[me]] = limit[closes[me]] - up - down
            free[closes[me]] = free[closes[me]] - up; spent[closes[me]] = spent[closes[me]] - down
            counted(closes[me] - 1); counted(closes[me]); rewritten(closes[me])
            BOOKS
       /* Something has changed: it looks again. */
       :: else
       fi
       up = 0; down = 0; last = 0 }
next:
     /* It may stop anywhere: whoever comes next begins anew. */
     if :: skip :: closes[me] = 0 fi
  od
}

proctype Others() {
  byte i
  do
  :: atomic { idle == 0 && state[1] == NONE && free[0] >= OUTER -> allot(0, 1, OUTER) }
  :: atomic { idle == 0 && state[2] == NONE && state[1] == OPEN && free[1] >= INNER -> allot(1, 2, INNER) }
  :: atomic { free[0] > 0 && state[1] != NONE -> free[0]--; spent[0]++; bill++; assert(bill <= LIMIT) }
  :: atomic { select(i: 0 .. WORKERS - 1);
       if
       :: place[i] == HELD && out[at[i]] > 0 -> out[at[i]]--; suspense[at[i]]++; place[i] = SUSPENDED; counted(at[i])
          BOOKS
       :: else
       fi
       i = 0 }
#ifndef BILL
  :: atomic { idle == 2 && over == WORKERS -> assert(kids[0] == BESIDE && free[0] + spent[0] == LIMIT - BESIDE && bill <= spent[0] + BESIDE); break }
#endif
  od
}

init {
  atomic {
    byte i
    free[0] = LIMIT - BESIDE; kids[0] = BESIDE; limit[0] = LIMIT
    for (i : 0 .. WORKERS - 1) { run Worker(i) }
    run Closer(0); run Closer(1); run Others()
  }
}
