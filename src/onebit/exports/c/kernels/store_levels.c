/* needs: levels */
static void store_levels(const float *x, int32_t n, const struct levels *q, uint8_t *to) {
    for (int32_t i = 0; i < n; ++i) to[i] = (uint8_t)level_of(x[i], q);
}
