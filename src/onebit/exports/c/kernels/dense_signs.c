/* needs: count bits */
/* A row of signs times bits, counted: [row][words]. With weights of 0 and 1 the sum is half of (that of -1 and 1, and of the signs). */
static void dense_signs(const float *x, int32_t inputs, const uint32_t *w, int32_t rows, int32_t plus_minus, uint32_t *bits, int32_t *sums) {
    const int32_t words = (inputs + 31) / 32;
    bits[words - 1] = 0;
    store_signs(x, inputs, (uint8_t *)bits);
    int32_t ones = 0;
    for (int32_t i = 0; i < inputs && !plus_minus; ++i) ones += (int32_t)(bits[i >> 5] >> (i & 31) & 1u);
    for (int32_t o = 0; o < rows; ++o, w += words) {
        const int32_t sum = inputs - 2 * differing(w, bits, words);
        sums[o] = plus_minus ? sum : (sum + 2 * ones - inputs) / 2;
    }
}
