/* The journal of the file store: src/stores/file.ts, journal/fold.ts, journal/line.ts.

   Writers append lines that name the last line that they had read, read on, sync, and acknowledge. A write can be cut
   anywhere, by a crash or a full disk; half of it can be seen while it is made; what is cut short is completed by
   nobody, and the next writer puts a newline in front of its own line if it has seen it. A writer that crashed comes
   back and sends the same operation under the same id. An auditor reads the file from the start at every moment.

   Each operation sets a counter to one more than its writer has read, and may be applied once. Asserted at every step:
     every acknowledged operation is in the accepted lines, and none is there twice
     the counter is the number of operations: none was decided on a state that had changed
   unless the reader says that the file is damaged, and freezes.

   variant                   | expected |     states | what it is
   --------------------------+----------+------------+---
   default                   | holds    |     89,038 | the protocol
   -DPOWER                   | holds    |    536,006 | the power is cut once
   -DTAMPER                  | holds    |    113,026 | one line is removed, or its newline: its readers freeze
   -DNOPRED                  | holds    |     85,332 | the fold evaluates each batch again, which is enough for these operations
   -DNOREEVAL                | holds    |     89,038 | so is the name of the predecessor, by itself
   -DNOFREEZE                | holds    |     89,038 | nobody freezes unless the file was tampered with
   -DOPS=2 -DLINES=5         | holds    |  1,488,990 | two operations of each writer
   -DOPS=2 -DLINES=5 -DPOWER | holds    |  8,856,830 | and the power is cut
   -DWRITERS=3 -DCUTS=1      | holds    |  4,395,466 | three writers
   -DNOPRED -DNOREEVAL       | fails    |         78 | neither of the two
   -DNOPRED -DTAMPER         | fails    |         16 | without predecessors a removed line leaves no gap
   -DACKEARLY                | fails    |      1,245 | acknowledged before it was read back
   -DPOWER -DNOSYNC          | fails    |    105,972 | acknowledged before it was synced
   -DPOWER -DSYNCOWN         | fails    |    118,989 | only what this process wrote itself is synced
   -DNOID                    | fails    |         25 | asked again without its id
   -DNOFREEZE -DUNGLUED      | fails    |     19,800 | behind a line that lacks only its newline, or behind two, what is glued is taken for damage
   -DTAMPER -DUNNAMED        | fails    |         30 | nobody looks whether a glued line names one of its own run

   POWER adds a cut of the power: whatever was not synced may be gone, wholly or in part. TAMPER removes one line that a
   later one names, or the newline between the two. NOFREEZE also asserts that nobody freezes unless the file was tampered with. */

#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef OPS
#define OPS 1       /* of each writer */
#endif
#ifndef LINES
#define LINES 4
#endif
#ifndef CUTS
#define CUTS 2      /* crashes and short writes */
#endif

#define GROWING 0   /* it is being written: half of it can be seen */
#define PART 1      /* cut short */
#define BARE 2      /* whole, but for its newline */
#define WHOLE 3
#define REMOVED 4

/* The file, in the order of its writes. A line is known by its place, from 1; 0 is the start of the store. */
byte lines
byte names[LINES], op[LINES], sees[LINES], kind[LINES]
bit glued[LINES]    /* nothing separates it from what stands before it, which was cut short */
byte inode          /* one writer appends at a time */
byte synced, cuts
bit tampered, cut
byte acked

/* What each reader knows; the last one is the auditor. */
#define READERS (WRITERS + 1)
#define AUDITOR WRITERS
byte offset[READERS], head[READERS], accepted[READERS], applied[READERS], value[READERS]
bit torn[READERS], dead[READERS], twice[READERS]
/* Where each writer is. */
byte phase[WRITERS], done[WRITERS], own[WRITERS]
#define DECIDE 0
#define WRITE 1
#define FINISH 2
#define READBACK 3
#define SYNC 4
#define ACK 5
#define ANSWER 6    /* done before, as its own reading says */

#define ID(me) (1 << (me * OPS + done[me]))

inline forget(me) {
  offset[me] = 0; head[me] = 0; accepted[me] = 0; applied[me] = 0; value[me] = 0; torn[me] = 0; dead[me] = 0; twice[me] = 0
}

inline accept(me) {
  head[me] = i + 1; accepted[me] = accepted[me] | (1 << (i + 1))
#ifdef NOREEVAL
  if :: applied[me] & op[i] -> twice[me] = 1 :: else fi
  applied[me] = applied[me] | op[i]; value[me] = sees[i] + 1
#else
  /* The fold evaluates each batch again: its check of the value, and of its own id. */
  if
#ifdef NOID
  :: sees[i] == value[me] -> if :: applied[me] & op[i] -> twice[me] = 1 :: else fi; applied[me] = applied[me] | op[i]; value[me]++
#else
  :: sees[i] == value[me] && !(applied[me] & op[i]) -> applied[me] = applied[me] | op[i]; value[me]++
#endif
  :: else
  fi
#endif
}

/* A run is what stands between two newlines: one line, or what was cut and what is glued to it. Nobody accepts what is
   glued, so nobody accepts a line of it as the one before: one that names another of its own run says that a newline is gone. */
inline judgeRun(me) {
#ifdef UNGLUED
  /* What is glued is known only behind a single line that is shorter than it says. */
  if :: j > i && (kind[i] == BARE || (j + 1 < lines && j > i + 1)) -> dead[me] = 1 :: else fi
#else
#ifdef UNNAMED
  skip
#else
  k = i + 1
  do
  :: k <= j ->
       if
       :: names[k] > i && names[k] <= k && kind[names[k] - 1] == BARE && (kind[k] == WHOLE || kind[k] == BARE) -> dead[me] = 1
       :: else
       fi
       k++
  :: k > j -> break
  od
  k = 0
#endif
#endif
}

/* Reads on to the end of the file. */
inline readOn(me) {
  torn[me] = 0
  do
  :: dead[me] || offset[me] >= lines -> break
  :: else ->
       i = offset[me]; j = i
       do :: j + 1 < lines && glued[j + 1] -> j++ :: else -> break od
       judgeRun(me)
       if
       :: j + 1 == lines && kind[j] != WHOLE && kind[j] != REMOVED -> torn[me] = 1; break
       :: else
       fi
       if
       :: j > i
       :: j == i && (kind[i] == WHOLE || kind[i] == BARE) ->
            if
#ifndef NOPRED
            :: names[i] == head[me] -> accept(me)
            :: names[i] != head[me] && (names[i] == 0 || (accepted[me] & (1 << names[i])))
            :: names[i] != head[me] && names[i] != 0 && !(accepted[me] & (1 << names[i])) -> dead[me] = 1
#else
            :: accept(me)
#endif
            fi
       :: else
       fi
       if :: !dead[me] -> offset[me] = j + 1 :: else fi
  od
  i = 0; j = 0
}

proctype Writer(byte me) {
  byte i, j, k
  byte before, seen
  bit newline

  do
  :: done[me] == OPS || dead[me] -> break
  :: phase[me] == DECIDE && done[me] < OPS && !dead[me] -> d_step {
       readOn(me)
       before = head[me]; seen = value[me]; newline = torn[me]
#ifdef NOID
       phase[me] = WRITE
#else
       phase[me] = ((applied[me] & ID(me)) -> ANSWER : WRITE)
#endif
       if :: dead[me] -> phase[me] = DECIDE; before = 0; seen = 0; newline = 0 :: else fi }
  :: atomic { phase[me] == WRITE && inode == 0 && lines < LINES ->
       names[lines] = before; op[lines] = ID(me); sees[lines] = seen; kind[lines] = GROWING
       glued[lines] = (lines > 0 && !newline && (kind[lines - 1] == PART || kind[lines - 1] == BARE) -> 1 : 0)
       own[me] = lines + 1; lines++; inode = me + 1; phase[me] = FINISH; before = 0; seen = 0; newline = 0 }
  :: atomic { phase[me] == FINISH -> inode = 0
       if
       :: kind[own[me] - 1] = WHOLE
#ifdef ACKEARLY
          phase[me] = ACK
#else
          phase[me] = READBACK
#endif
       /* Cut short, and its writer lives: it says that nobody knows, or that nothing happened, and is asked again. */
       :: cuts < CUTS -> cuts++; kind[own[me] - 1] = PART; phase[me] = DECIDE
       :: cuts < CUTS -> cuts++; kind[own[me] - 1] = BARE; phase[me] = DECIDE
       fi
       if :: phase[me] == DECIDE -> own[me] = 0 :: else fi }
  :: phase[me] == READBACK -> d_step {
       readOn(me)
#ifdef NOPRED
       phase[me] = ((applied[me] & ID(me)) -> SYNC : DECIDE)
#else
       phase[me] = ((accepted[me] & (1 << own[me])) -> SYNC : DECIDE)
#endif
       own[me] = 0 }
  :: atomic { phase[me] == ANSWER ->
#ifdef SYNCOWN
       phase[me] = ACK
#else
       phase[me] = SYNC
#endif
     }
  :: atomic { phase[me] == SYNC ->
#ifndef NOSYNC
       if :: offset[me] > synced -> synced = offset[me] :: else fi
#endif
       phase[me] = ACK }
  :: atomic { phase[me] == ACK -> acked = acked | ID(me); done[me]++; phase[me] = DECIDE; own[me] = 0 }
  /* Killed; whoever comes after it asks again under the same id. */
  :: atomic { cuts < CUTS && done[me] < OPS && phase[me] != DECIDE -> cuts++
       if
       :: phase[me] == FINISH -> inode = 0; if :: kind[own[me] - 1] = PART :: kind[own[me] - 1] = BARE :: kind[own[me] - 1] = WHOLE fi
       :: else
       fi
       forget(me); phase[me] = DECIDE; own[me] = 0; before = 0; seen = 0; newline = 0 }
  od
}

proctype Auditor() {
  byte i, j, k
  do
  :: d_step {
       readOn(AUDITOR)
       assert(dead[AUDITOR] || (!twice[AUDITOR] && (acked & ~applied[AUDITOR]) == 0))
       assert(dead[AUDITOR] || value[AUDITOR] == (applied[AUDITOR] & 1) + ((applied[AUDITOR] >> 1) & 1) + ((applied[AUDITOR] >> 2) & 1) + ((applied[AUDITOR] >> 3) & 1))
#ifdef NOFREEZE
       assert(!dead[AUDITOR] || tampered)
#endif
       forget(AUDITOR)
     }
#ifdef POWER
  :: atomic { !cut && inode == 0 && lines > synced -> cut = 1
       i = lines - 1
       do
       :: i > synced -> lines--; i--
       :: i == synced -> break
       :: break
       od
       /* The last line that may be gone is gone, or what is left of it. */
       if
       :: lines--; kind[lines] = 0; glued[lines] = 0
       :: kind[lines - 1] == WHOLE -> kind[lines - 1] = PART
       :: skip
       fi
       /* The newline that completed the last synced line was synced with it. */
       if :: lines == synced && lines > 0 && kind[lines - 1] == BARE -> kind[lines - 1] = WHOLE :: else fi
       for (i : 0 .. WRITERS - 1) { forget(i); phase[i] = DECIDE; own[i] = 0 }
       for (i : lines .. LINES - 1) { names[i] = 0; op[i] = 0; sees[i] = 0; kind[i] = 0; glued[i] = 0 }
       i = 0 }
#endif
#ifdef TAMPER
  :: atomic { !tampered && lines > 1 -> select(i: 0 .. LINES - 2)
       if
       :: kind[i] == WHOLE && !glued[i] && i + 1 < lines && names[i + 1] == i + 1 && kind[i + 1] == WHOLE && !glued[i + 1] ->
            tampered = 1
            if :: kind[i] = REMOVED :: kind[i] = BARE; glued[i + 1] = 1 fi
       :: else
       fi
       i = 0 }
#endif
  od
}

init {
  atomic {
    byte i
    for (i : 0 .. WRITERS - 1) { run Writer(i) }
    run Auditor()
  }
}
