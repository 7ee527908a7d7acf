/* What a dead process has left, and whoever ends it: src/kernel/successor.ts, src/budget/estate.ts, src/audit/.

   One process has a lease and takes one hold directly; its chain says what it set aside before each call was
   dispatched, and what each call used before that is reported. It is stopped, killed with one batch still on its way,
   or taken for dead while it lives. Two successors want its estate; each may be killed too, with its own last batch
   still on its way. A stranger spends whatever is free at once, so money that comes back wrongly is spent twice.

   Asserted at every step:
     bill <= LIMIT
     LIMIT == free + spent + suspense + out, and out and suspense are the sums of the records that lie there
   and once an estate is settled, with nothing on its way any more:
     nothing of the dead process is held, and what it spent is what its chain says, to the unit

   variant                                   | expected |     states | what it is
   ------------------------------------------+----------+------------+---
   -DSUCCESSORS=1                            | holds    |    318,148 | the protocol, one successor
   default                                   | holds    |  2,844,957 | two successors
   -DLIMIT=3 -DSUCCESSORS=1                  | holds    |  1,675,576 | one unit more
   -DSUCCESSORS=1 -DLOSTFENCE -DFENCECHECKED | holds    |    609,252 | LOSTFENCE, repaired
   -DSUCCESSORS=1 -DBILL -DZOMBIE            | holds    |    924,232 | ZOMBIE breaks the books, never the limit
   -DSUCCESSORS=1 -DBILL -DNOLOCK            | fails    |      7,268 | a successor does not wait for the lock
   -DSUCCESSORS=1 -DNOFENCE                  | fails    |      2,416 | the process record is left where it is
   -DSUCCESSORS=1 -DBILL -DNOTAIL            | fails    |      2,143 | a chain that lost its end is believed
   -DSUCCESSORS=1 -DBILL -DNOINTENT          | fails    |      1,103 | a call is dispatched before its intent is in the chain
   -DSUCCESSORS=1 -DFORGETREPORTS            | fails    |     32,611 | what was reported before is charged again
   -DSUCCESSORS=1 -DLOSTFENCE                | fails    |      4,181 | nobody looks whether the process record was removed
   -DSUCCESSORS=1 -DZOMBIE                   | fails    |      7,933 | a kernel that closed with ends unsent lets go of its lock

   LOSTFENCE lets the commit that removes the process record fail with an unknown outcome. The first estate.ts did not
   look at that outcome, and the first chain.ts let go of the lock of a kernel whose ends were unsent (ZOMBIE): both
   rows were found here. With FENCECHECKED, the repair, the first one holds. */

#ifndef LIMIT
#define LIMIT 2
#endif
#ifndef SUCCESSORS
#define SUCCESSORS 2
#endif

#define NOWHERE 0
#define HELD 1
#define SUSPENDED 2

byte free = LIMIT, spent, suspense, out
byte bill         /* of everybody */
byte foreign      /* what the stranger spent of it */

/* The lease: where its record lies, what is left of it, what of its use was reported. */
byte leaseAt, leaseLeft, leaseReported
/* The hold of one unit, and what was charged for it at its end. */
byte holdAt, holdSpent
bit registered    /* the process record is there */

/* Whether a record is as the process, or a successor, saw it last. */
bit leaseSame, holdSame, ticketSame
bit leaseSeen[SUCCESSORS], holdSeen[SUCCESSORS]

/* The chain: worst case of the call under way, use of those that have ended; of the hold: 1 intent, 2 used 0, 3 used 1. */
byte chainOpen, chainUsed, chainHold
byte lastKind, lastUsed
bit touched       /* records were cut off, and it shows: by the stored head, the time of the change, or the boot of the machine */

byte lock = 1     /* 0 nobody, 1 the process, 2 and up a successor */
bit settled
byte gone         /* 1 when the process is dead, 2 when nothing of it is on its way any more */
byte finished

#ifdef BILL
#define BOOKS skip
#define THERE(amount, column) column >= amount
#else
#define THERE(amount, column) assert(column >= amount)
#define BOOKS assert(free + spent + suspense + out == LIMIT && out == (leaseAt == HELD -> leaseLeft : 0) + (holdAt == HELD -> 1 : 0) && suspense == (leaseAt == SUSPENDED -> leaseLeft : 0) + (holdAt == SUSPENDED -> 1 : 0))
#endif
#define DUE assert(bill <= LIMIT)

inline leaseChanged() { leaseSame = 0; leaseSeen[0] = 0; leaseSeen[SUCCESSORS - 1] = 0 }
inline holdChanged() { holdSame = 0; holdSeen[0] = 0; holdSeen[SUCCESSORS - 1] = 0 }

/* Out of the column where it lies; `min: 0` refuses what is not there, which is damage. */
inline takeOut(at, amount) {
  if
  :: at == HELD -> THERE(amount, out); out = out - amount
  :: at == SUSPENDED -> THERE(amount, suspense); suspense = suspense - amount
  fi
}

/* The four batches of the process. Each is judged by itself, whenever it arrives. */
inline landTakeLease() {
  if
  :: leaseAt == NOWHERE && registered && ticketSame && free >= 1 ->
       free--; out++; leaseAt = HELD; leaseLeft = 1; leaseReported = 0; leaseChanged(); leaseSame = 1
       BOOKS
  :: else
  fi
}
inline landMove() {
  if
  :: leaseAt != NOWHERE && leaseSame && registered && ticketSame && free + back >= want ->
       takeOut(leaseAt, left)
       out = out + left - told - back + want
       spent = spent + told; free = free + back - want
       leaseReported = leaseReported + told; leaseLeft = left - told - back + want
       leaseAt = (leaseLeft == 0 -> NOWHERE : HELD)
       leaseChanged(); leaseSame = 1; moved = 1
       BOOKS
  :: else
  fi
}
inline landTakeHold() {
  if
  :: holdAt == NOWHERE && registered && ticketSame && free >= 1 -> free--; out++; holdAt = HELD; holdChanged(); holdSame = 1
       BOOKS
  :: else
  fi
}
inline endHold(used) {
  takeOut(holdAt, 1)
  spent = spent + used; free = free + 1 - used; holdSpent = used; holdAt = NOWHERE
  holdChanged()
  BOOKS
}

proctype Process() {
  byte left, rest, used, act
  byte told, back, want
  bit leased, under, over, moved
  byte hold, holdAct       /* 1 intent written, 2 taken, 3 dispatched, 4 outcome written, 5 ended */

  do
  :: atomic { !registered -> registered = 1; ticketSame = 1 }
  :: atomic { registered && !ticketSame -> ticketSame = 1 }

  /* One lease; what it takes goes into the chain before it is sent. */
  :: atomic { !leased && !over && leaseAt == NOWHERE && registered && ticketSame && free >= 1 && lock == 1 ->
       landTakeLease(); leased = 1; left = 1; rest = 1 }
  /* A call: its intent is in the chain before it is dispatched, its outcome before anybody hears of it. */
#ifdef NOINTENT
  :: atomic { leased && !under && rest > 0 && lock == 1 -> rest--; under = 1; if :: act = 0 :: act = 1 fi; bill = bill + act; DUE }
  :: atomic { under && chainOpen == 0 -> chainOpen = 1; lastKind = 1 }
#else
#ifdef NOLOCK
  :: atomic { leased && chainOpen == 0 && rest > 0 -> rest--; chainOpen = 1; lastKind = 1 }
#else
  :: atomic { leased && chainOpen == 0 && rest > 0 && lock == 1 -> rest--; chainOpen = 1; lastKind = 1 }
#endif
  :: atomic { chainOpen == 1 && !under -> under = 1; if :: act = 0 :: act = 1 fi; bill = bill + act; DUE }
#endif
  :: atomic { under && chainOpen == 1 ->
       if
       :: skip
       :: act == 0 -> act = 1         /* nobody knows what it used: its worst case */
       fi
       chainOpen = 0; chainUsed = chainUsed + act; lastKind = 2; lastUsed = act
       used = used + act; rest = rest + 1 - act; under = 0; act = 0 }

  /* The move of the lease: report, give back or take more. */
  :: atomic { leased && (used > 0 || rest > 0) -> told = used; if :: skip :: back = rest :: lock == 1 && free >= 1 -> want = 1 fi;
       if
       :: told + back + want == 0
       :: told + back + want > 0 && leaseSame ->
            landMove()
            if
            :: moved -> used = 0; rest = rest - back + want; left = leaseLeft; if :: left == 0 -> leased = 0; over = 1 :: else fi
            :: else
            fi
       /* It lies in suspense now; or it was ended for good by somebody else. */
       :: told + back + want > 0 && !leaseSame ->
            if :: leaseAt != NOWHERE -> leaseSame = 1 :: else -> leased = 0; over = 1; rest = 0; used = 0; left = 0 fi
       fi
       told = 0; back = 0; want = 0; moved = 0 }

  /* One hold, taken from the store. */
  :: atomic { hold == 0 && lock == 1 -> hold = 1; chainHold = 1; lastKind = 3 }
  :: atomic { hold == 1 && holdAt == NOWHERE && registered && ticketSame && free >= 1 && lock == 1 -> landTakeHold(); hold = 2 }
  :: atomic { hold == 2 && lock == 1 -> hold = 3; if :: holdAct = 0 :: holdAct = 1 fi; bill = bill + holdAct; DUE }
  :: atomic { hold == 3 -> if :: skip :: holdAct = 1 fi; chainHold = 2 + holdAct; lastKind = 4; hold = 4 }
  :: atomic { hold == 4 && holdSame -> endHold(holdAct); hold = 5 }
  :: atomic { hold == 4 && !holdSame -> if :: holdAt == NOWHERE -> hold = 5 :: else -> holdSame = 1 fi }

#ifdef ZOMBIE
  /* Its kernel was closed with ends unsent: the lock is let go of, and what is unsent is still being tried. */
  :: atomic { lock == 1 && !under && chainOpen == 0 && hold != 3 && hold != 2 -> lock = 0 }
#endif

  /* Killed, with at most one batch still on its way. */
  :: break
  od
  atomic { rest = 0; act = 0; gone = 1;
    if
    :: gone = 2
    :: lock == 1 && !leased && !over && ticketSame -> want = 1
    :: leased && used + left > 0 && ticketSame && leaseSame -> told = used
    :: leased && left > used && ticketSame && leaseSame && chainOpen == 0 -> told = used; back = left - used
    :: lock == 1 && leased && ticketSame && leaseSame -> told = used; want = 1
    :: lock == 1 && hold == 1 && ticketSame -> hold = 6
    :: hold == 4 && holdSame -> hold = 7
    fi
    if :: lock == 1 -> lock = 0 :: else fi
  }
  atomic {
    if
    :: gone == 2
    :: gone == 1 && hold == 6 -> landTakeHold()
    :: gone == 1 && hold == 7 && holdSame -> endHold(holdAct)
    :: gone == 1 && hold == 7 && !holdSame
    :: gone == 1 && hold != 6 && hold != 7 && !leased -> landTakeLease()
    :: gone == 1 && hold != 6 && hold != 7 && leased -> landMove()
    fi
    gone = 2; hold = 0; holdAct = 0; left = 0; used = 0; told = 0; back = 0; want = 0; leased = 0; over = 0; moved = 0; under = 0
  }
}

proctype Successor(byte me) {
  byte pass, left, use, passes
  byte factUse, factHold    /* what the chain says, read once */
  bit aLease, aHold, alone

  do
  :: atomic { finished == 0 && passes < 2 && alone == 0 ->
#ifdef NOLOCK
       skip
#else
       lock == 0 -> lock = 2 + me
#endif
       passes++ }
     /* The chain is read once. When it cannot be believed, nothing is touched. */
     if
#ifndef NOTAIL
     :: atomic { touched -> if :: lock == 2 + me -> lock = 0 :: else fi }; break
     :: atomic { !touched -> factUse = chainUsed + chainOpen; factHold = chainHold }
#else
     :: atomic { factUse = chainUsed + chainOpen; factHold = chainHold }
#endif
     fi
#ifndef NOFENCE
     /* Without the process record nothing that needs its ticket can be applied any more. */
     if
     :: atomic { registered -> registered = 0; ticketSame = 0 }
     :: !registered
#ifdef LOSTFENCE
#ifdef FENCECHECKED
     :: atomic { registered -> if :: lock == 2 + me -> lock = 0 :: else fi }; goto again
#else
     :: registered
#endif
#endif
     fi
#endif
     for (pass : HELD .. SUSPENDED) {
       /* One look at what lies in this place. */
       atomic {
         aLease = (leaseAt == pass); aHold = (holdAt == pass)
         if :: aLease -> leaseSeen[me] = 1; left = leaseLeft;
#ifdef FORGETREPORTS
              use = factUse
#else
              use = (factUse > leaseReported -> factUse - leaseReported : 0)
#endif
              use = (use > left -> left : use)
            :: else
         fi
         if :: aHold -> holdSeen[me] = 1 :: else fi
       }
       do
       :: aLease -> atomic {
            /* It may be killed with this batch on its way: then somebody else has the lock already. */
            if :: skip :: lock == 2 + me -> lock = 0; alone = 1 fi
            if
            :: !leaseSeen[me] -> if :: leaseAt == NOWHERE -> aLease = 0 :: else -> leaseSeen[me] = 1 fi
#ifndef NOFENCE
            /* Its process is registered again: this one gives up, and somebody tries later. */
            :: leaseSeen[me] && registered -> if :: lock == 2 + me -> lock = 0 :: else fi; goto again
            :: leaseSeen[me] && !registered ->
#else
            :: leaseSeen[me] ->
#endif
                 takeOut(leaseAt, left)
                 spent = spent + use; free = free + left - use; leaseAt = NOWHERE; leaseLeft = 0; leaseReported = 0
                 leaseChanged()
                 BOOKS
                 aLease = 0
            fi
            if :: alone -> goto again :: else fi }
       :: !aLease && aHold -> atomic {
            if :: skip :: lock == 2 + me -> lock = 0; alone = 1 fi
            if
            :: !holdSeen[me] -> if :: holdAt == NOWHERE -> aHold = 0 :: else -> holdSeen[me] = 1 fi
            /* What the chain does not know was never said to be held. */
            :: holdSeen[me] && factHold == 0 -> aHold = 0
            :: holdSeen[me] && factHold > 0 -> endHold((factHold == 2 -> 0 : 1)); aHold = 0
            fi
            if :: alone -> goto again :: else fi }
       :: !aLease && !aHold -> break
       od
     }
     atomic { if :: lock == 2 + me -> lock = 0 :: else fi; settled = 1 }
     break
again:
     atomic { aLease = 0; aHold = 0; left = 0; use = 0; pass = 0; factUse = 0; factHold = 0; if :: alone -> break :: else fi }
  :: break
  od
  atomic { aLease = 0; aHold = 0; left = 0; use = 0; pass = 0; factUse = 0; factHold = 0; passes = 0; alone = 0; leaseSeen[me] = 0; holdSeen[me] = 0; finished++ }
}

/* Everybody else: sweeps at any moment, and spends what is free. */
proctype Others() {
  do
  :: atomic { leaseAt == HELD -> out = out - leaseLeft; suspense = suspense + leaseLeft; leaseAt = SUSPENDED; leaseChanged(); BOOKS }
  :: atomic { holdAt == HELD -> out--; suspense++; holdAt = SUSPENDED; holdChanged(); BOOKS }
  :: atomic { registered && leaseAt != HELD && holdAt != HELD -> registered = 0; ticketSame = 0 }
  :: atomic { free > 0 -> free--; spent++; foreign++; bill++; DUE }
  /* The end of the chain is cut off. */
  :: atomic { gone > 0 && lastKind > 0 && !touched && finished < SUCCESSORS ->
       if
       :: lastKind == 1 -> chainOpen = 0
       :: lastKind == 2 -> chainUsed = chainUsed - lastUsed; chainOpen = 1
       :: lastKind == 3 -> chainHold = 0
       :: lastKind == 4 -> chainHold = 1
       fi
       lastKind = 0; lastUsed = 0; touched = 1 }
#ifndef BILL
  :: atomic { finished == SUCCESSORS && gone == 2 && settled && !touched ->
       assert(leaseAt == NOWHERE && holdAt == NOWHERE && spent == foreign + chainUsed + chainOpen + holdSpent); break }
#endif
  od
}

init {
  atomic {
    byte i
    run Process()
    for (i : 0 .. SUCCESSORS - 1) { run Successor(i) }
    run Others()
  }
}
