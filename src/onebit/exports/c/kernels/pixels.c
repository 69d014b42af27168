/* Pixels as numbers from 0 to 1. */
static void take_pixels(const uint8_t *from, int32_t n, float *to) {
    for (int32_t i = 0; i < n; ++i) to[i] = (float)from[i] / 255.0f;
}
