/* needs: fused */
/* A row of floats times floats, one input after the other. */
static void dense_float(const float *x, int32_t inputs, const float *w, int32_t outputs, float *row) {
    for (int32_t o = 0; o < outputs; ++o, w += inputs) {
        float sum = 0.0f;
        for (int32_t i = 0; i < inputs; ++i) sum = FUSED(w[i], x[i], sum);
        row[o] = sum;
    }
}
