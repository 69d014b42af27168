/* The larger of two rows; NaN stays NaN. */
static void max_into(float *most, const float *x, int32_t n) {
    for (int32_t i = 0; i < n; ++i) most[i] = x[i] > most[i] || x[i] != x[i] ? x[i] : most[i];
}
