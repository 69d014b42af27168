/* needs: window fused */
static void conv_float(const struct window *v, const float *image, int32_t y, int32_t x, const float *w, int32_t outputs, float *sums) {
    const int32_t n = v->of_group, of_group = outputs / v->groups;
    for (int32_t o = 0; o < outputs; ++o) {
        const int32_t channel = o / of_group * n;
        float sum = 0.0f;
        for (int32_t r = 0; r < v->kernel_h; ++r) {
            const int32_t row = y * v->stride_h - v->top + r * v->dilation_h;
            for (int32_t c = 0; c < v->kernel_w; ++c, w += n) {
                const int32_t column = x * v->stride_w - v->left + c * v->dilation_w;
                if (row < 0 || row >= v->height || column < 0 || column >= v->width) continue;
                const float *from = image + (row * v->width + column) * v->channels + channel;
                for (int32_t i = 0; i < n; ++i) sum = FUSED(w[i], from[i], sum);
            }
        }
        sums[o] = sum;
    }
}
