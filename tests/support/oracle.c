/* oracle.c -- the expected state and its comparison with a recovered one; see oracle.h. */
#include "tests/support/oracle.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/harness.h"

#define SCATTER UINT64_C(0x9E3779B97F4A7C15) /* odd, so it has an inverse mod 2^64 */
#define SCATTER_INVERSE UINT64_C(0xF1DE83E19937733D)
#define FLOAT_EXACT 0xFFFFFFu

uint64_t truth_label(uint32_t number)
{
    return ((uint64_t)number + 1) * SCATTER;
}

uint32_t truth_number(uint64_t label)
{
    uint64_t n = label * SCATTER_INVERSE - 1;
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

void truth_vector(uint32_t number, uint32_t version, uint32_t dim, float *ret_vector)
{
    uint64_t base = mix64((uint64_t)number << 32 | version);
    for (uint32_t i = 0; i < dim; i++)
        ret_vector[i] = (float)(mix64(base + i) & FLOAT_EXACT);
    ret_vector[0] = (float)(number & FLOAT_EXACT);
    if (dim > 1)
        ret_vector[1] = (float)(version & FLOAT_EXACT);
}

void truth_code(uint32_t number, uint32_t version, uint32_t n, uint8_t *ret_code)
{
    uint64_t base = mix64(~((uint64_t)number << 32 | version));
    for (uint32_t i = 0; i < n; i++)
        ret_code[i] = (uint8_t)mix64(base + i);
}

struct oracle *oracle_new(void)
{
    return harness_shared(sizeof(struct oracle));
}

void oracle_free(struct oracle *o)
{
    harness_unshare(o, sizeof *o);
}

void oracle_reset(struct oracle *o)
{
    for (uint64_t i = 0; i <= atomic_load(&o->noted_lsn) && i < ORACLE_NOTES_MAX; i++)
        o->notes[i] = (struct oracle_note){0, 0, 0};
    atomic_store(&o->n_begun, 0);
    atomic_store(&o->n_staged, 0);
    atomic_store(&o->acked_ops, 0);
    atomic_store(&o->acked_lsn, 0);
    atomic_store(&o->noted_lsn, 0);
    atomic_store(&o->acks, 0);
    o->error[0] = '\0';
}

void oracle_intend(struct oracle *o, uint32_t number, uint32_t version, uint32_t status)
{
    uint32_t n = atomic_load(&o->n_begun);
    if (n >= ORACLE_OPS_MAX) {
        fprintf(stderr, "oracle: more than %u changes\n", ORACLE_OPS_MAX);
        abort();
    }
    o->ops[n] = (struct oracle_op){number, version, status};
    atomic_store(&o->n_begun, n + 1);
}

void oracle_staged(struct oracle *o)
{
    atomic_store(&o->n_staged, atomic_load(&o->n_begun));
}

void oracle_withdraw(struct oracle *o)
{
    atomic_store(&o->n_begun, atomic_load(&o->n_staged));
}

void oracle_observe(void *ctx, struct store *s, uint64_t lsn)
{
    struct oracle *o = ctx;
    if (lsn >= ORACLE_NOTES_MAX) {
        fprintf(stderr, "oracle: more than %u commits\n", ORACLE_NOTES_MAX);
        abort();
    }
    o->notes[lsn] = (struct oracle_note){store_state_hash(s, true), atomic_load(&o->n_staged), 1};
    atomic_store(&o->noted_lsn, lsn);
}

void oracle_ack(struct oracle *o, uint64_t lsn)
{
    atomic_store(&o->acked_ops, atomic_load(&o->n_staged));
    atomic_store(&o->acked_lsn, lsn);
    atomic_fetch_add(&o->acks, 1);
}

void oracle_replay(const struct oracle *o, uint32_t n_ops, struct oracle_label *ret_labels)
{
    (void)memset(ret_labels, 0, ORACLE_LABELS_MAX * sizeof *ret_labels);
    for (uint32_t i = 0; i < n_ops; i++) {
        const struct oracle_op *op = &o->ops[i];
        ret_labels[op->number] = (struct oracle_label){op->version, op->status};
    }
}

static bool no(char *why, size_t n, const char *format, ...) __attribute__((format(printf, 3, 4)));
static bool no(char *why, size_t n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, n, format, args);
    va_end(args);
    return false;
}

static bool check_label(struct store *s, uint32_t number, struct oracle_label want, char *why,
                        size_t n)
{
    uint32_t dim = store_layout(s)->dim;
    float expected[4096], found[4096];
    enum slot_status status = SLOT_FREE;
    uint64_t label = truth_label(number);
    if (store_contains(s, label, &status) != NAVMAP_OK)
        return no(why, n, "E4: contains(label %u): %s", number, navmap_error_detail());
    if ((uint32_t)status != want.status)
        return no(why, n, "E4: label %u version %u: status %d, expected %u", number, want.version,
                  (int)status, want.status);
    navmap_status got = store_get(s, label, found);
    if (want.status != SLOT_LIVE)
        return got == NAVMAP_ENOTFOUND || no(why, n, "E4: get(label %u): %s, expected not found",
                                             number, navmap_strerror(got));
    if (got != NAVMAP_OK)
        return no(why, n, "E4: get(label %u): %s", number, navmap_error_detail());
    truth_vector(number, want.version, dim, expected);
    if (memcmp(expected, found, 4ull * dim) != 0)
        return no(why, n, "E4: label %u: vector of (%g, version %g), expected version %u", number,
                  (double)found[0], (double)(dim > 1 ? found[1] : 0), want.version);
    return true;
}

bool oracle_check(const struct oracle *o, struct store *s, uint64_t lsn, uint64_t acked_lsn,
                  char *why, size_t n)
{
    static _Thread_local struct oracle_label want[ORACLE_LABELS_MAX];
    if (lsn < acked_lsn)
        return no(why, n, "E1: lsn %" PRIu64 " recovered, %" PRIu64 " acknowledged", lsn,
                  acked_lsn);
    if (lsn > atomic_load(&o->noted_lsn) || !o->notes[lsn].noted)
        return no(why, n, "E2: lsn %" PRIu64 " recovered, only %" PRIu64 " was begun", lsn,
                  atomic_load(&o->noted_lsn));
    uint64_t hash = store_state_hash(s, false);
    if (hash != o->notes[lsn].hash)
        return no(why, n, "E3: lsn %" PRIu64 ": state hash %016" PRIx64 ", noted %016" PRIx64, lsn,
                  hash, o->notes[lsn].hash);
    oracle_replay(o, o->notes[lsn].n_ops, want);
    uint64_t present = 0, found = 0;
    uint32_t begun = atomic_load(&o->n_begun), highest = 0;
    for (uint32_t i = 0; i < begun; i++)
        highest = o->ops[i].number > highest ? o->ops[i].number : highest;
    for (uint32_t i = 0; i <= highest; i++) {
        if (!check_label(s, i, want[i], why, n))
            return false;
        present += want[i].status != SLOT_FREE;
    }
    if (store_labels(s, true, 0, NULL, &found) != NAVMAP_OK)
        return no(why, n, "E5: %s", navmap_error_detail());
    if (found != present)
        return no(why, n, "E5: %" PRIu64 " labels in the index, expected %" PRIu64, found, present);
    return true;
}

void oracle_rewind(struct oracle *o, uint64_t lsn)
{
    for (uint64_t i = lsn + 1; i <= atomic_load(&o->noted_lsn) && i < ORACLE_NOTES_MAX; i++)
        o->notes[i].noted = 0;
    atomic_store(&o->noted_lsn, lsn);
    atomic_store(&o->n_begun, o->notes[lsn].n_ops);
    atomic_store(&o->n_staged, o->notes[lsn].n_ops);
    atomic_store(&o->acked_ops, o->notes[lsn].n_ops);
    atomic_store(&o->acked_lsn, lsn);
}

struct findings {
    char *why;
    size_t n;
};

static void keep_first(void *ctx, const struct store_finding *finding)
{
    struct findings *f = ctx;
    if (!finding->warning && f->why[0] == '\0')
        (void)snprintf(f->why, f->n, "verify: %s, slot %u: %s", finding->section, finding->slot,
                       finding->message);
}

bool oracle_verify(const char *path, char *why, size_t n)
{
    struct findings f = {why, n};
    struct store_verify_counts counts = {0};
    why[0] = '\0';
    navmap_status status = store_verify(path, false, keep_first, &f, &counts);
    if (status != NAVMAP_OK)
        return no(why, n, "verify did not run: %s", navmap_error_detail());
    if (counts.damaged > 0 && why[0] == '\0')
        return no(why, n, "verify: %" PRIu64 " damaged, none reported", counts.damaged);
    return counts.damaged == 0;
}
