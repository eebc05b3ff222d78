/* payload.c -- direct payloads: written to the data file at once, committed by their checksum.
 *
 * Legal only for a slot whose FREE is committed and applied (I3), in a chunk that is allocated,
 * synced and mapped.  Nobody looks at these bytes until STATE says LIVE with this generation; the
 * commit syncs them before its commit point (C2).
 */
#include "storage/handle.h"
#include "storage/words.h"

void payload_store(struct view *v, uint32_t slot, const struct disk_tag *tag, const void *code_row,
                   const void *vec_row)
{
    const struct layout *l = &v->layout;
    /* FREE of this generation becomes visible before any new byte: a reader that saw one of them
     * finds FREE or a newer generation when it re-checks (pairing "payload" in engine/search.c). */
    atomic_thread_fence(memory_order_release);
    words_store(v, layout_tag_off(l, slot), tag, sizeof *tag);
    STORE_KILL_POINT(PAYLOAD_TAG);
    if (l->code_stride > 0)
        words_store(v, layout_code_off(l, slot), code_row, l->code_stride);
    STORE_KILL_POINT(PAYLOAD_CODE);
    words_store(v, layout_vec_off(l, slot), vec_row, l->vec_stride);
    STORE_KILL_POINT(PAYLOAD_VEC);
}
