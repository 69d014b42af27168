/* needs: levels table */
/* A row of floats times bits: sums[o] of all rows of the weight. The bits lie by chunks of 128 inputs: [chunk][row][words]. */
static void dense_row(const float *x, int32_t inputs, const struct levels *q, const uint32_t *w, int32_t rows, int32_t plus_minus, uint32_t *table,
                      int32_t *sums) {
    uint32_t total = 0;
    for (int32_t o = 0; o < rows; ++o) sums[o] = 0;
    for (int32_t first = 0; first < inputs; first += 128) {
        const int32_t here = inputs - first < 128 ? inputs - first : 128, groups = (here + 3) / 4, words = (here + 31) / 32;
        for (int32_t i = 0; i < here; i += 4) {
            uint32_t v[4];
            for (int32_t j = 0; j < 4; ++j) v[j] = i + j < here ? (uint32_t)level_of(x[first + i + j], q) : 0u;
            table_of(v[0], v[1], v[2], v[3], table + 4 * i);
        }
        if (plus_minus) total += total_of(table, groups);
        for (int32_t o = 0; o < rows; ++o, w += words) sums[o] = (int32_t)((uint32_t)sums[o] + look_up(w, groups, table));
    }
    for (int32_t o = 0; o < rows && plus_minus; ++o) sums[o] = (int32_t)(2u * (uint32_t)sums[o] - total);
}
