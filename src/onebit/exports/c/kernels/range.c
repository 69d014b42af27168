/* The largest magnitude of numbers, as the bits of a float, and whether one is below 0. */
struct range {
    uint32_t largest;
    int32_t negative;
};

static void include(struct range *r, const float *x, int32_t n) {
    for (int32_t i = 0; i < n; ++i) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7FFFFFFFu;
        if (bits > r->largest) r->largest = bits;
        if (x[i] < 0.0f) r->negative = 1;
    }
}
