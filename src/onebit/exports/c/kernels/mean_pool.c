/* The mean of rows, each added after the other in double. */
static void mean_rows(const float *x, int32_t rows, int32_t channels, float *to) {
    for (int32_t c = 0; c < channels; ++c) {
        double sum = 0.0;
        for (int32_t r = 0; r < rows; ++r) sum += (double)x[r * channels + c];
        to[c] = (float)(sum / (double)rows);
    }
}
