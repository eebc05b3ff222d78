/* test_engine_check_damage.c -- each kind of damage that navmap_check looks for, planted under an
 * open handle: it is found, named, and nothing else is.
 */
#include <fcntl.h>

#include "engine/index.h"
#include "tests/unit/checked.h"

static navmap_index *hurt; /* and how its bytes were */
static struct view *hurt_view;
static struct {
    uint64_t offset;
    uint32_t word;
} former[512];
static uint32_t n_former;
static char said[320]; /* by the first finding of the last expect() */

static void store_word(uint64_t offset, uint32_t word)
{
    if (hurt_view->fd < 0) {
        memcpy(hurt_view->wbase + offset, &word, sizeof word);
        return;
    }
    char path[160];
    (void)snprintf(path, sizeof path, "%s/data-00000001.navmap", test_path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &word, sizeof word, (off_t)offset), sizeof word);
    assert_int_equal(close(fd), 0);
}

static uint32_t load_word(uint64_t offset)
{
    uint32_t word;
    memcpy(&word, hurt_view->base + offset, sizeof word);
    return word;
}

static void poke(uint64_t offset, uint32_t word)
{
    assert_true(n_former < sizeof former / sizeof *former);
    former[n_former].offset = offset;
    former[n_former++].word = load_word(offset);
    store_word(offset, word);
}

static void heal(void)
{
    while (n_former > 0) {
        n_former--;
        store_word(former[n_former].offset, former[n_former].word);
    }
}

static const struct layout *lay(void)
{
    return &hurt_view->layout;
}
static uint64_t row_at(uint32_t slot, uint32_t i)
{
    return layout_row_off(lay(), slot) + 4 * i;
}
static uint64_t up_at(uint32_t slot)
{
    return layout_tag_off(lay(), slot) + offsetof(struct disk_tag, up);
}
static uint64_t upper_at(uint32_t slot, uint32_t i)
{
    return layout_upper_off(lay(), TAG_CELL(view_tag_up(hurt_view, slot))) + 4 * i;
}
static uint64_t root_at(size_t field)
{
    return LAYOUT_ROOT_OFFSET + field;
}

/* The n-th slot (from 0) of a status and exactly that level, with two links at least. */
static uint32_t pick(enum slot_status status, uint32_t level, uint32_t n)
{
    uint32_t nslots =
        extent_slots(view_load64(&view_root(hurt_view)->extent, memory_order_relaxed));
    uint32_t entry = (uint32_t)view_load64(&view_root(hurt_view)->entry, memory_order_relaxed);
    for (uint32_t slot = 1; slot < nslots; slot++) {
        uint32_t word = *view_state(hurt_view, slot);
        if (STATE_STATUS(word) == status && word != 0 && slot != entry &&
            TAG_LEVEL(view_tag_up(hurt_view, slot)) == level &&
            (status == SLOT_FREE || load_word(row_at(slot, 1)) != 0) && n-- == 0)
            return slot;
    }
    fail_msg("no slot of status %d and level %u", (int)status, level);
    return 0;
}

/* After planting: damage is named so, and `least` findings of damage at least, `most` at most. */
static void expect(const char *section, uint32_t slot, uint64_t offset, uint32_t least,
                   uint32_t most)
{
    bool found = false;
    if (hurt_view->fd < 0)
        offset = UINT64_MAX;
    check(hurt);
    for (uint32_t i = 0; i < got.n && i < FINDINGS_MAX; i++)
        found |= !got.finding[i].warning && strcmp(got.finding[i].section, section) == 0 &&
                 got.finding[i].slot == slot && got.finding[i].offset == offset;
    if (!found || got.result.damaged < least || got.result.damaged > most) {
        print_findings();
        fail_msg("expected damage: %s, slot %u, offset %lld, %u to %u findings", section, slot,
                 (long long)offset, least, most);
    }
    (void)snprintf(said, sizeof said, "%s", got.finding[0].message);
    heal();
    check(hurt);
    expect_no_damage(NULL);
}

static void plant_rows(void)
{
    uint32_t slot = pick(SLOT_LIVE, 0, 5), nslots = stats_of(hurt).nslots;
    poke(row_at(slot, 0), nslots);
    expect("row", slot, row_at(slot, 0), 1, 1);
    poke(row_at(slot, 1), UINT32_MAX);
    expect("row", slot, row_at(slot, 1), 1, 1);
    poke(row_at(slot, 1), slot);
    expect("row", slot, row_at(slot, 1), 1, 1);
    poke(row_at(slot, 1), load_word(row_at(slot, 0)));
    expect("row", slot, row_at(slot, 1), 1, 1);
    poke(row_at(slot, 0), 0);
    expect("row", slot, row_at(slot, 1), 1, 1);
    poke(row_at(slot, 1), pick(SLOT_FREE, 0, 0));
    expect("row", slot, row_at(slot, 1), 1, 1);
    /* What a link may name in a DEAD slot's row is not known (K3), but for the bounds. */
    slot = pick(SLOT_DEAD, 0, 0);
    poke(row_at(slot, 1), pick(SLOT_FREE, 0, 0));
    check(hurt);
    expect_no_damage(NULL);
    heal();
    poke(row_at(slot, 1), nslots + 7);
    expect("row", slot, row_at(slot, 1), 1, 1);
}

static void plant_uppers(void)
{
    uint32_t slot = pick(SLOT_LIVE, 1, 0), low = pick(SLOT_LIVE, 0, 0);
    uint32_t other = pick(SLOT_LIVE, 1, 1);
    poke(upper_at(slot, 0), low);
    expect("upper", slot, upper_at(slot, 0), 1, 1);
    poke(upper_at(slot, 0), slot);
    expect("upper", slot, upper_at(slot, 0), 1, 1);
    poke(up_at(slot), TAG_UP(view_cells(hurt_view), 1));
    expect("upper", slot, up_at(slot), 1, 1);
    poke(up_at(low), TAG_UP(3, 0));
    expect("upper", low, up_at(low), 1, 1);
    poke(up_at(slot), TAG_UP(3, 0)); /* nobody is blamed for linking to it above */
    expect("upper", slot, up_at(slot), 1, 1);
    poke(up_at(other), view_tag_up(hurt_view, slot));
    expect("upper", other, up_at(other), 1, 1);
    poke(up_at(slot), TAG_UP(lay()->uppers_per_chunk - 1, 3));
    expect("upper", slot, up_at(slot), 1, 4);
    /* Too low for those that link to it above. */
    poke(up_at(slot), 0);
    check(hurt);
    assert_true(got.result.dangling > 0);
    assert_string_equal(got.finding[0].section, "upper");
    heal();
}

static void plant_states(void)
{
    uint32_t slot = pick(SLOT_LIVE, 0, 3), word = *view_state(hurt_view, slot);
    uint64_t at = layout_state_off(lay(), slot);
    poke(at, STATE_WORD(STATE_GEN(word) + 1, SLOT_LIVE));
    expect("state", slot, at, 2, 2); /* and its label's entry is of another generation */
    poke(layout_state_off(lay(), 0), STATE_WORD(0, SLOT_LIVE));
    expect("state", 0, layout_state_off(lay(), 0), 1, 1);
    poke(at, STATE_WORD(STATE_GEN(word), SLOT_DELETED));
    expect("root", 0, root_at(offsetof(struct disk_root, n_live)), 1, 1);
    /* FREE: the counters, and everybody who links to it. */
    poke(at, STATE_WORD(STATE_GEN(word) + 1, SLOT_FREE));
    check(hurt);
    assert_true(got.result.dangling > 0);
    assert_true(got.result.damaged > got.result.dangling / 2);
    heal();
    slot = pick(SLOT_DEAD, 0, 1);
    poke(layout_state_off(lay(), slot), STATE_WORD(STATE_GEN(*view_state(hurt_view, slot)), 1));
    check(hurt);
    assert_true(got.result.damaged == 2); /* the counters, and the label leads elsewhere */
    heal();
}

static void plant_roots(void)
{
    const size_t entry = offsetof(struct disk_root, entry),
                 n_free = offsetof(struct disk_root, n_free);
    const size_t extent = offsetof(struct disk_root, extent);
    const size_t cells = offsetof(struct disk_root, nuppers);
    uint32_t free_slot = pick(SLOT_FREE, 0, 0), level = load_word(root_at(entry) + 4);
    uint32_t slot = load_word(root_at(entry));
    poke(root_at(entry), stats_of(hurt).nslots);
    expect("root", stats_of(hurt).nslots, root_at(entry), 1, 1);
    poke(root_at(entry), view_slots(hurt_view) + 5);
    expect("root", view_slots(hurt_view) + 5, root_at(entry), 1, 1);
    poke(root_at(entry), free_slot);
    poke(root_at(entry) + 4, 0);
    expect("root", free_slot, root_at(entry), 1, 1);
    poke(root_at(entry) + 4, level + 1);
    expect("root", slot, root_at(entry), 1, 1);
    poke(root_at(entry) + 4, level - 1);
    expect("root", slot, root_at(entry), 1, 1);
    poke(root_at(entry), 0);
    poke(root_at(entry) + 4, 0);
    expect("root", 0, root_at(entry), 1, 1);
    poke(root_at(n_free), load_word(root_at(n_free)) + 1);
    expect("root", 0, root_at(n_free), 1, 1);
    poke(root_at(extent), 0);
    expect("root", 0, root_at(extent), 1, 2);
    poke(root_at(cells), view_cells(hurt_view) + 1);
    expect("root", 0, root_at(cells), 1, 1);
}

static void plant_labels(void)
{
    uint32_t slot = pick(SLOT_LIVE, 0, 8), other = pick(SLOT_DELETED, 0, 2);
    uint64_t at = layout_tag_off(lay(), slot), lsn = root_at(offsetof(struct disk_root, lsn));
    poke(at, 77); /* nobody's */
    expect("labels", slot, at, 1, 1);
    assert_non_null(strstr(said, "not known"));
    poke(at, (uint32_t)view_tag_label(hurt_view, other));
    expect("labels", slot, at, 1, 1);
    assert_non_null(strstr(said, "found slot"));
    /* More labels than items: as if a commit had forgotten to take one away. */
    poke(root_at(offsetof(struct disk_root, n_deleted)), (uint32_t)stats_of(hurt).n_deleted - 1);
    expect("labels", 0, UINT64_MAX, 2, 2);
    if (hurt_view->fd < 0)
        return;
    /* Where the table is a commit ahead of the file, nothing follows from a difference. */
    poke(at, 77);
    poke(lsn, load_word(lsn) - 1);
    check(hurt);
    expect_no_damage("live");
    assert_int_equal(got.result.warnings,
                     1 + (got.result.no_in_links > 0) + (got.result.reachable < got.result.live));
    heal();
}

/* A row that is emptied, and every row that names its slot thinned: warnings, not damage. */
static void plant_islands(void)
{
    uint32_t slot = pick(SLOT_LIVE, 0, 11), nslots = stats_of(hurt).nslots;
    check(hurt);
    uint64_t unnamed = got.result.no_in_links, missing = got.result.live - got.result.reachable;
    for (uint32_t from = 1; from < nslots; from++)
        for (uint32_t i = 0; i < lay()->M0; i++) {
            if (load_word(row_at(from, i)) != slot)
                continue;
            uint32_t last = i;
            while (last + 1 < lay()->M0 && load_word(row_at(from, last + 1)) != 0)
                last++;
            uint32_t moved = load_word(row_at(from, last));
            poke(row_at(from, i), moved);
            poke(row_at(from, last), 0);
        }
    check(hurt);
    expect_no_damage(NULL);
    assert_int_equal(got.result.no_in_links, unnamed + 1);
    assert_true(got.result.live - got.result.reachable > missing);
    assert_true(got.result.warnings == 2);
    heal();
}

static void run_damage(enum kind kind)
{
    static void (*const plants[])(void) = {plant_rows,  plant_uppers, plant_states,
                                           plant_roots, plant_labels, plant_islands};
    hurt = make_used(kind);
    assert_ok(store_view_begin(hurt->store, &hurt_view));
    for (size_t i = 0; i < sizeof plants / sizeof *plants; i++)
        plants[i]();
    store_view_end(hurt->store, hurt_view);
    assert_ok(navmap_close(hurt));
}

EACH(damage)

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_damage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
