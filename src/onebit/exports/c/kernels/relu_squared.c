static float relu_squared_of(float x) {
    return x < 0.0f ? 0.0f : x * x;
}
