/* needs: exponential */
/* x/2 * (1 + erf(x / sqrt(2))), of Abramowitz and Stegun 7.1.26. */
static float gelu_of(float x) {
    const float z = (x < 0.0f ? -x : x) * 0.70710678118654752f, scaled = 0.3275911f * z;
    const float t = 1.0f / (1.0f + scaled);
    float p = 1.061405429f * t;
    p = p - 1.453152027f;
    p = p * t;
    p = p + 1.421413741f;
    p = p * t;
    p = p - 0.284496736f;
    p = p * t;
    p = p + 0.254829592f;
    p = p * t;
    p = p * exponential(-z * z);
    const float erf = 1.0f - p;
    return 0.5f * x * (1.0f + (x < 0.0f ? -erf : erf));
}
