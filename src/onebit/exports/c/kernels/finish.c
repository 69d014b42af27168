/* Sums to floats: scale * sum + bias, after planes are added up. `bias` has a bit for each output, or is null. */
static void finish_sums(const int32_t *sums, int32_t outputs, const uint8_t *planes, int32_t plane_count, float scale, const uint32_t *bias, float unset,
                        float *row) {
    if (plane_count == 1 && planes[0] == 1 && bias == NULL) {
        for (int32_t o = 0; o < outputs; ++o) row[o] = scale * (float)sums[o];
        return;
    }
    for (int32_t o = 0; o < outputs; ++o) {
        uint32_t sum = 0;
        for (int32_t p = 0; p < plane_count; ++p) sum += (uint32_t)planes[p] * (uint32_t)sums[p * outputs + o];
        float y = scale * (float)(int32_t)sum;
        if (bias != NULL) y = y + ((bias[o >> 5] >> (o & 31) & 1u) != 0u ? 1.0f : unset);
        row[o] = y;
    }
}
