/* index.c -- making, opening and closing a handle: options in, engine and storage tied together. */
#include "engine/index.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"
#include "storage/half.h"
#include "storage/rewriting.h"

#define DEFAULT_M 16u
#define DEFAULT_EF_CONSTRUCTION 200u
#define DEFAULT_SEED 100u
#define EF_CONSTRUCTION_MAX (1u << 20)
#define FLAT_M 8u /* a row of 64 bytes, the least, and the fewest upper cells with it */

navmap_status index_check(const navmap_index *ix, const char *what)
{
    if (!ix)
        return fail(NAVMAP_EINVAL, "%s: no index (NULL)", what);
    TRY(store_check_process(ix->store));
    return store_check_ground(ix->store);
}

navmap_status index_check_writer(const navmap_index *ix, const char *what)
{
    TRY(index_check(ix, what));
    if (!store_is_writer(ix->store))
        return fail(NAVMAP_EREADONLY, "%s: %s is open for reading; open it with NAVMAP_WRITE", what,
                    store_path(ix->store));
    return NAVMAP_OK;
}

navmap_status index_check_finite(const navmap_index *ix, const char *what, const float *vectors,
                                 uint64_t n)
{
    uint64_t dim = ix->layout->dim;
    if (n > SIZE_MAX / sizeof(float) / dim)
        return fail(NAVMAP_EINVAL, "%s: %llu vectors of %llu dimensions do not fit in memory", what,
                    (unsigned long long)n, (unsigned long long)dim);
    if (n != 0 && !vectors)
        return fail(NAVMAP_EINVAL, "%s: no vectors (NULL)", what);
    uint64_t at = distance_first_unfinite(vectors, n * dim);
    if (at == n * dim)
        return NAVMAP_OK;
    const char *kind = isnan(vectors[at]) ? "NaN" : "infinity";
    return fail(NAVMAP_EINVAL, "%s: row %llu, column %llu is %s; vectors must be finite", what,
                (unsigned long long)(at / dim), (unsigned long long)(at % dim), kind);
}

navmap_status index_check_range(const navmap_index *ix, const char *what, const float *vectors,
                                uint64_t n)
{
    const uint64_t dim = ix->layout->dim;
    if (ix->layout->scalar == LAYOUT_F32 || ix->distance.normalise)
        return NAVMAP_OK;
    for (uint64_t i = 0; i < n * dim; i++)
        if (fabsf(vectors[i]) > HALF_MOST)
            return fail(
                NAVMAP_EINVAL,
                "%s: row %llu, column %llu is %.9g; an index of vectors in f16 holds numbers "
                "from -65504 to 65504",
                what, (unsigned long long)(i / dim), (unsigned long long)(i % dim),
                (double)vectors[i]);
    return NAVMAP_OK;
}

navmap_status index_copy_options(const void *options, size_t size, const char *name,
                                 void *ret_options)
{
    memset(ret_options, 0, size);
    if (!options)
        return NAVMAP_OK;
    uint32_t given;
    memcpy(&given, options, sizeof given);
    if (given < size)
        return fail(NAVMAP_EINVAL, "%s: struct_size is %u, expected %zu", name, given, size);
    for (size_t i = size; i < given; i++)
        if (((const uint8_t *)options)[i] != 0)
            return fail(NAVMAP_EINVAL,
                        "%s: struct_size is %u, of which this library knows %zu; byte %zu is set",
                        name, given, size, i);
    memcpy(ret_options, options, size);
    return NAVMAP_OK;
}

static navmap_status check_options(const struct navmap_options *o)
{
    if (o->dim < 1 || o->dim > LAYOUT_DIM_MAX)
        return fail(NAVMAP_EINVAL, "dim is %u, must be 1 to %u", o->dim, LAYOUT_DIM_MAX);
    if (o->space > NAVMAP_COSINE)
        return fail(NAVMAP_EINVAL, "space is %u, must be 0 (l2), 1 (ip) or 2 (cosine)", o->space);
    if (o->M < LAYOUT_M_MIN || o->M > LAYOUT_M_MAX)
        return fail(NAVMAP_EINVAL, "M is %u, must be %u to %u", o->M, LAYOUT_M_MIN, LAYOUT_M_MAX);
    if (o->ef_construction > EF_CONSTRUCTION_MAX)
        return fail(NAVMAP_EINVAL, "ef_construction is %u, must be at most %u", o->ef_construction,
                    EF_CONSTRUCTION_MAX);
    if (o->durability > NAVMAP_MANUAL)
        return fail(NAVMAP_EINVAL, "durability is %u, must be 0 (full) or 1 (manual)",
                    o->durability);
    if (o->allow_replace_deleted > 1)
        return fail(NAVMAP_EINVAL, "allow_replace_deleted is %u, must be 0 or 1",
                    o->allow_replace_deleted);
    if (o->codes > NAVMAP_CODES_NONE)
        return fail(NAVMAP_EINVAL, "codes is %u, must be 0 (default), 1 (i8) or 2 (none)",
                    o->codes);
    if (o->vectors > NAVMAP_VECTORS_F16)
        return fail(NAVMAP_EINVAL, "vectors is %u, must be 0 (f32) or 1 (f16)", o->vectors);
    if (o->slot_shift != 0 &&
        (o->slot_shift < LAYOUT_SHIFT_MIN || o->slot_shift > LAYOUT_SHIFT_MAX))
        return fail(NAVMAP_EINVAL, "slot_shift is %u, must be 0 or %u to %u", o->slot_shift,
                    LAYOUT_SHIFT_MIN, LAYOUT_SHIFT_MAX);
    return NAVMAP_OK;
}

/* An empty handle first and the store after it: then nothing can fail once a directory was made. */
static navmap_status new_handle(uint32_t durability, navmap_index **ret_index)
{
    static _Atomic uint64_t serials;
    TRY(distance_settle()); /* NAVMAP_SIMD may be wrong */
    navmap_index *ix = calloc(1, sizeof *ix);
    struct crew *crew = crew_new();
    if (!ix || !crew) {
        free(ix);
        crew_free(crew);
        return fail(NAVMAP_ENOMEM, "no memory for a handle");
    }
    ix->durability = durability;
    ix->crew = crew;
    ix->serial = atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed) + 1;
    *ret_index = ix;
    return NAVMAP_OK;
}

/* Takes the store over, also on failure. */
static navmap_status attach_store(navmap_index *ix, struct store *store)
{
    const struct layout *l = store_layout(store);
    ix->store = store;
    ix->layout = l;
    ix->level_scale = 1.0 / log((double)l->M);
    navmap_status status = NAVMAP_OK;
    if (distance_choose(l->space, l->scalar, l->dim, &ix->distance) != 0)
        status = fail(NAVMAP_EVERSION, "%s: distance %u is not known to this version",
                      store_path(store), l->space);
    else if (l->code_scheme != 0 && !codes_known(l->dim, l->code_scheme, l->code_header))
        status = fail(NAVMAP_EVERSION,
                      "%s: code scheme %u with a header of %u bytes is not known to this version",
                      store_path(store), l->code_scheme, l->code_header);
    if (status != NAVMAP_OK && store_close(store) != NAVMAP_OK)
        return status; /* the first failure is the one to tell of */
    return status;
}

/* The end of each way to a handle: `status` and `store` are what making or opening it gave. */
static navmap_status attach(navmap_index *ix, navmap_status status, struct store *const *store,
                            navmap_index **ret_index)
{
    if (status == NAVMAP_OK)
        status = attach_store(ix, *store);
    if (status == NAVMAP_OK) {
        *ret_index = ix;
    } else {
        crew_free(ix->crew);
        free(ix);
    }
    return status;
}

navmap_status index_of_store(struct store *store, navmap_index **ret_index)
{
    navmap_index *ix = NULL;
    navmap_status status = new_handle(NAVMAP_FULL, &ix);
    if (status == NAVMAP_OK)
        return attach(ix, NAVMAP_OK, &store, ret_index);
    if (store_close(store) != NAVMAP_OK)
        return status; /* the first failure is the one to tell of */
    return status;
}

/* The options of a new index with the defaults filled in, and what storage needs of them. */
static navmap_status take_options(const struct navmap_options *options, struct navmap_options *o,
                                  struct layout_params *ret_params)
{
    TRY(index_copy_options(options, sizeof *o, "navmap_options", o));
    o->M = o->M ? o->M : DEFAULT_M;
    o->ef_construction = o->ef_construction ? o->ef_construction : DEFAULT_EF_CONSTRUCTION;
    if (o->ef_construction < o->M)
        o->ef_construction = o->M;
    o->random_seed = o->random_seed ? o->random_seed : DEFAULT_SEED;
    TRY(check_options(o));
    uint32_t flags = o->allow_replace_deleted ? HEADER_ALLOW_REPLACE_DELETED : 0;
    flags |= o->bounded ? HEADER_BOUNDED : 0;
    flags |= o->flat ? HEADER_FLAT : 0;
    const bool coded = o->codes != NAVMAP_CODES_NONE && !o->flat;
    *ret_params =
        (struct layout_params){.dim = o->dim,
                               .space = (uint16_t)o->space,
                               .scalar = o->vectors == NAVMAP_VECTORS_F16 ? LAYOUT_F16 : LAYOUT_F32,
                               .code_scheme = coded ? (uint16_t)codes_scheme(o->dim) : 0,
                               .code_header = coded ? (uint16_t)codes_header(o->dim) : 0,
                               .M = o->flat ? FLAT_M : o->M,
                               .ef_construction = o->ef_construction,
                               .flags = flags,
                               .seed = o->random_seed,
                               .slot_shift = o->slot_shift,
                               .expected_slots = o->max_elements};
    return NAVMAP_OK;
}

navmap_status navmap_create(const char *path, const struct navmap_options *options,
                            navmap_index **ret_index)
{
    if (!path || !options || !ret_index)
        return fail(NAVMAP_EINVAL, "navmap_create: path, options and ret_index are required");
    struct navmap_options o;
    struct layout_params params;
    TRY(take_options(options, &o, &params));
    if (o.bounded || o.flat)
        return fail(NAVMAP_EINVAL, "navmap_create: %s is for navmap_new()",
                    o.bounded ? "bounded" : "flat");
    if (o.overwrite > 1)
        return fail(NAVMAP_EINVAL, "overwrite is %u, must be 0 or 1", o.overwrite);
    struct store_options so = {.durability =
                                   o.durability == NAVMAP_MANUAL ? STORE_MANUAL : STORE_FULL};
    navmap_index *ix = NULL;
    struct store *store;
    TRY(new_handle(o.durability, &ix));
    navmap_status status = store_create(path, &params, o.max_elements, &so, &store);
    if (status == NAVMAP_EEXIST && o.overwrite) {
        status = store_overwrite(path, &params, o.max_elements, &so, &store);
        if (status == NAVMAP_ENOINDEX)
            status =
                fail(NAVMAP_EEXIST, "%s exists, and is no index that could be overwritten", path);
    }
    return attach(ix, status, &store, ret_index);
}

navmap_status navmap_new(const struct navmap_options *options, navmap_index **ret_index)
{
    if (!options || !ret_index)
        return fail(NAVMAP_EINVAL, "navmap_new: options and ret_index are required");
    struct navmap_options o;
    struct layout_params params;
    TRY(take_options(options, &o, &params));
    if (o.overwrite)
        return fail(NAVMAP_EINVAL, "navmap_new: overwrite is for navmap_create()");
    if (o.bounded > 1)
        return fail(NAVMAP_EINVAL, "bounded is %u, must be 0 or 1", o.bounded);
    if (o.flat > 1)
        return fail(NAVMAP_EINVAL, "flat is %u, must be 0 or 1", o.flat);
    navmap_index *ix = NULL;
    struct store *store;
    TRY(new_handle(NAVMAP_FULL, &ix));
    return attach(ix, store_new_private(&params, o.max_elements, o.bounded != 0, &store), &store,
                  ret_index);
}

navmap_status navmap_open(const char *path, enum navmap_mode mode,
                          const struct navmap_open_options *options, navmap_index **ret_index)
{
    if (!path || !ret_index)
        return fail(NAVMAP_EINVAL, "navmap_open: path and ret_index are required");
    if (mode != NAVMAP_READ && mode != NAVMAP_WRITE)
        return fail(NAVMAP_EINVAL, "mode is %d, must be NAVMAP_READ or NAVMAP_WRITE", (int)mode);
    struct navmap_open_options o;
    TRY(index_copy_options(options, sizeof o, "navmap_open_options", &o));
    if (o.durability > NAVMAP_MANUAL)
        return fail(NAVMAP_EINVAL, "durability is %u, must be 0 (full) or 1 (manual)",
                    o.durability);
    if (isnan(o.timeout))
        return fail(NAVMAP_EINVAL, "timeout is NaN");
    struct store_options so = {.durability =
                                   o.durability == NAVMAP_MANUAL ? STORE_MANUAL : STORE_FULL,
                               .timeout_s = o.timeout,
                               .ckpt_bytes = o.checkpoint_bytes};
    navmap_index *ix = NULL;
    struct store *store;
    TRY(new_handle(o.durability, &ix));
    return attach(ix,
                  store_open(path, mode == NAVMAP_WRITE ? STORE_WRITE : STORE_READ, &so, &store),
                  &store, ret_index);
}

navmap_status navmap_close(navmap_index *index)
{
    if (!index)
        return NAVMAP_OK;
    crew_free(index->crew);
    scratch_clear(&index->shelf);
    struct store *store = index->store;
    free(index);
    return store_close(store);
}

/* Working memory is made for rows and codes of one width. */
void index_follow(navmap_index *ix)
{
    scratch_clear(&ix->shelf);
    ix->level_scale = 1.0 / log((double)ix->layout->M);
}

navmap_status index_close_after(navmap_index *ix, navmap_status status)
{
    char why[512]; /* closing must not replace the reason */
    (void)snprintf(why, sizeof why, "%s", navmap_error_detail());
    navmap_status closed = navmap_close(ix);
    return fail(status != NAVMAP_OK ? status : closed, "%s", why);
}

navmap_status navmap_flush(navmap_index *index)
{
    TRY(index_check_writer(index, "navmap_flush"));
    return store_flush(index->store);
}

const char *navmap_version(void)
{
    return NAVMAP_VERSION;
}
