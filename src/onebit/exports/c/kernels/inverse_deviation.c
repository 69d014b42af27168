/* 0 where squares do not fit floats: then everything is computed in double. */
static float inverse_deviation(double squares, int32_t n, float eps) {
    const float variance = (float)(squares / (double)n) + eps;
    return variance >= 1e-30f && variance <= 3.402823466e38f ? 1.0f / sqrtf(variance) : 0.0f;
}

/* A root in double, by Newton's steps from that of a float. */
static double root_of(double v) {
    if (!(v > 0.0) || v > 1.7976931348623157e308) return v;
    double scale = 1.0;
    for (; v > 1e30; v *= 0x1p-64) scale *= 0x1p32;
    for (; v < 1e-30; v *= 0x1p64) scale *= 0x1p-32;
    double root = (double)sqrtf((float)v);
    for (int32_t i = 0; i < 3; ++i) root = 0.5 * (root + v / root);
    return root * scale;
}
