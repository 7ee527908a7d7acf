/* The leases of one budget, as src/budget/lease.ts, lending.ts and processes.ts implement them.

   A lease is one record. Its owner moves it (report what was spent, give back, take more) with one batch under the
   version of the record and of its process record; a lost reply is asked again under the same nonce; anyone may move
   the record to suspense at any moment, and the owner's next move brings it back. Every order of these steps is
   searched, with processes that pause anywhere or die anywhere.

   Asserted at every step:
     bill <= LIMIT, where the bill counts a call when it is dispatched, the worst order for the limit
     LIMIT == free + spent + suspense + out
     out and suspense are the sums of the records that lie there: nothing is held that no record owns
     what the owner believes to be left is what its record says, unless one of its moves is in doubt

   variant                          | expected |     states | what it is
   ---------------------------------+----------+------------+---
   -DLIMIT=2                        | holds    |    360,066 | the protocol
   default                          | holds    |  3,161,328 | the same with one unit more: LIMIT=3
   -DLIMIT=3 -DCHUNK=2 -DWORST=2    | holds    |  2,945,162 | chunks and calls of two units
   -DLIMIT=2 -DBILL -DEXPIRYRETURNS | fails    |     79,908 | what a silent process holds goes back to free
   -DLIMIT=2 -DBILL -DREFUND        | fails    |        807 | a call that nobody knows the cost of is refunded
   -DLIMIT=2 -DBILL -DNOVERSION     | fails    |     58,842 | a move does not check the version of its record
   -DLIMIT=2 -DBILL -DNONONCE       | fails    |    135,906 | a record that has changed is not asked whose nonce it has
   -DLIMIT=2 -DBILL -DKEEPREST      | fails    |        334 | what is on its way back can still be spent
   -DLIMIT=2 -DBILL -DSPENDFIRST    | fails    |        856 | what is asked for can be spent before it is there
   -DLIMIT=2 -DBLINDSWEEP           | fails    |      9,793 | expiry moves what was read a moment ago
   -DLIMIT=2 -DLATE                 | fails    |  1,489,877 | a request is applied after it was reported as unknown

   With BILL only the bill is asserted: these rows show that the limit itself falls, not only the bookkeeping.
   LATE breaks what a store promises (src/testing/faulty-store.ts): a request that was reported as unknown is applied
   later. The row shows what that promise is needed for.

   Versions are not counted. What a version check decides is whether the record has changed since its owner saw it,
   so that is what is kept, as one bit. */

#ifndef N
#define N 2
#endif
#ifndef LIMIT
#define LIMIT 3
#endif
#ifndef CHUNK
#define CHUNK 1   /* taken at once, and again with each refill */
#endif
#ifndef WORST
#define WORST 1   /* the dearest call */
#endif

#define NOWHERE 0
#define HELD 1
#define SUSPENDED 2

byte free = LIMIT, spent, suspense, out
byte bill

byte place[N]      /* where the record of the lease lies */
byte legs[N]       /* what the record says is left of it */
bit same[N]        /* the record is as its owner saw it last, and lies in `hold/` or where the owner found it */
bit mine[N]        /* the record carries the nonce of its owner's present move */
bit registered[N]  /* the process record is there; only its owner writes it, so there is one version at a time */

#if N == 2
#define SUM(where) ((place[0] == where -> legs[0] : 0) + (place[1] == where -> legs[1] : 0))
#elif N == 3
#define SUM(where) ((place[0] == where -> legs[0] : 0) + (place[1] == where -> legs[1] : 0) + (place[2] == where -> legs[2] : 0))
#else
#error "N must be 2 or 3: SUM adds up that many leases"
#endif

#ifdef BILL
#define BOOKS skip
#define OWN skip
#else
#define OWN assert(left == legs[me])
#define BOOKS assert(free + spent + suspense + out == LIMIT && out == SUM(HELD) && suspense == SUM(SUSPENDED))
#endif

#define NONE 0
#define READY 1    /* has to be sent, for the first time or again */
#define FOUND 2    /* refused because the record has changed: its owner reads what lies there now */

/* A move was applied: what it took may be spent from now on. */
inline done() {
  left = after
  OWN
#ifndef SPENDFIRST
  rest = rest + moveWant
#endif
  move = NONE; moveUsed = 0; moveBack = 0; moveWant = 0
  if :: left == 0 -> leased = 0; rest = 0; used = 0; same[me] = 0; mine[me] = 0 :: else fi
}

proctype Process(byte me) {
  bit leased        /* a lease is open */
  bit doubt         /* a take was never acknowledged: it has to be undone */
  byte left, rest, used, held, act
  byte move, moveUsed, moveBack, moveWant, after
#ifdef LATE
  bit late, lateSame
  byte lateUsed, lateBack, lateWant
#endif

  do
  /* The process record: written with the first take, and again after this process was taken for dead. */
  :: atomic { !registered[me] && !leased && !doubt -> registered[me] = 1 }

  /* A take, as one hold: the record and the money in one batch. A lost reply is asked again, and its nonce is found. */
  :: atomic { !leased && !doubt && registered[me] && free >= CHUNK ->
       free = free - CHUNK; out = out + CHUNK
       place[me] = HELD; legs[me] = CHUNK; same[me] = 1; mine[me] = 0
       BOOKS
       if
       :: leased = 1; left = CHUNK; rest = CHUNK
       :: doubt = 1
       fi }
  /* Asked again and found: by now it may lie in suspense, and its owner looks for it in `hold/`. */
  :: atomic { doubt && place[me] != NOWHERE -> doubt = 0; leased = 1; left = CHUNK; rest = CHUNK; same[me] = (place[me] == HELD) }
  /* Nobody answered for long enough: nothing ran on it, so it is ended wherever it lies. */
  :: atomic { doubt && place[me] != NOWHERE ->
       if :: place[me] == HELD -> out = out - legs[me] :: else -> suspense = suspense - legs[me] fi
       free = free + legs[me]; place[me] = NOWHERE; legs[me] = 0; doubt = 0
       BOOKS }

  /* A call: set aside at its worst, dispatched, and billed with whatever it turns out to cost. */
  :: atomic { leased && held == 0 && rest > 0 ->
       held = 1
#if WORST > 1
       if :: rest >= WORST -> held = WORST :: skip fi
#endif
       rest = rest - held
       if :: act = 0 :: act = held fi
       bill = bill + act
       assert(bill <= LIMIT) }
  :: atomic { held > 0 -> used = used + act; rest = rest + (held - act); held = 0; act = 0 }
  /* Nobody knows what it cost. */
#ifdef REFUND
  :: atomic { held > 0 -> rest = rest + held; held = 0; act = 0 }
#else
  :: atomic { held > 0 -> used = used + held; held = 0; act = 0 }
#endif

  /* Puts a move together: what it moves is spent by nobody else from here on. */
  :: atomic { leased && move == NONE ->
       moveUsed = used
       if :: skip :: rest > 0 -> moveBack = rest :: moveWant = CHUNK fi
       if
       :: moveUsed + moveBack + moveWant == 0
       :: else ->
            used = 0
#ifndef KEEPREST
            rest = rest - moveBack
#endif
#ifdef SPENDFIRST
            rest = rest + moveWant
#endif
            mine[me] = 0; move = READY
       fi }

  /* Sends it. The request is lost (it stays READY), or the batch is judged, and its reply may be lost. */
  :: atomic { move == READY ->
       after = left - moveUsed - moveBack + moveWant
       if
#ifdef LATE
       :: !late -> late = 1; lateSame = same[me]; lateUsed = moveUsed; lateBack = moveBack; lateWant = moveWant
#endif
#ifdef NOVERSION
       :: place[me] == NOWHERE -> move = FOUND
       :: place[me] != NOWHERE && !registered[me] -> registered[me] = 1
       :: place[me] != NOWHERE && registered[me] && free + moveBack < moveWant ->
#else
       :: !same[me] -> move = FOUND
       :: same[me] && !registered[me] -> registered[me] = 1
       :: same[me] && registered[me] && free + moveBack < moveWant ->
#endif
            /* What is wanted is not there: the rest of the move goes without it. */
#ifdef SPENDFIRST
            rest = rest - moveWant
#endif
            moveWant = 0
            if :: moveUsed + moveBack == 0 -> move = NONE :: else fi
       :: else ->
            /* Out by the difference; all of it comes back from suspense, for who speaks up is alive. */
            if
            :: place[me] == HELD && out + after >= left -> out = out + after - left
            :: place[me] == SUSPENDED && suspense >= left -> suspense = suspense - left; out = out + after
            :: else -> goto stopped   /* refused as damage: only broken variants come here */
            fi
            spent = spent + moveUsed
            free = free + moveBack - moveWant
            legs[me] = after
            place[me] = (after == 0 -> NOWHERE : HELD)
            mine[me] = 1
            BOOKS
#ifdef LATE
            lateSame = 0
#endif
            if
            :: same[me] = 1; done()
            :: same[me] = 0     /* the reply is lost */
            fi
       fi
       after = 0 }
  /* One snapshot says where the record is. With this move's nonce it was applied; otherwise it lies in suspense. */
  :: atomic { move == FOUND ->
       after = left - moveUsed - moveBack + moveWant
       if
       :: place[me] == NOWHERE -> assert(after == 0); done()
#ifndef NONONCE
       :: place[me] != NOWHERE && mine[me] -> same[me] = (place[me] == HELD); done()
       :: place[me] != NOWHERE && !mine[me] -> same[me] = 1; move = READY
#else
       :: place[me] != NOWHERE -> same[me] = 1; move = READY
#endif
       fi
       after = 0 }

#ifdef LATE
  /* A request that its sender was told to be lost arrives after all. */
  :: atomic { late ->
       late = 0
       if
       :: lateSame && same[me] && registered[me] && place[me] == HELD && free + lateBack >= lateWant ->
            out = out + lateWant - lateUsed - lateBack
            legs[me] = legs[me] + lateWant - lateUsed - lateBack
            spent = spent + lateUsed; free = free + lateBack - lateWant
            if :: legs[me] == 0 -> place[me] = NOWHERE :: else fi
            same[me] = 0; mine[me] = (move != NONE && lateUsed == moveUsed && lateBack == moveBack)
       :: else
       fi
       lateSame = 0; lateUsed = 0; lateBack = 0; lateWant = 0
       BOOKS }
#endif

  /* Killed: what it knew is gone, what was under way is billed. */
  :: goto stopped
  od
stopped:
  skip
  atomic { leased = 0; doubt = 0; left = 0; rest = 0; used = 0; held = 0; act = 0; move = NONE; moveUsed = 0; moveBack = 0; moveWant = 0; after = 0; same[me] = 0; mine[me] = 0 }
}

/* Takes processes for dead at any moment: clocks decide nothing but how often. */
proctype Sweeper() {
  byte i
  byte seen
  do
#ifdef BLINDSWEEP
  /* Moves what it read a moment ago, without a check that it is still so. */
  :: atomic { seen == 0 -> select(i: 0 .. N - 1); seen = (place[i] == HELD -> legs[i] : 0) }
  :: atomic { seen > 0 && out >= seen -> out = out - seen; suspense = suspense + seen; legs[i] = seen; place[i] = SUSPENDED; same[i] = 0; seen = 0; BOOKS }
  :: atomic { seen > 0 && out < seen -> seen = 0 }
#else
  :: atomic { select(i: 0 .. N - 1);
       if
       :: place[i] == HELD ->
            out = out - legs[i]
#ifdef EXPIRYRETURNS
            free = free + legs[i]; legs[i] = 0; place[i] = SUSPENDED
#else
            suspense = suspense + legs[i]; place[i] = SUSPENDED
#endif
            same[i] = 0
            BOOKS
       :: else
       fi
       i = 0 }
#endif
  /* Its record goes once all its holds have moved. */
  :: atomic { select(i: 0 .. N - 1); if :: place[i] != HELD && registered[i] -> registered[i] = 0 :: else fi; i = 0 }
  od
}

init {
  atomic {
    byte i
    for (i : 0 .. N - 1) { run Process(i) }
    run Sweeper()
  }
}
