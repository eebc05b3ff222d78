/* test_weak.c -- the pairings of a writer and a reader without a lock, under a weak memory order.
 *
 * On x86 a missing fence cannot be seen, so each pairing is written down here once more and run on
 * every execution that C11 allows a machine without load buffering: a store is a message that
 * carries what its thread had seen when it was released, a load may take any message not older
 * than what the reader knows.  There is one writer, which waits for nobody, so all executions are
 * all choices of the reader's loads over the writer's whole run.
 *
 * Views: cur = what a thread knows; acq = what relaxed loads have brought, known after an acquire
 * fence; rel = what was known at the last release fence, which later relaxed stores carry.
 *
 * The protocol must have no bad execution; each variant (named like its patch in
 * tests/mutants/fences, or for the reader's half of the pairing) must have one.  One has none: what
 * the fence behind apply_begin promises, every STATE that is released afterwards carries as well.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { LOCATIONS = 12, MESSAGES = 8, CHOICES = 32 };
enum order { RELAXED, RELEASE, ACQUIRE };

struct sight {
    uint8_t at[LOCATIONS]; /* the newest message known of each location */
};

static struct {
    uint32_t value[LOCATIONS][MESSAGES];
    struct sight carried[LOCATIONS][MESSAGES];
    uint8_t n[LOCATIONS];
    struct sight writer, released, reader, pending;
    /* The execution: which of how many messages each load took. */
    uint8_t choice[CHOICES], among[CHOICES];
    uint32_t depth;
} m;

static const char *variant; /* NULL = the protocol */

static bool without(const char *name)
{
    return variant && strcmp(variant, name) == 0;
}

static void join(struct sight *a, const struct sight *b)
{
    for (int i = 0; i < LOCATIONS; i++)
        if (b->at[i] > a->at[i])
            a->at[i] = b->at[i];
}

static void store(int at, uint32_t value, enum order order)
{
    uint8_t n = m.n[at]++;
    m.writer.at[at] = n;
    m.value[at][n] = value;
    m.carried[at][n] = order == RELEASE ? m.writer : m.released;
    m.carried[at][n].at[at] = n;
}

static void release_fence(void)
{
    m.released = m.writer;
}

static uint32_t load(int at, enum order order)
{
    uint8_t oldest = m.reader.at[at], among = (uint8_t)(m.n[at] - oldest);
    m.among[m.depth] = among;
    uint8_t taken = (uint8_t)(oldest + m.choice[m.depth++]);
    m.reader.at[at] = taken;
    join(&m.pending, &m.carried[at][taken]);
    if (order == ACQUIRE)
        join(&m.reader, &m.carried[at][taken]);
    return m.value[at][taken];
}

static void acquire_fence(void)
{
    join(&m.reader, &m.pending);
}

/* What is there from the start, known to everybody. */
static void begin(int at, uint32_t value)
{
    m.value[at][0] = value;
    memset(&m.carried[at][0], 0, sizeof m.carried[at][0]);
    m.n[at] = 1;
}

/* The pairings --------------------------------------------------------------------------------- */

#define FREE 0u
#define LIVE 1u
#define DEAD 3u
#define WORD(gen, status) ((uint32_t)(gen) << 2 | (status))
#define STATUS(word) ((word)&3u)
#define GEN(word) ((word) >> 2)

/* "payload": a slot used again, under a reader that keeps the state word it saw first. */
static const char *payload(void)
{
    enum { STATE, LABEL, VEC0, VEC1, BETWEEN };
    begin(STATE, WORD(0, LIVE));
    begin(LABEL, 10);
    begin(VEC0, 10);
    begin(VEC1, 10);
    begin(BETWEEN, 0);
    store(STATE, WORD(0, DEAD), RELEASE);
    store(STATE, WORD(1, FREE), RELEASE);
    if (!without("fence-b-payload"))
        release_fence();
    store(LABEL, 11, RELAXED);
    store(VEC0, 11, RELAXED);
    store(VEC1, 11, RELAXED);
    store(STATE, WORD(1, LIVE), without("fence-p1-state") ? RELAXED : RELEASE);

    uint32_t g = load(STATE, without("reader-state") ? RELAXED : ACQUIRE);
    if (STATUS(g) != LIVE)
        return NULL;
    uint32_t label = load(LABEL, RELAXED), a = load(VEC0, RELAXED), b = load(VEC1, RELAXED);
    if (!without("fence-get"))
        acquire_fence();
    uint32_t now = load(STATE, RELAXED);
    if (GEN(now) != GEN(g) || STATUS(now) == FREE)
        return NULL; /* dropped */
    return label == a && a == b && label == 10 + GEN(g) ? NULL : "a pair of two lives";
}

/* "links" (I4): who follows a link finds a whole node, and can go on from there. */
static const char *links(void)
{
    enum { STATE, VEC, OWN_ROW, OTHER_ROW };
    begin(STATE, WORD(0, FREE));
    begin(VEC, 0);
    begin(OWN_ROW, 0);
    begin(OTHER_ROW, 0);
    release_fence(); /* of payload_store */
    store(VEC, 7, RELAXED);
    store(STATE, WORD(0, LIVE), RELEASE);
    if (!without("fence-p2"))
        release_fence();
    store(OWN_ROW, 5, RELAXED);
    if (!without("fence-p2-own"))
        release_fence();
    store(OTHER_ROW, 1, RELAXED);

    if (load(OTHER_ROW, RELAXED) != 1)
        return NULL;
    if (!without("reader-row"))
        acquire_fence();
    if (load(OWN_ROW, RELAXED) != 5)
        return "a link to a node that leads nowhere";
    if (STATUS(load(STATE, ACQUIRE)) != LIVE || load(VEC, RELAXED) != 7)
        return "a link to a node that is not whole";
    return NULL;
}

/* The same for a reader that meets the node by its own row only: P1 before P2. */
static const char *births(void)
{
    enum { STATE, ROW };
    begin(STATE, WORD(0, FREE));
    begin(ROW, 0);
    store(STATE, WORD(0, LIVE), RELEASE);
    if (!without("fence-p2"))
        release_fence();
    store(ROW, 1, RELAXED);

    if (load(ROW, RELAXED) != 1)
        return NULL;
    acquire_fence();
    return STATUS(load(STATE, ACQUIRE)) == LIVE ? NULL : "a link to a node that is not published";
}

/* "counters": equal counters mean that no apply ran beside the query, so that nothing is twice. */
static const char *counters(void)
{
    enum { BEGIN, END, OLD, NEW };
    begin(BEGIN, 1);
    begin(END, 1);
    begin(OLD, WORD(0, LIVE));
    begin(NEW, WORD(0, FREE));
    store(BEGIN, 2, RELAXED);
    if (!without("fence-p0"))
        release_fence();
    store(NEW, WORD(0, LIVE), RELEASE);
    store(OLD, WORD(0, DEAD), RELEASE);
    store(END, 2, without("fence-p5") ? RELAXED : RELEASE);

    uint32_t e0 = load(END, without("reader-end") ? RELAXED : ACQUIRE);
    bool old = STATUS(load(OLD, RELAXED)) == LIVE, new = STATUS(load(NEW, RELAXED)) == LIVE;
    if (!without("reader-q6"))
        acquire_fence();
    bool stable = load(BEGIN, RELAXED) == e0;
    if (stable && old && new)
        return "a label twice, and the counters say nothing ran beside the query";
    return stable && !old && !new ? "a label not at all, and nothing ran beside the query" : NULL;
}

/* "root": an entry point lies below the extent, on a slot that is published. */
static const char *root(void)
{
    enum { STATE, EXTENT, ENTRY };
    begin(STATE, WORD(0, FREE));
    begin(EXTENT, 1);
    begin(ENTRY, 0);
    store(STATE, WORD(0, LIVE), RELEASE);
    store(EXTENT, 2, without("fence-p3") ? RELAXED : RELEASE);
    store(ENTRY, 1, without("fence-p3") ? RELAXED : RELEASE);

    uint32_t entry = load(ENTRY, without("reader-entry") ? RELAXED : ACQUIRE);
    if (entry != 1)
        return NULL;
    if (load(EXTENT, ACQUIRE) <= entry)
        return "an entry point beyond the extent";
    return STATUS(load(STATE, ACQUIRE)) == LIVE ? NULL : "an entry point that is not published";
}

/* M1: below the bound everything is mapped. */
static const char *bound(void)
{
    enum { MAPPED, NCHUNKS };
    begin(MAPPED, 1);
    begin(NCHUNKS, 1);
    store(MAPPED, 2, RELAXED);
    store(NCHUNKS, 2, without("fence-bound") ? RELAXED : RELEASE);

    uint32_t nchunks = load(NCHUNKS, ACQUIRE);
    return load(MAPPED, RELAXED) >= nchunks ? NULL : "a chunk that is not mapped";
}

/* S4: the number of a staged record leads to a record that is filled. */
static const char *stage(void)
{
    enum { RECORD, OVERLAY };
    begin(RECORD, 0);
    begin(OVERLAY, 0);
    store(RECORD, 9, RELAXED);
    store(OVERLAY, 1, without("fence-s4") ? RELAXED : RELEASE);

    if (load(OVERLAY, ACQUIRE) != 1)
        return NULL;
    return load(RECORD, RELAXED) == 9 ? NULL : "a staged record that is not filled";
}

/* Running them --------------------------------------------------------------------------------- */

typedef const char *pairing(void);

/* All executions; the first bad one's sentence, or NULL. */
static const char *explore(pairing *run, uint64_t *executions)
{
    memset(m.choice, 0, sizeof m.choice);
    for (;;) {
        memset(m.n, 0, sizeof m.n);
        memset(&m.writer, 0, sizeof m.writer);
        memset(&m.released, 0, sizeof m.released);
        memset(&m.reader, 0, sizeof m.reader);
        memset(&m.pending, 0, sizeof m.pending);
        m.depth = 0;
        const char *bad = run();
        ++*executions;
        if (bad)
            return bad;
        uint32_t at = m.depth; /* the next one: count up the last load that has another choice */
        while (at > 0 && m.choice[at - 1] + 1 >= m.among[at - 1])
            m.choice[--at] = 0;
        if (at == 0)
            return NULL;
        m.choice[at - 1]++;
        memset(m.choice + at, 0, sizeof m.choice - at);
    }
}

static const struct {
    const char *name;
    pairing *run;
} pairings[] = {{"payload", payload},   {"links", links}, {"births", births}, {"root", root},
                {"counters", counters}, {"bound", bound}, {"stage", stage}};

static const struct {
    const char *name;
    pairing *run;
    bool covered; /* another rule covers it: as good as the protocol */
} variants[] = {
    {"fence-b-payload", payload, false}, {"fence-p1-state", payload, false},
    {"fence-get", payload, false},       {"reader-state", payload, false},
    {"fence-p2", births, false},         {"fence-p2-own", links, false},
    {"reader-row", links, false},        {"fence-p0", counters, true},
    {"fence-p5", counters, false},       {"reader-end", counters, false},
    {"reader-q6", counters, false},      {"fence-p3", root, false},
    {"reader-entry", root, false},       {"fence-bound", bound, false},
    {"fence-s4", stage, false},
};

int main(void)
{
    uint32_t passed = 0, failed = 0;
    for (size_t i = 0; i < sizeof pairings / sizeof pairings[0]; i++) {
        uint64_t executions = 0;
        const char *bad = explore(pairings[i].run, &executions);
        printf("%-16s %4" PRIu64 " executions%s%s\n", pairings[i].name, executions,
               bad ? ", and one has " : "", bad ? bad : "");
        *(bad ? &failed : &passed) += 1;
    }
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        uint64_t executions = 0;
        variant = variants[i].name;
        const char *bad = explore(variants[i].run, &executions);
        bool as_expected = (bad == NULL) == variants[i].covered;
        printf("without %-16s %s%s\n", variant, bad ? bad : "nothing happens",
               as_expected ? "" : ": FAILED");
        *(as_expected ? &passed : &failed) += 1;
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed ? 1 : 0;
}
