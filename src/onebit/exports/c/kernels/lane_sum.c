/* The sum of the numbers, of their squares around a mean, or of their magnitudes, in the order of 64 sums side by side, as the engine adds. */
static float lane_value(float x, int32_t what, float mean) {
    if (what == 0) return x;
    if (what == 2) return x < 0.0f ? -x : x;
    const float d = x - mean;
    return d * d;
}

static double lane_sum(const float *x, int32_t n, int32_t what, float mean) {
    double all = 0.0;
    for (int32_t first = 0; first < n; first += 4096) {
        const int32_t end = n - first < 4096 ? n : first + 4096;
        float part[64];
        int32_t i = first;
        for (int32_t l = 0; l < 64; ++l) part[l] = 0.0f;
        for (; i + 64 <= end; i += 64) {
            for (int32_t l = 0; l < 64; ++l) part[l] = part[l] + lane_value(x[i + l], what, mean);
        }
        for (; i + 16 <= end; i += 16) {
            for (int32_t l = 0; l < 16; ++l) part[l] = part[l] + lane_value(x[i + l], what, mean);
        }
        for (int32_t l = 0; l < 16; ++l) part[l] = (part[l] + part[16 + l]) + (part[32 + l] + part[48 + l]);
        for (int32_t half = 8; half > 0; half /= 2) {
            for (int32_t l = 0; l < half; ++l) part[l] = part[l] + part[half + l];
        }
        float sum = part[0];
        for (; i < end; ++i) sum = sum + lane_value(x[i], what, mean);
        all = all + (double)sum;
    }
    return all;
}
