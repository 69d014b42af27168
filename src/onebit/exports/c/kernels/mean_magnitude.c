/* needs: lane_sum */
/* The mean of |x|. */
static float mean_magnitude(const float *x, int32_t n) {
    double sum = lane_sum(x, n, 2, 0.0f);
    if (!(sum <= 1.7976931348623157e308)) {
        sum = 0.0;
        for (int32_t i = 0; i < n; ++i) sum += (double)(x[i] < 0.0f ? -x[i] : x[i]);
    }
    return (float)(sum / (double)n);
}
