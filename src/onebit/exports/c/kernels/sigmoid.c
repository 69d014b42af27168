/* needs: exponential */
static float sigmoid_of(float x) {
    const float power = exponential(x < 0.0f ? x : -x);
    return (x < 0.0f ? power : 1.0f) / (1.0f + power);
}
