/* needs: exponential */
static float tanh_of(float x) {
    const float size = x < 0.0f ? -x : x, z = x * x;
    float p = -5.70498872745e-3f * z;
    p = p + 2.06390887954e-2f;
    p = p * z;
    p = p - 5.37397155531e-2f;
    p = p * z;
    p = p + 1.33314422036e-1f;
    p = p * z;
    p = p - 3.33332819422e-1f;
    p = p * z * x;
    const float small = p + x, large = 1.0f - 2.0f / (exponential(2.0f * size) + 1.0f);
    return size < 0.625f ? small : (x < 0.0f ? -large : large);
}
