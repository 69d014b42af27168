/* 1 for a number that is not below 0. Bits beyond n are 0. */
static void store_signs(const float *x, int32_t n, uint8_t *to) {
    for (int32_t i = 0; i < n; i += 8, ++to) {
        uint32_t byte = 0;
        for (int32_t j = 0; j < 8 && i + j < n; ++j) byte |= (x[i + j] >= 0.0f ? 1u : 0u) << j;
        *to = (uint8_t)byte;
    }
}
