/* How many bits of two rows of words differ, where `mask` is set if there is one. Three words at a time, counted in fields of 4 bits. */
#if defined(__ARM_FEATURE_DSP)
#define ADD_BYTES(sum, v) ((sum) + __usada8((v), 0u, 0u))
#else
#define ADD_BYTES(sum, v) ((sum) + ((((v) & 0x00FF00FFu) + ((v) >> 8 & 0x00FF00FFu)) * 0x00010001u >> 16))
#endif

static uint32_t nibbles(uint32_t v) {
    v -= v >> 1 & 0x55555555u;
    return (v & 0x33333333u) + (v >> 2 & 0x33333333u);
}

static uint32_t bytes_of(uint32_t v) {
    return (v & 0x0F0F0F0Fu) + (v >> 4 & 0x0F0F0F0Fu);
}

static int32_t differing(const uint32_t *a, const uint32_t *b, int32_t words) {
    uint32_t sum = 0;
    while (words >= 3) {
        /* A byte takes up to 24 of three words: ten times at most. */
        uint32_t part = 0;
        for (int32_t i = 0; i < 10 && words >= 3; ++i, words -= 3, a += 3, b += 3) {
            part += bytes_of(nibbles(a[0] ^ b[0]) + nibbles(a[1] ^ b[1]) + nibbles(a[2] ^ b[2]));
        }
        sum = ADD_BYTES(sum, part);
    }
    if (words > 0) {
        uint32_t part = nibbles(a[0] ^ b[0]);
        if (words > 1) part += nibbles(a[1] ^ b[1]);
        sum = ADD_BYTES(sum, bytes_of(part));
    }
    return (int32_t)sum;
}
