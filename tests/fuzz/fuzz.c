/* fuzz.c -- libFuzzer's two doors, for the one target that FUZZ_TARGET names. */
#include <string.h>

#include "tests/fuzz/script.h"
#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t room, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n, size_t room);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    FUZZ_TARGET.run(bytes, n);
    return 0;
}

/* Mostly whole edits; now and then the fuzzer's own ways, which know what was compared. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t room, unsigned seed)
{
    struct rng r = {seed};
    if (rng_one_in(&r, 3))
        return LLVMFuzzerMutate(bytes, n, room);
    for (uint64_t times = 1 + rng_below(&r, 3); times > 0; times--)
        n = fuzz_mutate_script(&r, bytes, n, room);
    return n;
}
