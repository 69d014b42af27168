/* e^x to 2 units in the last place (Cephes), times a power of two in two factors. */
static float power_of_two(int32_t exponent) {
    const uint32_t bits = (uint32_t)(exponent + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

static float exponential(float x) {
    const float above = x < -104.0f ? -104.0f : x, bounded = above > 89.0f ? 89.0f : above;
    const float scaled = bounded * 1.44269504088896341f;
    const float sum = scaled + 12582912.0f, n = sum - 12582912.0f;
    const float high = n * 0.693359375f, low = n * -2.12194440e-4f;
    const float r = (bounded - high) - low;
    float p = r * 1.9875691500e-4f;
    p = p + 1.3981999507e-3f;
    p = p * r;
    p = p + 8.3334519073e-3f;
    p = p * r;
    p = p + 4.1665795894e-2f;
    p = p * r;
    p = p + 1.6666665459e-1f;
    p = p * r;
    p = p + 5.0000001201e-1f;
    p = p * r * r;
    p = p + r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    const int32_t whole = (int32_t)(bits - 0x4B400000u), half = whole >> 1;
    return p * power_of_two(half) * power_of_two(whole - half);
}
