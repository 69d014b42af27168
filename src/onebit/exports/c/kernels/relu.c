static float relu_of(float x) {
    return x < 0.0f ? 0.0f : x;
}
