/* How many bits of two rows of words differ, counted in fields of 4 bits, and those in bytes. */
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

/* Eight words by adders of three bits: what is left are words that count 1, 1, 2 and 4. */
static int32_t differing(const uint32_t *a, const uint32_t *b, int32_t words) {
    uint32_t sum = 0;
    for (; words >= 8; words -= 8, a += 8, b += 8) {
        uint32_t x = a[0] ^ b[0], y = a[1] ^ b[1], z = a[2] ^ b[2], half = x ^ y;
        uint32_t one = half ^ z;
        const uint32_t first = (x & y) | (half & z);
        y = a[3] ^ b[3];
        z = a[4] ^ b[4];
        half = one ^ y;
        const uint32_t second = (one & y) | (half & z);
        one = half ^ z;
        y = a[5] ^ b[5];
        z = a[6] ^ b[6];
        half = one ^ y;
        const uint32_t third = (one & y) | (half & z);
        one = half ^ z;
        half = first ^ second;
        const uint32_t two = half ^ third, four = (first & second) | (half & third);
        x = bytes_of(nibbles(one) + nibbles(a[7] ^ b[7]));
        y = bytes_of(nibbles(two) + 2u * nibbles(four));
        sum = ADD_BYTES(sum, x + 2u * y);
    }
    uint32_t part = 0;
    for (; words >= 3; words -= 3, a += 3, b += 3) {
        part += bytes_of(nibbles(a[0] ^ b[0]) + nibbles(a[1] ^ b[1]) + nibbles(a[2] ^ b[2]));
    }
    for (; words > 0; --words) part += bytes_of(nibbles(*a++ ^ *b++));
    return (int32_t)ADD_BYTES(sum, part);
}
