/* root.c -- the next root: counters, limit and entry as the writer has them.
 *
 * In a shared index it becomes the file's ROOT with the next commit.  In a private one readers see
 * it at once: store_root_show() copies it to where they look, word by word.
 */
#include <string.h>

#include "storage/handle.h"

void store_root_show(struct store *s)
{
    if (!s->in_memory)
        return;
    const struct disk_root *root = &s->stage.root;
    uint64_t word[sizeof *root / 8];
    memcpy(word, root, sizeof word);
    _Atomic uint64_t *shown = (_Atomic uint64_t *)(void *)(s->view->wbase + LAYOUT_ROOT_OFFSET);
    for (size_t i = 0; i < sizeof word / sizeof *word; i++)
        atomic_store_explicit(&shown[i], word[i], memory_order_release);
}

struct disk_root store_root(struct store *s)
{
    (void)pthread_mutex_lock(&s->item_lock);
    struct disk_root root = s->stage.root;
    (void)pthread_mutex_unlock(&s->item_lock);
    return root;
}

struct disk_root store_root_between(struct store *s)
{
    store_enter(s);
    bool locked = store_lock_shared(s);
    struct disk_root root = store_root(s);
    store_unlock_shared(s, locked);
    return root;
}

void store_entry_lock(struct store *s)
{
    (void)pthread_mutex_lock(&s->entry_lock);
}

void store_entry_unlock(struct store *s)
{
    (void)pthread_mutex_unlock(&s->entry_lock);
}

void store_entry_set(struct store *s, uint32_t slot, uint32_t level)
{
    (void)pthread_mutex_lock(&s->item_lock);
    s->stage.root.entry = ENTRY(level, slot);
    s->stage.root_changed = true;
    store_root_show(s);
    (void)pthread_mutex_unlock(&s->item_lock);
}

void store_apart_set(struct store *s, uint64_t n)
{
    struct disk_root *root = &s->stage.root;
    root->n_apart = (uint32_t)(n < root->n_deleted ? n : root->n_deleted);
    s->stage.root_changed = true;
    store_root_show(s);
}

navmap_status store_curve_set(struct store *s, const struct disk_root *curve)
{
    struct disk_root *root = &s->stage.root;
    TRY(store_check_writable(s));
    root->curve_items = curve->curve_items;
    memcpy(root->curve_ef, curve->curve_ef, sizeof root->curve_ef);
    s->stage.root_changed = true;
    store_root_show(s);
    return NAVMAP_OK;
}

navmap_status store_resize(struct store *s, uint64_t max_elements)
{
    struct disk_root *root = &s->stage.root;
    TRY(store_check_writable(s));
    uint64_t labels = root->n_live + root->n_deleted;
    if (max_elements < labels && (max_elements > 0 || s->bounded))
        return fail(NAVMAP_EINVAL,
                    "Cannot resize, max element is less than the current number of elements: "
                    "max_elements would be %llu, %llu labels are present",
                    (unsigned long long)max_elements, (unsigned long long)labels);
    root->max_elements = max_elements;
    s->stage.root_changed = true;
    store_root_show(s);
    return NAVMAP_OK;
}
