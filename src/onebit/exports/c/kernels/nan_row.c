/* What a layer gives where an input is not finite. */
static void nan_row(float *row, int32_t n) {
    const uint32_t bits = 0x7FC00000u;
    for (int32_t i = 0; i < n; ++i) memcpy(row + i, &bits, sizeof bits);
}
