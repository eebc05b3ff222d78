/* navmap_recall.h -- searches that are told how good they are to be, and not how wide.
 *
 * Ending early.  With navmap_search_options.stop a walk ends when what is left is farther than
 * 1 + stop times the k-th nearest result found, by Euclidean distance (cosine: of vectors of length
 * 1), though the beam is not full: ef can then be wide, and easy queries do not pay for it.  0.05
 * to 0.15, say.  Not for ip; and no notice is taken of it where ef is above 2048.  Beside a filter,
 * or deleted items, the k-th is that of those that pass, and a row that its limit leaves too little
 * is walked again: as many are found as without it.  What is not walked but scanned has no use for
 * it; and which of the two it is, is settled as if the whole beam were walked.
 *
 * A recall in the place of ef.
 * Which ef it takes to find a share of the true nearest depends on the data, the graph and k.
 * navmap_calibrate() measures it on the index's own vectors and keeps the answer in the index;
 * from then on navmap_search_options.target_recall stands for the ef that reached it.
 *
 * It is an average over queries that are like the data: single ones do better or worse, and queries
 * of another kind (a text looking for images, say) mostly worse.  With a filter the beam is widened
 * until it finds as much of what passes, or all of that is scanned.
 */
#ifndef NAVMAP_ENGINE_NAVMAP_RECALL_H
#define NAVMAP_ENGINE_NAVMAP_RECALL_H

#include "engine/navmap.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The recalls .80, .90, .95, .98, .99 and .999, and 1, 10 and 100 results. */
#define NAVMAP_CURVE_RECALLS 6
#define NAVMAP_CURVES 3
#define NAVMAP_RECALL_MAX 0.999 /* more cannot be asked for: navmap_search_exact() has it all */

struct navmap_calibration {
    uint32_t struct_size; /* set by the caller */
    uint32_t items;       /* that were live when it was measured; 0 = it never was: the rest is 0 */
    /* The least ef that reached a recall, by number of results first; 0 = none did. */
    uint32_t ef[NAVMAP_CURVES][NAVMAP_CURVE_RECALLS];
};

struct navmap_calibrate_options {
    uint32_t struct_size;
    uint32_t num_threads; /* 0 or 1 = the calling one; more: from the handle's crew */
    uint32_t samples;     /* items that are taken for queries; 0 = 500; fewer if there are not
                                  as many */
    uint32_t reserved;
    navmap_progress *progress; /* NULL = none; on the calling thread, some 20 ms apart, no lock
                                  held; a nonzero return leaves the index as it was */
    void *progress_ctx;
};

/* Measure and keep, in place of what an earlier call found.  Items are taken for queries, each of
 * which must find its neighbours without meeting itself; their true neighbours come from a scan of
 * all vectors.  `options` and `ret_calibration` may be NULL.  Searches and changes go on meanwhile;
 * the latter blur the result.  It is durable as navmap_add() is.
 * Kept by navmap_save(), a bulk load and, with an output, navmap_compact(); in place, that measures
 * anew.  An output with another M, with other codes or refined has none.  Growth makes it
 * optimistic: with twice the items a recall of .95 is lower by some 1.3 points; calibrate again
 * then.
 *   NAVMAP_EINVAL      a flat index, where every search is exact; fewer than two live items
 *   NAVMAP_EREADONLY, NAVMAP_EPOISONED, NAVMAP_ENOMEM, NAVMAP_EINTERRUPTED
 * Cost: samples exact scans, made 32 at a time, and some thousand searches; 350,000 x 100 take
 * seconds.  A sample of 500 leaves a standard error of some 0.4 points at .95 with 10 results, of 1
 * point with 1. */
NAVMAP_API navmap_status
navmap_calibrate(navmap_index *index, const struct navmap_calibrate_options *options,
                 struct navmap_calibration *ret_calibration) NAVMAP_MUST_USE;

/* What was measured last. */
NAVMAP_API navmap_status navmap_get_calibration(
    navmap_index *index, struct navmap_calibration *ret_calibration) NAVMAP_MUST_USE;

/* The ef with which a search for k results reaches `recall`, which is above 0 and at most
 * NAVMAP_RECALL_MAX, between what was measured: what target_recall stands for.  k in a flat index.
 *   NAVMAP_EINVAL  `recall` is out of range; there was no navmap_calibrate(), or no ef that it
 *                  tried reached as much */
NAVMAP_API navmap_status navmap_ef_for_recall(navmap_index *index, uint64_t k, double recall,
                                              uint32_t *ret_ef) NAVMAP_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
