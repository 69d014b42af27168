/* needs: lane_sum inverse_deviation */
/* Zero mean and unit deviation, in place. */
static void normalize_row(float *x, int32_t n, float eps) {
    const float mean = (float)(lane_sum(x, n, 0, 0.0f) / (double)n);
    const float factor = inverse_deviation(lane_sum(x, n, 1, mean), n, eps);
    if (factor != 0.0f) {
        for (int32_t i = 0; i < n; ++i) x[i] = (x[i] - mean) * factor;
        return;
    }
    double sum = 0.0, squares = 0.0;
    for (int32_t i = 0; i < n; ++i) sum += (double)x[i];
    const double precise = sum / (double)n;
    for (int32_t i = 0; i < n; ++i) {
        const double d = (double)x[i] - precise, square = d * d;
        squares += square;
    }
    const double by = 1.0 / root_of(squares / (double)n + (double)eps);
    for (int32_t i = 0; i < n; ++i) x[i] = (float)(((double)x[i] - precise) * by);
}
