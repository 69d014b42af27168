/* needs: window */
/* Each channel by its own taps, [channel][tap]: products and sums are rounded apart. */
static void depthwise_float(const struct window *v, const float *image, int32_t y, int32_t x, const float *w, float *sums) {
    for (int32_t i = 0; i < v->channels; ++i) {
        float sum = 0.0f;
        for (int32_t r = 0; r < v->kernel_h; ++r) {
            const int32_t row = y * v->stride_h - v->top + r * v->dilation_h;
            for (int32_t c = 0; c < v->kernel_w; ++c, ++w) {
                const int32_t column = x * v->stride_w - v->left + c * v->dilation_w;
                if (row < 0 || row >= v->height || column < 0 || column >= v->width) continue;
                const float product = image[(row * v->width + column) * v->channels + i] * *w;
                sum = sum + product;
            }
        }
        sums[i] = sum;
    }
}
