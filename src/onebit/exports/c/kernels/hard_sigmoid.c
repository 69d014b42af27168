static float hard_sigmoid_of(float x) {
    const float moved = x + 3.0f, above = moved < 0.0f ? 0.0f : moved;
    return (above > 6.0f ? 6.0f : above) / 6.0f;
}
