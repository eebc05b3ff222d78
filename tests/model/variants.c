/* variants.c -- the table of broken variants: what each breaks, and schedules known to catch it.
 *
 * A known seed that no longer catches its variant fails the test.  It means that the model or its
 * generator has changed: run `test_model --variant NAME --each 6000`, see that the count is still
 * of the size in README.md, and enter the seeds it prints.
 */
#include "tests/model/variants.h"

#include <stddef.h>
#include <string.h>

const struct variant_info variant_table[VARIANTS] = {
    [PROTOCOL] = {"protocol", "PROTOCOL", "", {0}},
    [READ_TXN_RECOVERY] = {"read-txn", "recovery by a read txn", "O3", {3, 22, 81}},
    [APPLY_NOT_DURABLE] = {"nosync", "apply before durable", "I1", {2, 5, 7}},
    [NO_ENV_SYNC] = {"no-env-sync", "recovery without mdb_env_sync", "O2", {157, 201, 229}},
    [CUT_BEFORE_SYNC] = {"cut-first", "log cut before fdatasync", "K2, K3", {12, 16, 21}},
    [LATE_SAMPLE] = {"late-sample", "L sampled after fdatasync", "K1, K2", {7, 12, 41}},
    [OLDEST_FIRST] = {"oldest-first", "replay oldest first", "O6", {13, 18, 22}},
    [DIRECT_UNSYNCED] = {"no-msync", "direct payload without msync", "8.4, C2", {2, 9, 12}},
    [DIRECT_NO_IMAGE] = {"direct-no-image", "DIRECT not an image of PAYLOAD", "O6", {2, 18, 28}},
    [VSUM_OF_FREE] = {"vsum-free", "vsum of slots FREE again checked", "O6", {84, 155, 264}},
    [REUSE_DEAD] = {"reuse-dead", "DEAD reused, no sweep, no generation", "I3, I5", {3, 5, 13}},
    [REUSE_SAME_COMMIT] = {"reuse-same", "reuse in the commit that frees", "8.2", {2, 3, 9}},
    [FREE_SAME_GEN] = {"same-gen", "FREE without generation bump", "I5", {16, 28, 31}},
    [RERANK_RELOADS] = {"reload", "re-rank reloads the state word", "q5", {93, 98, 124}},
    [RERANK_UNCHECKED] = {"no-recheck", "re-rank without re-check", "q5", {16, 28, 31}},
    [NO_DUP_REMOVAL] = {"no-dedup", "no duplicate removal", "q6", {2, 4, 5}},
    [EARLY_COUNTERS] = {"early-counters", "counters made even before replay", "O6", {75, 176, 241}},
    [ROWS_FIRST] = {"rows-first", "rows before payloads in apply", "P1, P2", {2, 4, 5}},
    [COPY_OUTSIDE_LOCK] = {"copy-outside", "meta.state copied outside env lock", "6", {3, 4, 5}},
};

const char *const symptom_text[SYMPTOMS] = {
    [NO_SYMPTOM] = "none",
    [ACK_LOST] = "acknowledged commit lost",
    [NEVER_APPLIED] = "last commit never applied",
    [FILE_OLDER_THAN_LOG] = "sound index refused: file older than log",
    [LOG_HOLE] = "hole in the log",
    [DIRECT_LOST] = "direct payload lost",
    [SOUND_REFUSED] = "sound index refused: vsum of a FREE slot",
    [ROOT_WRONG] = "ROOT wrong after replay",
    [POISONED] = "sound handle poisoned",
    [STATE_DIFFERS] = "recovered state differs",
    [OLDER_PAYLOAD] = "older payload wins",
    [PAYLOAD_CHANGED] = "published payload changed",
    [LABELS_DIFFER] = "label map differs",
    [WRONG_PAIR] = "wrong pair",
    [FILTER_BYPASSED] = "filter bypassed",
    [UNCOMMITTED_SEEN] = "uncommitted pair seen",
    [STALE_PAIR] = "deleted or updated pair seen",
    [LABEL_TWICE] = "label twice",
    [LABEL_MISSED] = "untouched label missed",
    [LINK_UNPUBLISHED] = "link to an unpublished slot",
    [STUCK] = "schedule did not end",
};

enum variant variant_find(const char *name)
{
    unsigned v = 0;
    while (v < VARIANTS && strcmp(variant_table[v].name, name) != 0)
        v++;
    return (enum variant)v;
}
