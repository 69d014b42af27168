static void clear(uint8_t *to, int32_t n) {
    for (int32_t i = 0; i < n; ++i) to[i] = 0;
}
