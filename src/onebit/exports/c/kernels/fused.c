/* a * b + c, rounded once. Where the core has no such instruction, the product is exact in double, and an odd last bit tells the second rounding
   (Boldo and Melquiond, 2008). */
#if defined(__FP_FAST_FMAF)
#define FUSED(a, b, c) __builtin_fmaf((a), (b), (c))
#else
#define FUSED(a, b, c) fused((a), (b), (c))
static float fused(float a, float b, float c) {
    const double product = (double)a * (double)b, addend = (double)c;
    double sum = product + addend;
    const double of_addend = sum - product, kept = sum - of_addend;
    const double lost = (product - kept) + (addend - of_addend);
    if (lost > 0.0 || lost < 0.0) {
        int64_t bits;
        memcpy(&bits, &sum, sizeof bits);
        if ((bits & 1) == 0) bits += (lost > 0.0) == (sum > 0.0) ? 1 : -1;
        memcpy(&sum, &bits, sizeof sum);
    }
    return (float)sum;
}
#endif
