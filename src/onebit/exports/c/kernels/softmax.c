/* needs: exponential */
static void softmax_row(float *x, int32_t n) {
    float largest = x[0];
    for (int32_t i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
    for (int32_t i = 0; i < n; ++i) x[i] = exponential(x[i] - largest);
    float part[64];
    int32_t i = 0;
    for (int32_t l = 0; l < 64; ++l) part[l] = 0.0f;
    for (; i + 64 <= n; i += 64) {
        for (int32_t l = 0; l < 64; ++l) part[l] = part[l] + x[i + l];
    }
    for (; i + 16 <= n; i += 16) {
        for (int32_t l = 0; l < 16; ++l) part[l] = part[l] + x[i + l];
    }
    for (int32_t l = 0; l < 16; ++l) part[l] = (part[l] + part[16 + l]) + (part[32 + l] + part[48 + l]);
    for (int32_t half = 8; half > 0; half /= 2) {
        for (int32_t l = 0; l < half; ++l) part[l] = part[l] + part[half + l];
    }
    float sum = part[0];
    for (; i < n; ++i) sum = sum + x[i];
    const float share = 1.0f / sum;
    for (i = 0; i < n; ++i) x[i] = x[i] * share;
}
