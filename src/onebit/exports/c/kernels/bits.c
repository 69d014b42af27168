/* 1 for a number that is not below 0: from 0 to infinity, and -0. Bits beyond n are 0. */
static void store_signs(const float *x, int32_t n, uint8_t *to) {
    for (; n > 0; n -= 8, ++to) {
        uint32_t byte = 0;
        for (int32_t j = 0; j < 8 && j < n; ++j) {
            uint32_t bits;
            memcpy(&bits, x++, sizeof bits);
            if (bits <= 0x7F800000u || bits == 0x80000000u) byte |= 1u << j;
        }
        *to = (uint8_t)byte;
    }
}
