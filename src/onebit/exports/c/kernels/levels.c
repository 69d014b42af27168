/* How floats become whole numbers. `sign` is 0x80 where bytes hold signed numbers. */
struct levels {
    float scale, inverse, low, high;
    uint32_t sign;
    int32_t finite;
};

static void take_levels(struct levels *q, float low, float high, float scale, float inverse, int32_t finite) {
    q->scale = scale;
    q->inverse = inverse;
    q->low = low;
    q->high = high;
    q->sign = low < 0.0f ? 0x80u : 0u;
    q->finite = finite;
}

static int32_t level_of(float x, const struct levels *q) {
    float v = x * q->inverse;
    v = v > q->low ? v : q->low; /* NaN too is low */
    v = v > q->high ? q->high : v;
    /* To the nearest whole number, ties to even. */
    v = v + 12582912.0f;
    return (int32_t)(v - 12582912.0f);
}
