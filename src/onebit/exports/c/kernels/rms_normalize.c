/* needs: lane_sum inverse_deviation */
/* Unit mean square, in place. */
static void rms_normalize_row(float *x, int32_t n, float eps) {
    const float factor = inverse_deviation(lane_sum(x, n, 1, 0.0f), n, eps);
    if (factor != 0.0f) {
        for (int32_t i = 0; i < n; ++i) x[i] = x[i] * factor;
        return;
    }
    double squares = 0.0;
    for (int32_t i = 0; i < n; ++i) {
        const double square = (double)x[i] * (double)x[i];
        squares += square;
    }
    const double root = root_of(squares / (double)n + (double)eps);
    const double by = root <= 1.7976931348623157e308 ? 1.0 / root : 0.0 / 0.0;
    for (int32_t i = 0; i < n; ++i) x[i] = (float)((double)x[i] * by);
}
