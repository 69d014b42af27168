/* needs: count */
static int32_t differing_within(const uint32_t *a, const uint32_t *b, const uint32_t *mask, int32_t words) {
    uint32_t sum = 0;
    for (int32_t i = 0; i < words; ++i) sum = ADD_BYTES(sum, bytes_of(nibbles((a[i] ^ b[i]) & mask[i])));
    return (int32_t)sum;
}

static int32_t set_in(const uint32_t *a, int32_t words) {
    uint32_t sum = 0;
    for (int32_t i = 0; i < words; ++i) sum = ADD_BYTES(sum, bytes_of(nibbles(a[i])));
    return (int32_t)sum;
}
